"""The error responses of the server."""

import json

from starlette.responses import Response

from tiger_jax.errors import one_line

# Maps the code of an error to its HTTP status.
STATUS = {
  'invalid_json': 400,
  'invalid_http': 400,
  'invalid_host': 400,
  'unauthorized': 401,
  'forbidden': 403,
  'not_found': 404,
  'unknown_item': 404,
  'unknown_model': 404,
  'method_not_allowed': 405,
  'slow_client': 408,
  'conflict': 409,
  'too_large': 413,
  'unsupported_media_type': 415,
  'invalid_request': 422,
  'queue_full': 429,
  'internal': 500,
  'draining': 503,
  'deadline': 504,
}
# Responses with these codes close the connection, because the rest of the
# request was not read.
_CLOSING = ('invalid_http', 'slow_client', 'too_large')
_RETRY_SECONDS = '1'


class Failure(Exception):
  """An error that is sent to the client.

  Attributes:
    code: A key of `STATUS`.
    message: One line that says what is wrong and what to do.
  """

  def __init__(self, code: str, message: str):
    """Creates the error."""
    super().__init__(message)
    self.code = code
    self.message = one_line(message)

  @property
  def status(self) -> int:
    """The HTTP status."""
    return STATUS[self.code]

  @property
  def body(self) -> bytes:
    """The JSON of the response."""
    return json.dumps({'code': self.code, 'message': self.message}).encode()

  @property
  def headers(self) -> dict[str, str]:
    """The headers of the response that depend on the code."""
    headers = {}
    if self.code in ('queue_full', 'draining'):
      headers['retry-after'] = _RETRY_SECONDS
    if self.code == 'unauthorized':
      headers['www-authenticate'] = 'Bearer'
    if self.code in _CLOSING:
      headers['connection'] = 'close'
    return headers

  def response(self) -> Response:
    """Returns the HTTP response."""
    return Response(
      self.body, self.status, self.headers, media_type='application/json'
    )
