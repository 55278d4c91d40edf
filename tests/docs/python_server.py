"""Runs `python -m tiger_jax.main` in forks of a process that has imported it.

Starting Python and importing JAX takes seconds; a fork takes milliseconds. The
folder `bin` of a server has a command `python`, which requests a fork. The fork
gets the arguments, the folder and the streams of the command. For any other
program, or if its environment variables of JAX differ from those of the server,
the command starts Python as usual. `python --session` runs blocks of Python
code in one session.
"""

import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import traceback

from tests import typed
from tiger_jax import main

_CLIENT = """#!{python} -IS
import json, os, socket, sys
arguments = sys.argv[1:]
if os.path.basename(sys.argv[0]) == 'tiger-jax':
  arguments = ['-m', 'tiger_jax.main', *arguments]
of_jax = {{k: v for k, v in os.environ.items() if k.startswith(('JAX', 'XLA'))}}
forked = arguments[:2] == ['-m', 'tiger_jax.main'] and of_jax == {of_jax!r}
# A page stops its HTTP server with a signal, which a fork would not get.
forked = forked and '--mode=serve' not in arguments
if not forked and arguments != ['--session']:
  os.execv({python!r}, [{python!r}, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([arguments, os.getcwd()]).encode()
socket.send_fds(server, [request], [0, 1, 2])
sys.exit(int(server.recv(16) or 1))
"""
# Commands that would change this machine, or need a network or a cluster.
_REFUSED = ('gcloud', 'git', 'make', 'pip', 'sbatch', 'sudo', 'wget')
_REFUSAL = """#!/bin/sh
echo "$(basename "$0"): mark this block as not run" >&2
exit 1
"""

# Pages may ask their own HTTP server.
_CURL = """#!/bin/sh
for argument; do
  case "$argument" in
    http://127.0.0.1*) ;;
    *://*) echo 'curl: mark this block as not run' >&2; exit 1 ;;
  esac
done
exec {curl} "$@"
"""


class Server:
  """A process that runs each requested command in a fork.

  Attributes:
    environment: The environment variables for the commands of a page.
    python: The path of the command `python`.
  """

  def __init__(self, folder: Path):
    """Starts the process, which keeps its files in the existing `folder`."""
    address = str(folder / 'server')
    self.environment = typed.environment(folder)
    of_jax = {
      name: value
      for name, value in self.environment.items()
      if name.startswith(('JAX', 'XLA'))
    }
    commands = folder / 'bin'
    commands.mkdir()
    self.python = commands / 'python'
    client = _CLIENT.format(
      python=sys.executable, of_jax=of_jax, address=address
    )
    for name in ('python', 'python3', 'tiger-jax', *_REFUSED):
      path = commands / name
      path.write_text(_REFUSAL if name in _REFUSED else client)
      path.chmod(0o755)
    curl = commands / 'curl'
    curl.write_text(_CURL.format(curl=shutil.which('curl')))
    curl.chmod(0o755)
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'tests.docs.python_server', address],
      env=self.environment,
      cwd=folder,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
    )
    self.environment['PATH'] = f'{commands}:{self.environment["PATH"]}'
    assert self._process.stdout
    assert self._process.stdout.readline() == b'ready\n'

  def stop(self) -> None:
    """Ends the process."""
    self._process.terminate()
    self._process.communicate()


def serve(address: str) -> None:
  """Answers requests until the process is terminated."""
  from tiger_jax import cli  # noqa: F401
  from tiger_jax.data.sources import amazon2014, own_files  # noqa: F401
  from tiger_jax.serving import recommender  # noqa: F401

  listener = socket.socket(socket.AF_UNIX)
  listener.bind(address)
  listener.listen()
  print('ready', flush=True)
  while True:
    client, _ = listener.accept()
    # A session lasts as long as the test of its page, and must not block the
    # requests of other tests.
    if not os.fork():
      listener.close()
      _answer(client)
      os._exit(0)
    client.close()


def _answer(client: socket.socket) -> None:
  """Runs the requested command, and sends its exit code."""
  request, streams, _, _ = socket.recv_fds(client, 2**20, 3)
  child = os.fork()
  if not child:
    arguments, folder = json.loads(request)
    os.chdir(folder)
    for number, stream in enumerate(streams):
      os.dup2(stream, number)
    if arguments == ['--session']:
      os._exit(_exit_code(session))
    sys.argv = ['main.py', *arguments[2:]]
    os._exit(_exit_code(main.run))
  for stream in streams:
    os.close(stream)
  status = os.waitpid(child, 0)[1]
  client.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def session() -> None:
  """Runs blocks from standard input; prints the traceback or '' for each."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  names = {'__name__': '__main__'}
  sys.path.insert(0, '')
  for line in sys.stdin:
    place, text = json.loads(line)
    error = ''
    try:
      exec(compile(text, place, 'exec'), names)
    except BaseException:
      error = traceback.format_exc()
    print(json.dumps(error), file=answers, flush=True)


def _exit_code(program) -> int:
  """Runs a program as Python does, and returns its exit code."""
  code = 0
  try:
    program()
  except SystemExit as error:
    code = error.code if isinstance(error.code, int) else int(bool(error.code))
  except BaseException:
    traceback.print_exc()
    code = 1
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  return code


if __name__ == '__main__':
  serve(sys.argv[1])
