"""Tests of the process that sends the requests of the serving benchmark."""

import http.server
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks import serving
from tests.small import ROOT

BODIES = ['{"a": 1}', '{"b": 2}']


@pytest.fixture(name='stub')
def _stub():
  """A server that takes 0.3 s for each request, and answers one at a time."""

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
      body = self.rfile.read(int(self.headers['Content-Length']))
      with lock:
        time.sleep(0.3)
        received.append(body.decode())
        number = len(received)
      answer = json.dumps({'number': number}).encode()
      self.send_response(429 if number == 3 else 200)
      self.send_header('Content-Length', str(len(answer)))
      self.end_headers()
      self.wfile.write(answer)

    def log_message(self, *args):
      del args

  received, lock = [], threading.Lock()

  class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # With the default of 5, some of the 200 connections wait for a second.
    request_queue_size = 256

  server = Server(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  yield server.server_address[1], received
  server.shutdown()
  thread.join()
  server.server_close()


def run(port, rate, connections=0):
  job = {
    'port': port, 'start': time.time() + 0.5, 'seconds': 1.0, 'rate': rate,
    'connections': connections, 'seed': 3, 'bodies': BODIES, 'keep': True,
  }  # fmt: skip
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.open_loop'],
    input=json.dumps(job), capture_output=True, text=True, check=True,
    cwd=ROOT,
  )  # fmt: skip
  return [serving.Sample(*json.loads(x)) for x in done.stdout.splitlines()]


def test_a_slow_server_does_not_slow_down_the_load(stub):
  port, received = stub
  samples = run(port, 10)
  assert 4 <= len(samples) <= 20
  assert received.count(BODIES[0]) == (len(samples) + 1) // 2
  scheduled = np.array([x.scheduled for x in samples])
  assert (np.diff(scheduled) > 0).all() and scheduled[-1] < 1
  assert sorted(x.status for x in samples) == [200] * (len(samples) - 1) + [429]
  numbers = sorted(json.loads(x.answer)['number'] for x in samples)
  assert numbers == list(range(1, len(samples) + 1))
  # All were sent before the server had answered half of them.
  sent, done = (np.array([x[i] for x in samples]) for i in (1, 2))
  assert (sent >= scheduled).all()
  assert sent.max() < np.sort(done)[len(samples) // 2]
  # Latency includes the time that a request waits for the others.
  assert (done - scheduled).max() > 0.2 * len(samples)


def test_a_closed_loop_waits_for_each_response(stub):
  port, _ = stub
  samples = run(port, 0, connections=1)
  assert 2 <= len(samples) <= 5
  for x, y in zip(samples[:-1], samples[1:], strict=True):
    assert y.sent >= x.done


def test_a_row_counts_what_was_not_served():
  samples = [
    serving.Sample(0.0, 0.001, 0.010, 200, ''),
    serving.Sample(0.5, 0.502, 0.530, 200, ''),
    serving.Sample(1.0, 1.001, 1.002, 429, ''),
    serving.Sample(1.5, 1.501, 1.600, 503, ''),
    serving.Sample(1.6, 1.601, -1.0, 0, ''),
  ]
  row = serving.summary(samples, 2.0)
  assert row[:2] == ['2', '1']
  assert row[2] == '20.0'
  assert row[4:7] == ['20.0%', '1', '1']


def test_each_missed_target_is_named():
  targets = serving.Targets()
  for figure, value in (('good', 2), ('large', 2.5), ('missing', np.nan)):
    targets.check(figure, value, 2)
  assert targets.missed == [
    'large: 2.5, the target is 2', 'missing: nan, the target is 2',
  ]  # fmt: skip
