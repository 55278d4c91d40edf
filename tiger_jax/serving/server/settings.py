"""The settings and the limits of the server."""

import dataclasses
import ipaddress

from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings of the server. The defaults are those of the flags.

  Attributes:
    host: The address of the public port.
    port: The public port; 0 for any free port.
    admin_port: The port of the admin endpoints on 127.0.0.1; 0 for any free
      port.
    token: The bearer token of the public port; None if no token is needed.
    admin_token: The bearer token of the admin port; None disables the port.
    demo: Whether clients may add items through the public port, for the page.
    max_queued: The maximum number of histories that wait for a search.
    max_batch: The maximum number of histories in one search and in one request.
    max_k: The maximum number of items for one history.
    max_history: The maximum number of item ids in one history.
    max_items: The maximum number of items that a request asks for: `k` times
      its number of histories.
    max_listed: The maximum number of item ids in `allow` or in `deny`.
    max_in_flight: The maximum number of requests in progress, not counting
      those in the slow lane. The default of 64 is two batches: one in the
      search and one in the queue. While the model or the catalog changes, and
      for `settle_seconds` after a change, the limit is four times as high.
    settle_seconds: The number of seconds after a change in which the higher
      limit still holds, so that waiting requests can be answered.
    max_body: The maximum number of bytes of a request.
    max_admin_body: The maximum number of bytes of an admin request. Parsing
      JSON of this size blocks all other requests for about 50 milliseconds.
    max_changes: The maximum number of changes that wait or run.
    body_seconds: The time that a client has to send the body of a request.
    timeout_ms: The default deadline of a request.
    slow_timeout_ms: The default deadline of a request whose options may compile
      a program or add beams. This is also the largest accepted deadline.
    drain_seconds: The maximum time from a signal to the end of the process.
  """

  host: str = '127.0.0.1'
  port: int = 8000
  admin_port: int = 8001
  token: str | None = None
  admin_token: str | None = None
  demo: bool = False
  max_queued: int = 256
  max_batch: int = 32
  max_k: int = 1000
  max_history: int = 1000
  max_items: int = 4000
  max_listed: int = 1000
  max_in_flight: int = 64
  settle_seconds: float = 1
  max_body: int = 2**18
  max_admin_body: int = 2**21
  max_changes: int = 8
  body_seconds: float = 5
  timeout_ms: int = 1000
  slow_timeout_ms: int = 60_000
  drain_seconds: float = 30

  def __post_init__(self):
    """Refuses wrong ports, and settings that open the server to anyone."""
    for flag, port in (('port', self.port), ('admin_port', self.admin_port)):
      if not 0 <= port < 2**16:
        raise UsageError(f'--{flag} is {port}: choose 0 to {2**16 - 1}')
    if self.admin_token is not None and 0 < self.port == self.admin_port:
      raise UsageError(
        f'--port and --admin_port are both {self.port}: choose different ports'
      )
    if self.token is None and not is_loopback(self.host):
      raise UsageError(
        f'--host is {self.host}, which other machines can reach: set the '
        'environment variable TIGER_JAX_TOKEN or --token_file, or remove --host'
      )
    if self.demo and not is_loopback(self.host):
      raise UsageError(
        f'--serve_demo lets everyone add items, and --host is {self.host}, '
        'which other machines can reach: remove one of the flags'
      )


def is_loopback(host: str) -> bool:
  """Returns whether only this machine can reach an address."""
  if host == 'localhost':
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False
