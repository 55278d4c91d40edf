"""Tests of the explanations of operating system errors."""

import errno
import os

import pytest

from tiger_jax.storage.os_errors import explain

AGAIN = 'run the same command again'


def make(number, path=None):
  return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
  ('number', 'remedy'),
  [
    (errno.ENOSPC, 'free space on the disk'),
    (errno.EDQUOT, 'free space within your quota'),
    (errno.EACCES, 'allow this user to read and write there'),
    (errno.EROFS, 'make the file system writable'),
    (errno.ELOOP, 'replace the link with its target'),
  ],
)
def test_the_remedy_matches_the_cause(number, remedy):
  reason = f'{os.strerror(number)}: /a/b'
  assert explain(make(number, '/a/b')) == (reason, f'{remedy}, and {AGAIN}')
  # TensorStore raises errors of this form.
  error = ValueError(f'UNKNOWN: Error writing [OS error {number}: EX '
                     f'{os.strerror(number)}]\nmore')  # fmt: skip
  reason, advice = explain(error)
  assert '\n' not in reason
  assert advice == f'{remedy}, and {AGAIN}'


def test_the_remedy_matches_the_cause_of_a_chained_error():
  error = ValueError('cannot write')
  error.__cause__ = make(errno.ENOSPC)
  assert explain(error) == (
    'cannot write',
    f'free space on the disk, and {AGAIN}',
  )


@pytest.mark.parametrize(
  'error', [make(errno.EIO), ValueError('x'), KeyError()]
)
def test_an_unknown_cause_has_no_special_remedy(error):
  reason, remedy = explain(error)
  assert reason
  assert remedy == AGAIN


def test_a_reason_is_short():
  assert len(explain(ValueError('x' * 10_000))[0]) < 400
