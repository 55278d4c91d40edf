"""The shop that the tests of this folder change one thing in."""

from tests import typed


def test_the_shop_as_it_is_trains_and_recommends(trained):
  done = typed.run(
    '--mode=recommend', f'--workdir={trained}', '--history=A003,A010',
    '--k=3', cwd=trained.parent,
  )  # fmt: skip
  assert done.code == 0, done.err
  assert done.err == ''
  assert len(done.out.splitlines()) == 3
