"""Tests the small shop that other tests of this folder change."""

from tests import typed


def test_the_unchanged_shop_trains_and_recommends(trained):
  done = typed.run(
    '--mode=recommend', f'--workdir={trained}', '--history=A003,A010',
    '--k=3', cwd=trained.parent,
  )  # fmt: skip
  assert done.code == 0, done.err
  assert done.err == ''
  assert len(done.out.splitlines()) == 3
