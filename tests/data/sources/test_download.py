from collections.abc import Callable
import errno
import http.server
from pathlib import Path
import threading
import time

import pytest

from tiger_jax.data.sources import download
from tiger_jax.errors import DataError

CONTENT = b'0123456789' * 1000


class Server(http.server.ThreadingHTTPServer):
  """Answers each request with the next of `answers`; repeats the last one."""

  def __init__(self, answers: list[Callable]):
    super().__init__(('127.0.0.1', 0), Handler)
    self.answers = answers
    self.requests = 0
    self.release = threading.Event()

  def handle_error(self, *args):
    pass


class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *args):
    pass

  def do_GET(self):  # noqa: N802
    answers = self.server.answers
    self.server.requests += 1
    (answers.pop(0) if len(answers) > 1 else answers[0])(self)


def whole(handler):
  handler.send_response(200)
  handler.send_header('Content-Length', str(len(CONTENT)))
  handler.end_headers()
  handler.wfile.write(CONTENT)


def half(handler):
  handler.send_response(200)
  handler.send_header('Content-Length', str(len(CONTENT)))
  handler.end_headers()
  handler.wfile.write(CONTENT[:5000])


def stalled(handler):
  half(handler)
  handler.wfile.flush()
  handler.server.release.wait(20)


def silent(handler):
  handler.server.release.wait(20)


def status(code):
  return lambda handler: handler.send_error(code)


def page(handler):
  handler.wfile.write(b'no HTTP at all\n')


@pytest.fixture
def serve():
  servers = []

  def start(*answers):
    server = Server(list(answers))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    servers.append(server)
    return server, f'http://127.0.0.1:{server.server_port}/data.gz'

  yield start
  for server in servers:
    server.release.set()
    server.shutdown()
    server.server_close()


def get(url, folder):
  return download.get(url, folder, patience=0.3, waits=(0.01, 0.01))


def refusal(url, folder):
  start = time.monotonic()
  with pytest.raises(DataError) as caught:
    get(url, folder)
  assert time.monotonic() - start < 10
  message = str(caught.value)
  assert '\n' not in message
  assert message.startswith(f'cannot download {url} (')
  assert 'config.dataset.source_dir' in message
  assert list(folder.iterdir()) == []
  return message


def test_a_file_is_downloaded_once(serve, tmp_path):
  server, url = serve(whole)
  path = get(url, tmp_path / 'new')
  assert path == tmp_path / 'new' / 'data.gz'
  assert path.read_bytes() == CONTENT
  assert get(url, tmp_path / 'new') == path
  assert server.requests == 1
  assert [x.name for x in path.parent.iterdir()] == ['data.gz']


@pytest.mark.parametrize('failure', [half, stalled, silent, status(503), page])
def test_temporary_failures_are_retried(serve, tmp_path, failure):
  server, url = serve(failure, failure, whole)
  assert get(url, tmp_path).read_bytes() == CONTENT
  assert server.requests == 3


@pytest.mark.parametrize(
  ('answer', 'reason'),
  [
    (half, 'ended after 5000 of 10000 bytes'),
    (stalled, 'no data for 0 seconds'),
    (silent, 'timed out'),
    (status(503), 'HTTP 503'),
  ],
)
def test_the_last_failure_raises_a_one_line_error(
  serve, tmp_path, answer, reason
):
  server, url = serve(answer)
  assert reason in refusal(url, tmp_path)
  assert server.requests == 3


def test_a_missing_file_is_not_retried(serve, tmp_path):
  server, url = serve(status(404))
  assert 'HTTP 404' in refusal(url, tmp_path)
  assert server.requests == 1


def test_an_unreachable_server_raises_a_one_line_error(tmp_path):
  assert 'refused' in refusal('http://127.0.0.1:9/data.gz', tmp_path)


def test_the_error_for_a_full_disk_names_the_file(serve, tmp_path, monkeypatch):
  _, url = serve(whole)
  real_open = Path.open

  def open_full(path, mode):
    real_open(path, mode).close()
    return real_open(Path('/dev/full'), mode)

  monkeypatch.setattr(Path, 'open', open_full)
  with pytest.raises(OSError) as caught:
    get(url, tmp_path)
  assert caught.value.errno == errno.ENOSPC
  assert caught.value.filename == str(tmp_path / 'data.gz')
  assert list(tmp_path.iterdir()) == []
