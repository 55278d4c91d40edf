"""Tests the transition scores of requests, and the gate of a mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.retrieval.test_mixture import Shop, padded, slow_masses, table_of
from tiger_jax.config import EvaluationConfig
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch, ItemLists
from tiger_jax.retrieval.mixture import Gate, Mixture


def successors(table, histories, lists=None, gate=None, **options):
  batch = Batch(padded(histories), *np.zeros((2, len(histories)), np.int32))
  mixture = jax.device_put(Mixture.of(table, gate or Gate(0.5)))
  codes = jnp.zeros((len(table.num_left) + 5, 2), jnp.int32)
  compute = jax.jit(
    lambda *args: mixture.successors(*args, **options),
    compiler_options={'xla_backend_optimization_level': 0},
  )
  return jax.device_get(compute(batch, codes, lists))


def test_the_scores_of_repeated_successors_are_added(make_case):
  small = Shop(make_case('three levels'))
  result = successors(small.table, small.histories)
  ids = range(len(small.case.codes))
  for request, history in enumerate(small.histories):
    masses, _ = slow_masses(small.walks, history, ids)
    rows, scores = result.rows[request], result.scores[request]
    assert sorted(rows[rows >= 0].tolist()) == sorted(masses)
    assert (scores[rows < 0] == 0).all() and (np.diff(scores) <= 0).all()
    total = scores.sum() or 1
    for row, score in zip(rows.tolist(), scores, strict=True):
      assert score / total == pytest.approx(masses.get(row, 0), rel=1e-5)


def test_only_the_best_items_are_kept():
  # Item 0 is followed by 3 (three times), 2 (twice) and 1 (once).
  # Item 4 is followed by 2 and 1 (twice) and 5 (once).
  walks = (
    [[0, 3]] * 3 + [[0, 2]] * 2 + [[0, 1]] + [[4, 2], [4, 1]] * 2 + [[4, 5]]
  )
  result = successors(table_of(walks, 6), [[0], [4, 0], [0, 4]], max_items=2)
  assert result.rows.tolist() == [[3, 2], [2, 3], [2, 1]]
  np.testing.assert_allclose(
    result.scores,
    [[3 / 7, 2 / 7], [2 / 7 + 1 / 6, 3 / 7], [1 / 3 + 1 / 7, 1 / 3]],
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  ('gate', 'expected'),
  [
    (Gate(0.4), [0.4, 0.4, 0.4, 0.4]),
    (Gate(0.4, 3.0), [0.4 * 3 / 6, 0.4 * 1 / 4, 0.0, 0.0]),
    (Gate(1.0, 1.0), [0.75, 0.5, 0.0, 0.0]),
  ],
)
def test_the_gate_grows_with_the_count_of_the_last_item(gate, expected):
  # Three transitions start at item 0, one at item 1, and none at item 2.
  table = table_of([[0, 1, 0, 2], [0, 2]], 4)
  result = successors(table, [[1, 0], [0, 1], [0, 2], []], gate=gate)
  np.testing.assert_allclose(result.gate, expected, rtol=1e-6)


def test_items_without_a_row_have_no_transitions():
  table = table_of([[0, 1], [1, 2]], 3)
  result = successors(table, [[0, 7], [7]], gate=Gate(0.5, 1.0))
  assert result.rows[:, 0].tolist() == [1, -1]
  assert result.gate.tolist() == [0, 0]
  np.testing.assert_allclose(result.scores[0, 0], 0.5 / 2)


def test_excluded_items_are_marked():
  table = table_of([[0, 1], [0, 2], [0, 3]], 4)
  lists = ItemLists.of([[2], [], [1]], [None, [3, 0], None])
  result = successors(table, [[0]] * 3, lists)
  assert result.rows[:, :3].tolist() == [[1, 2, 3]] * 3
  assert result.permitted[:, :3].tolist() == [
    [True, False, True], [False, False, True], [False, True, True],
  ]  # fmt: skip
  assert not result.permitted[:, 3:].any()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ((-0.1,), r'weight is -0.1: choose from \[0, 1\]'),
    ((1.5,), r'weight is 1.5: choose from \[0, 1\]'),
    ((float('nan'),), 'weight is nan'),
    ((0.5, -1.0), 'kappa is -1.0: it must not be negative'),
  ],
)
def test_an_invalid_gate_is_refused(arguments, message):
  with pytest.raises(UsageError, match=message):
    Gate(*arguments)
  with pytest.raises(UsageError, match=message):
    EvaluationConfig(
      **dict(
        zip(('transition_weight', 'transition_kappa'), arguments, strict=False)
      )
    )


def test_a_gate_has_the_values_of_the_config():
  assert Gate.from_config(EvaluationConfig()) is None
  config = EvaluationConfig(transition_weight=0.5, transition_kappa=3.0)
  assert Gate.from_config(config) == Gate(0.5, 3.0)
