import pytest

from tiger_jax.checkpoints import retention


@pytest.mark.parametrize(
  ('steps', 'reach', 'expected'),
  [
    ([], 5, []),
    ([2, 4, 6, 8], 0, [4, 6, 8]),
    ([2, 4, 6, 8], 6, [2, 4, 6, 8]),
    ([2, 4, 6, 8, 10], 5, [4, 6, 8, 10]),
    ([2, 4], 5, [2, 4]),
  ],
)
def test_which_checkpoints_are_kept(steps, reach, expected):
  assert retention.latest(steps, reach) == expected
