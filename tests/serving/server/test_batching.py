"""Tests of the queue, without a model and without a network."""

import asyncio
import concurrent.futures
import threading
import time

import pytest

from tiger_jax.serving.server.batching import Lane
from tiger_jax.serving.server.failures import Failure

LONG = 60


class Device:
  """Answers batches, but waits before each until the test allows it."""

  def __init__(self):
    self.batches = []
    self.entered = threading.Semaphore(0)
    self.allowed = threading.Semaphore(0)

  def __call__(self, key, requests):
    self.batches.append((key, requests))
    self.entered.release()
    assert self.allowed.acquire(timeout=LONG)
    if 'fail' in requests:
      raise ValueError('broken')
    return [KeyError(x) if x == 'wrong' else f'{key}:{x}' for x in requests]

  def allow(self, count=1):
    for _ in range(count):
      self.allowed.release()

  async def wait(self):
    """Waits until the next batch has been taken."""
    assert await asyncio.to_thread(self.entered.acquire, timeout=LONG)


@pytest.fixture(name='device')
def _device():
  return Device()


def run(device, scenario, max_queued=10, max_batch=4, **options):
  """Runs a coroutine function with a lane whose device is busy."""

  async def main():
    lane = Lane(device, max_queued, max_batch, **options)

    def ask(request, key='k', size=1, seconds=LONG):
      return asyncio.create_task(lane.ask(key, size, request, seconds))

    first = ask('first', 'busy')
    await device.wait()
    try:
      await scenario(lane, ask)
    finally:
      device.allow(100)
      await first
      await asyncio.to_thread(lane.close, LONG)

  # Playwright leaves a running event loop in the thread of the tests.
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(asyncio.run, main()).result()


def test_what_waits_is_answered_together_in_order(device):
  async def scenario(unused_lane, ask):
    tasks = [ask(f'r{i}') for i in range(3)]
    await asyncio.sleep(0)
    device.allow(2)
    assert await asyncio.gather(*tasks) == ['k:r0', 'k:r1', 'k:r2']
    assert device.batches == [
      ('busy', ['first']), ('k', ['r0', 'r1', 'r2']),
    ]  # fmt: skip

  run(device, scenario)


def test_a_batch_has_one_key_and_a_limited_size(device):
  async def scenario(unused_lane, ask):
    tasks = [
      ask('a', 'x'), ask('b', 'y'), ask('c', 'x', 3), ask('d', 'x'),
      ask('e', 'y', 4),
    ]  # fmt: skip
    await asyncio.sleep(0)
    device.allow(10)
    await asyncio.gather(*tasks)
    assert device.batches[1:] == [
      ('x', ['a', 'c']), ('y', ['b']), ('x', ['d']), ('y', ['e']),
    ]  # fmt: skip

  run(device, scenario)


def test_a_full_queue_refuses_and_loses_nothing(device):
  async def scenario(lane, ask):
    tasks = [ask(f'r{i}', size=2) for i in range(8)]
    await asyncio.sleep(0)
    assert lane.is_full and lane.num_queued == 10
    device.allow(20)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:5] == [f'k:r{i}' for i in range(5)]
    assert [(x.code, x.status) for x in answers[5:]] == 3 * [
      ('queue_full', 429)
    ]
    assert answers[5].response().headers['retry-after'] == '1'
    assert lane.num_queued == 0
    device.allow()
    assert await ask('later') == 'k:later'

  run(device, scenario)


def test_a_deadline_passes_while_the_device_is_busy(device):
  async def scenario(unused_lane, ask):
    start = time.monotonic()
    with pytest.raises(Failure, match='deadline') as error:
      await ask('late', seconds=0.05)
    assert error.value.status == 504
    assert 0.04 < time.monotonic() - start < LONG / 2
    with pytest.raises(Failure, match='deadline'):
      await ask('too late', seconds=0)
    other = ask('in time')
    await asyncio.sleep(0)
    device.allow(2)
    assert await other == 'k:in time'
    # The late requests never reached the device.
    assert [x for _, x in device.batches] == [['first'], ['in time']]

  run(device, scenario)


def test_a_canceled_request_is_dropped(device):
  async def scenario(lane, ask):
    canceled, other = ask('canceled', size=4), ask('other')
    await asyncio.sleep(0)
    canceled.cancel()
    await asyncio.sleep(0)
    assert lane.num_queued == 1
    device.allow(2)
    assert await other == 'k:other'
    assert [x for _, x in device.batches] == [['first'], ['other']]
    assert lane.num_queued == 0

  run(device, scenario)


def test_an_expired_request_frees_its_place(device):
  async def scenario(lane, ask):
    with pytest.raises(Failure, match='deadline'):
      await ask('late', size=10, seconds=0.02)
    assert lane.num_queued == 0
    other = ask('in time', size=10)
    await asyncio.sleep(0)
    device.allow(2)
    assert await other == 'k:in time'

  run(device, scenario)


def test_an_error_reaches_the_requests_of_its_batch_only(device):
  async def scenario(unused_lane, ask):
    tasks = [
      ask('fail', 'x'), ask('same', 'x'), ask('wrong', 'y'), ask('good', 'y'),
    ]  # fmt: skip
    await asyncio.sleep(0)
    device.allow(10)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(x) for x in answers] == [ValueError, ValueError, KeyError, str]

  run(device, scenario)


def test_a_closed_lane_answers_what_waits(device):
  async def scenario(lane, ask):
    waiting = ask('waiting')
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(lane.close, LONG))
    while not lane._is_closed:
      await asyncio.sleep(0.001)
    with pytest.raises(Failure, match='draining') as error:
      await ask('new')
    assert error.value.code == 'draining'
    assert not lane.is_idle
    device.allow(2)
    assert await waiting == 'k:waiting'
    await closing
    assert lane.is_idle

  run(device, scenario)


def test_sizes_and_waiting_times_are_observed(device):
  seen = []

  async def scenario(unused_lane, ask):
    tasks = [ask('a', size=3), ask('b')]
    await asyncio.sleep(0.02)
    device.allow(2)
    await asyncio.gather(*tasks)

  run(device, scenario, on_batch=lambda *x: seen.append(x))
  assert [x[0] for x in seen] == [1, 4]
  assert len(seen[1][1]) == 2 and all(0.01 < x < LONG for x in seen[1][1])
