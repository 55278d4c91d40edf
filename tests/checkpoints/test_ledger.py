"""Tests of the ledger, a file with one line per step."""

import hashlib

import numpy as np
import pytest

from tiger_jax.checkpoints.ledger import Ledger
from tiger_jax.errors import CheckpointError
from tiger_jax.interfaces import Batch


def make_stack(seed, num_steps):
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return rng.integers(0, 99, (num_steps, *shape)).astype(np.int32)

  return Batch(draw(4, 3), draw(4), draw(4))


def expected(stack):
  """Returns the digests of the batches."""
  return [
    hashlib.sha256(b''.join(x[i].tobytes() for x in stack)).hexdigest()[:16]
    for i in range(len(stack.user))
  ]


def lines_of(stack, number):
  """Returns the lines of the batches, numbered from `number`."""
  return [f'{x} {i:>12}' for i, x in enumerate(expected(stack), number)]


def test_a_line_has_the_digest_and_the_number_of_a_batch(tmp_path):
  path = tmp_path / 'new' / 'ledger'
  ledger = Ledger(path, 0)
  one, two = make_stack(0, 3), make_stack(1, 1)
  digests = ledger.add(one, 9) + ledger.add(two, 4_000_000_000)
  ledger.close()
  assert digests == expected(one) + expected(two)
  assert len(set(digests)) == 4
  lines = [x.split(' ', 1) for x in path.read_text().splitlines()]
  assert [digest for digest, _ in lines] == digests
  assert [number for _, number in lines] == [
    '           9',
    '          10',
    '          11',
    '  4000000000',
  ]


def test_the_digest_depends_on_every_value():
  stack = make_stack(0, 1)
  (digest,) = Ledger(None, 0).add(stack, 0)
  for array in stack:
    for i in range(array.size):
      array.flat[i] ^= 1
      assert Ledger(None, 0).add(stack, 0) != [digest]
      array.flat[i] ^= 1
  assert Ledger(None, 0).add(stack, 0) == [digest]


def test_the_digest_does_not_depend_on_memory_layout():
  stack = make_stack(0, 2)
  turned = Batch(*(np.asfortranarray(x) for x in stack))
  assert Ledger(None, 0).add(turned, 0) == Ledger(None, 0).add(stack, 0)


@pytest.mark.parametrize('torn', ['', 'abc', '0123456789abcdef            5\n'])
def test_lines_after_the_checkpoint_are_removed(tmp_path, torn):
  path = tmp_path / 'ledger'
  whole = lines_of(make_stack(0, 5), 0)
  path.write_text(''.join(f'{x}\n' for x in whole) + torn)
  ledger = Ledger(path, 3)
  stack = make_stack(1, 1)
  ledger.add(stack, 7)
  ledger.close()
  assert path.read_text().splitlines() == whole[:3] + lines_of(stack, 7)


@pytest.mark.parametrize('torn', ['', 'abc'])
def test_a_ledger_without_numbers_continues_without_them(tmp_path, torn):
  """Earlier versions wrote only digests."""
  path = tmp_path / 'ledger'
  whole = expected(make_stack(0, 5))
  path.write_text(''.join(f'{x}\n' for x in whole) + torn)
  stack = make_stack(1, 2)
  for step in (3, 4):
    ledger = Ledger(path, step)
    ledger.add(stack, 7)
    ledger.close()
  lines = [*whole[:3], expected(stack)[0], *expected(stack)]
  assert path.read_text().splitlines() == lines
  ledger = Ledger(path, 0)
  ledger.add(stack, 7)
  ledger.close()
  assert path.read_text().splitlines() == lines_of(stack, 7)


def test_flushed_lines_are_on_disk(tmp_path):
  """A run flushes the ledger before each save, so a kill loses no lines."""
  ledger = Ledger(tmp_path / 'ledger', 0)
  ledger.add(make_stack(0, 2), 0)
  ledger.flush()
  assert len((tmp_path / 'ledger').read_text().splitlines()) == 2
  ledger.close()


@pytest.mark.parametrize(
  ('line', 'size', 'held'),
  [
    (30, 0, 0), (30, 29, 0), (30, 30, 1), (30, 89, 2), (17, 16, 0), (17, 17, 1),
    (17, 50, 2),
  ],
)  # fmt: skip
def test_missing_lines_are_an_error(tmp_path, line, size, held):
  """A line has 30 bytes with a batch number, and 17 bytes without one."""
  path = tmp_path / 'ledger'
  path.write_bytes(((b'x' * (line - 1) + b'\n') * 3)[:size])
  with pytest.raises(CheckpointError) as error:
    Ledger(path, 3)
  message = str(error.value)
  assert f'ends at step {held}, before step 3' in message
  assert f'remove {tmp_path}' in message
  assert path.stat().st_size == size


def test_without_a_file_only_digests_are_returned():
  ledger = Ledger(None, 9)
  stack = make_stack(0, 2)
  assert ledger.add(stack, 0) == expected(stack)
  ledger.flush()
  ledger.close()
