"""Runs the server until it is stopped."""

import asyncio
from collections.abc import Iterator
import contextlib
import functools
import gc
import logging
import os
from pathlib import Path
import signal
import socket
import sys
import threading
import time
from typing import Any

from fastapi import FastAPI
import uvicorn

from tiger_jax.errors import UsageError
from tiger_jax.serving.loading import load
from tiger_jax.serving.server.admin import admin
from tiger_jax.serving.server.app import public, searches
from tiger_jax.serving.server.gate import Gate, log
from tiger_jax.serving.server.metrics import Metrics
from tiger_jax.serving.server.models import Models
from tiger_jax.serving.server.protocol import Protocol
from tiger_jax.serving.server.settings import Settings
from tiger_jax.serving.server.state import State

_ADMIN_HOST = '127.0.0.1'
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The shares of `drain_seconds` for queued requests, and for clients that are
# still reading their responses. The threads get the rest.
_DRAIN_SHARE = 0.8
_CLOSING_SHARE = 0.1
_POLL_SECONDS = 0.02
_SWITCH_SECONDS = 0.0005
# The maximum number of connections that the kernel queues for the server.
_BACKLOG = 2048


class _Server(uvicorn.Server):
  """A uvicorn server that leaves the signals to `serve`."""

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    """Does nothing."""
    yield


def serve(folder: Path, settings: Settings, root: Path | None = None) -> None:
  """Serves a model until SIGTERM or Ctrl-C, and then answers queued requests.

  Args:
    folder: The folder of a run or of a bundle.
    settings: The settings of the server.
    root: The folder of the models that may be loaded later, see `Models`.

  Raises:
    TigerError: The model cannot be loaded, or a port is not free.
  """
  for number in _SIGNALS:
    signal.signal(number, _exit_now)
  # The event loop needs the lock of the interpreter while a search makes its
  # results. By default, it gets the lock only after 5 milliseconds.
  sys.setswitchinterval(_SWITCH_SECONDS)
  # The ports are bound first, because loading the model takes seconds.
  sockets = [bind(settings.host, settings.port)]
  if settings.admin_token is not None:
    sockets.append(bind(_ADMIN_HOST, settings.admin_port))
  print(f'loading {folder}', flush=True)
  path = folder.absolute()
  metrics = Metrics()
  # A full garbage collection traverses all objects that are not frozen. With
  # the objects of the model and of JAX, a collection takes 0.2 to 0.4 s.
  # Collections would delay the start, and would later block all requests.
  gc.disable()
  try:
    models = Models(
      path.name, load(path), root or path.parent, metrics, settings.max_batch
    )
    gc.collect()
    gc.freeze()
  finally:
    gc.enable()
  _log_to_stderr()
  config = uvicorn.Config(_nothing, log_config=None)
  with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
    runner.run(_until_signal(State(settings, models, metrics), sockets))
  # A thread that never ends would keep the process alive.
  print('stopped', flush=True)
  sys.stderr.flush()
  os._exit(0)


def gates(state: State) -> list[Gate]:
  """Returns the applications of the public port and of the admin port."""
  settings = state.settings

  def gate(app: FastAPI, **limits: Any) -> Gate:
    return Gate(
      app,
      state.metrics,
      is_draining=lambda: state.is_draining,
      **limits,
    )

  apps = [
    gate(
      public(state),
      token=settings.token,
      host=settings.host,
      max_body=settings.max_body,
      body_seconds=settings.body_seconds,
      searches=searches(state),
    )
  ]
  if settings.admin_token is not None:
    apps.append(
      gate(
        admin(state),
        token=settings.admin_token,
        host=_ADMIN_HOST,
        max_body=settings.max_admin_body,
        body_seconds=12 * settings.body_seconds,
      )
    )
  return apps


async def _until_signal(state: State, sockets: list[socket.socket]) -> None:
  stopped = asyncio.Event()
  loop = asyncio.get_running_loop()

  def stop() -> None:
    print('stopping', flush=True)
    for number in _SIGNALS:  # A second signal ends the process at once.
      loop.remove_signal_handler(number)
      signal.signal(number, _exit_now)
    # If the event loop is blocked, this timer ends the process.
    timer = threading.Timer(state.settings.drain_seconds, _exit_now)
    timer.daemon = True
    timer.start()
    stopped.set()

  for number in _SIGNALS:
    loop.add_signal_handler(number, stop)
  for name, bound in zip(('', ' (admin)'), sockets, strict=False):
    host, port = bound.getsockname()[:2]
    try:
      bound.listen(_BACKLOG)  # From here on, clients can connect.
    except OSError as error:  # Another process uses the port.
      raise _unusable(host, port, error) from error
    host = f'[{host}]' if ':' in host else host
    print(f'serving at http://{host}:{port}{name}', flush=True)
  await run(state, sockets, stopped)


async def run(
  state: State, sockets: list[socket.socket], stopped: asyncio.Event
) -> None:
  """Serves on the sockets until `stopped` is set, and then drains.

  Args:
    state: The state of the server, which is closed at the end.
    sockets: The bound sockets of the public port and of the admin port.
    stopped: The event that stops the server.
  """
  apps = gates(state)
  budget = state.settings.drain_seconds
  closing: Any = _CLOSING_SHARE * budget
  # Changes have a limit of their own, so the admin port is never full.
  is_full = (state.is_full, lambda unused_num_requests: False)
  protocols: list[Any] = [
    functools.partial(Protocol, metrics=state.metrics, is_full=x)
    for x in is_full
  ]
  servers = [
    _Server(
      uvicorn.Config(
        app,
        http=protocol,
        ws='none',
        proxy_headers=False,
        lifespan='off',
        access_log=False,
        log_config=None,
        server_header=False,
        # The type is an integer, but uvicorn also accepts fractions.
        timeout_graceful_shutdown=closing,
      )
    )
    for app, protocol in zip(apps, protocols, strict=False)
  ]
  tasks = [
    asyncio.create_task(server.serve([bound]))
    for server, bound in zip(servers, sockets, strict=True)
  ]
  warming = asyncio.create_task(state.warm_changes())
  waiter = asyncio.create_task(stopped.wait())
  # A server ends before the event only if it fails.
  await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
  waiter.cancel()
  end = time.monotonic() + budget
  await drain(state, apps, _DRAIN_SHARE * budget)
  for server in servers:
    server.should_exit = True
  await asyncio.gather(*tasks)
  warming.cancel()
  state.close(end - time.monotonic())


async def drain(state: State, apps: list[Gate], seconds: float) -> None:
  """Refuses new requests, and waits until earlier requests are done.

  Args:
    state: The state of the server.
    apps: The applications of its ports.
    seconds: The longest time to wait.
  """
  state.is_draining = state.is_stopping = True
  with contextlib.suppress(TimeoutError):
    async with asyncio.timeout(seconds):
      while not state.is_idle or any(app.num_in_flight for app in apps):
        await asyncio.sleep(_POLL_SECONDS)


def bind(host: str, port: int) -> socket.socket:
  """Returns a socket that is bound to an address.

  Raises:
    UsageError: The port is in use, or the address is not one of this machine.
  """
  try:
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(address[0], socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address[4])
  except (OSError, OverflowError) as error:
    raise _unusable(host, port, error) from error
  return bound


def _unusable(host: str, port: int, error: Exception) -> UsageError:
  reason = getattr(error, 'strerror', None) or error
  return UsageError(
    f'{host} port {port} cannot be used ({reason}): choose another --port or '
    '--admin_port'
  )


def _log_to_stderr() -> None:
  """Writes the log of requests and of failures to standard error."""
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter('%(asctime)s %(message)s'))
  for logger, level in (
    (log, logging.INFO),
    (logging.getLogger('uvicorn.error'), logging.ERROR),
  ):
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


def _exit_now(*unused: Any) -> None:
  os.write(2, b'stopped\n')
  os._exit(0)


async def _nothing(unused_scope: Any, unused_receive: Any, unused_send: Any):
  """Does nothing: the config of this application only makes the event loop."""
