"""Tests the recency bias and the prefix embeddings of TIGER."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.history_bias import Candidates
from tiger_jax.models.prefixes import hash_prefixes
from tiger_jax.models.relative_position import MAX_RECENCY, RecencyBias
from tiger_jax.models.tiger import Tiger

LEVEL_SIZES = (5, 3, 4)
NUM_ITEMS = 10
SIZES = {
  'max_history': 4, 'd_model': 8, 'num_heads': 2, 'head_dim': 3, 'mlp_dim': 12,
  'num_encoder_layers': 1, 'num_decoder_layers': 1, 'num_user_tokens': 3,
}  # fmt: skip
NUM_ROWS = 20
WITH_BOTH = Tiger(
  ModelConfig(**SIZES, recency_bias=True, prefix_embeddings=NUM_ROWS),
  LEVEL_SIZES,
)
WITH_HEADS = WITH_BOTH.clone(
  config=dataclasses.replace(WITH_BOTH.config, prefix_heads=True)
)
IDS = np.random.default_rng(0).permutation(5 * 3 * 4)[:NUM_ITEMS]
CODES = jnp.asarray(np.stack(np.unravel_index(IDS, LEVEL_SIZES), 1), jnp.int32)
HISTORY = np.array([[3, 0, 5, 9], [7, 2, -1, -1], [1, -1, -1, -1]], np.int32)


def _batch(history=HISTORY, user=(0, 1, -1), target=(2, 6, 4)):
  return Batch(*(jnp.asarray(x, jnp.int32) for x in (history, user, target)))


@pytest.fixture(name='params', scope='module')
def _params():
  """Returns parameters with random tables for recency and prefixes."""
  init = jax.jit(WITH_BOTH.init)
  params = init(jax.random.key(0), CODES, _batch())['params']
  rng = np.random.default_rng(1)
  for name, key in (
    ('recency_bias', 'table'),
    ('prefix_embedding', 'embedding'),
  ):
    table = rng.normal(size=params[name][key].shape)
    params[name] = {key: jnp.asarray(table, jnp.float32)}
  return params


@jax.jit
def forward(params, batch):
  """Returns the logits of a model with recency bias and prefix embeddings."""
  return WITH_BOTH.apply({'params': params}, CODES, batch)


def _assert_close(logits, expected, atol=1e-5):
  for x, y in zip(logits, expected, strict=True):
    np.testing.assert_allclose(x, y, atol=atol)


def _differ(logits, other):
  """Returns for each row whether the logits differ at the first level."""
  return (np.abs(np.asarray(logits[0] - other[0])).max(1) > 1e-3).tolist()


def test_the_recency_bias_equals_values_worked_by_hand():
  table = np.arange(64, dtype=np.float32).reshape(32, 2) + 1
  num_later = np.array([[0, 2, 30, 31, 32, 1000, -1, -5]])
  bias = RecencyBias(2).apply({'params': {'table': table}}, num_later)
  assert np.asarray(bias)[0].tolist() == [
    [1, 2], [5, 6], [61, 62], [63, 64], [63, 64], [63, 64], [0, 0], [0, 0],
  ]  # fmt: skip
  assert MAX_RECENCY == 31


def test_a_new_recency_table_changes_nothing(params):
  zero = jnp.zeros_like(params['recency_bias']['table'])
  params_of_zero = {**params, 'recency_bias': {'table': zero}}
  without = Tiger(ModelConfig(**SIZES, prefix_embeddings=NUM_ROWS), LEVEL_SIZES)
  rest = {k: v for k, v in params.items() if k != 'recency_bias'}
  expected = jax.jit(without.apply)({'params': rest}, CODES, _batch())
  _assert_close(forward(params_of_zero, _batch()), expected, atol=1e-6)
  # The random table has an effect, except on a history of one item.
  assert _differ(forward(params, _batch(user=(-1, -1, -1))), expected)[:2] == [
    True,
    True,
  ]


def test_recency_is_counted_from_the_end_of_each_history(params):
  """The bias of recency r affects only histories of more than r items."""
  before = forward(params, _batch(user=(0, 1, 2)))
  for recency, expected in (
    (0, [True, True, True]),
    (1, [True, True, False]),
    (3, [True, False, False]),
    (4, [False, False, False]),
  ):
    table = params['recency_bias']['table'].at[recency].add(3)
    other = {**params, 'recency_bias': {'table': table}}
    after = forward(other, _batch(user=(0, 1, 2)))
    assert _differ(after, before) == expected, recency


def test_user_tokens_get_no_recency_bias(params):
  """A larger bias of all items shifts attention away from the user token."""
  table = params['recency_bias']['table'] + 3
  after = forward({**params, 'recency_bias': {'table': table}}, _batch())
  # The last row has no user token, so all of its biases increase alike.
  assert _differ(after, forward(params, _batch())) == [True, True, False]


@pytest.mark.parametrize('width', [5, 7])
def test_wider_padding_changes_nothing(params, width):
  wide = np.pad(HISTORY, ((0, 0), (0, width - 4)), constant_values=-1)
  _assert_close(forward(params, _batch(wide)), forward(params, _batch()))


def test_the_order_of_items_matters_through_the_recency_bias(params):
  """Without position biases, only the recency bias depends on the order."""
  zero = jnp.zeros_like(params['encoder']['position_bias']['table'])
  encoder = {**params['encoder'], 'position_bias': {'table': zero}}
  params = {**params, 'encoder': encoder}
  swapped = HISTORY.copy()
  swapped[0] = [0, 3, 5, 9]
  before, after = forward(params, _batch()), forward(params, _batch(swapped))
  assert _differ(after, before) == [True, False, False]
  table = jnp.zeros_like(params['recency_bias']['table'])
  params = {**params, 'recency_bias': {'table': table}}
  before, after = forward(params, _batch()), forward(params, _batch(swapped))
  assert _differ(after, before) == [False, False, False]


@pytest.mark.parametrize('model', [WITH_BOTH, WITH_HEADS])
def test_decoding_step_by_step_equals_one_pass(params, model):
  """Each of three requests decodes two items, one per beam."""
  items = np.array([[8, 1], [0, 9], [4, 6]])
  repeated = _batch(HISTORY.repeat(2, 0), [0, 0, 1, 1, -1, -1], items.ravel())
  expected = jax.jit(model.apply)({'params': params}, CODES, repeated)
  bound = model.bind({'params': params})
  encoded = jax.jit(lambda: bound.encode(CODES, _batch()))()
  cache = bound.empty_cache(3)
  step = jax.jit(bound.decode_step, static_argnums=0)
  logits, cache = step(0, None, cache, encoded)
  np.testing.assert_allclose(
    jnp.repeat(logits[:, 0], 2, 0), expected[0], atol=1e-5
  )
  cache = jax.tree.map(lambda x: jnp.repeat(x, 2, 0), cache)
  for level in (1, 2):
    previous = CODES[items][:, :, level - 1]
    # Codes in another order, two of them for each beam.
    codes = jnp.asarray([[[2, 0], [1, 2]]] * 3)
    some, _ = step(level, previous, cache, encoded, Candidates(codes))
    logits, cache = step(level, previous, cache, encoded)
    np.testing.assert_allclose(
      some, jnp.take_along_axis(logits, codes, 2), atol=1e-5
    )
    np.testing.assert_allclose(
      logits.reshape(6, -1), expected[level], atol=1e-5
    )


def test_a_zero_prefix_table_changes_nothing(params):
  zero = jnp.zeros_like(params['prefix_embedding']['embedding'])
  without = Tiger(ModelConfig(**SIZES, recency_bias=True), LEVEL_SIZES)
  rest = {k: v for k, v in params.items() if k != 'prefix_embedding'}
  expected = jax.jit(without.apply)({'params': rest}, CODES, _batch())
  other = {**params, 'prefix_embedding': {'embedding': zero}}
  _assert_close(forward(other, _batch()), expected)
  assert _differ(forward(params, _batch()), expected) == [True] * 3


def _embed_prefixes(params, rng=None, **changes):
  """Returns the embeddings of the prefixes of all items, `[1, items, l, d]`."""
  config = ModelConfig(**SIZES, prefix_embeddings=NUM_ROWS, **changes)
  return np.asarray(
    Tiger(config, LEVEL_SIZES).apply(
      {'params': params},
      CODES[None],
      rng is None,
      method='_embed_prefixes',
      rngs={} if rng is None else {'dropout': rng},
    )
  )


@pytest.mark.parametrize('tied_heads', [False, True])
def test_every_prefix_has_the_row_of_its_hash(params, tied_heads):
  rows = hash_prefixes(CODES, NUM_ROWS)
  expected = params['prefix_embedding']['embedding'][rows]
  expected *= SIZES['d_model'] ** 0.5 if tied_heads else 1
  actual = _embed_prefixes(params, tied_heads=tied_heads)
  np.testing.assert_allclose(actual[0], expected, rtol=1e-6)


def test_dropout_omits_whole_prefixes_and_keeps_their_mean(params):
  exact = _embed_prefixes(params)
  draws = [
    _embed_prefixes(params, jax.random.key(i), prefix_dropout=0.75)
    for i in range(40)
  ]
  is_kept = [(x != 0).any(-1, keepdims=True) for x in draws]
  for draw, kept in zip(draws, is_kept, strict=True):
    np.testing.assert_allclose(draw, np.where(kept, 4 * exact, 0), rtol=1e-5)
  # 40 draws of 30 prefixes; the standard error is .0125.
  assert abs(np.mean(is_kept) - 0.25) < 0.05
  # The three prefixes of an item are drawn independently. The share of items
  # with some prefixes kept and others omitted is 1 - .25**3 - .75**3.
  is_mixed = np.ptp(np.array(is_kept, int), axis=3)
  assert abs(np.mean(is_mixed) - 0.5625) < 0.1
  assert np.ptp(np.mean(is_kept, 0)) > 0


def test_a_prefix_is_the_output_weight_of_its_last_code(params):
  """The row of a prefix changes only the logit of this prefix."""
  # No item of a history begins with the first code of the targets.
  codes = jnp.asarray([[0, 2, 1], [1, 0, 3], [1, 2, 0]], jnp.int32)
  batch = _batch([[0, -1], [0, 0]], user=(-1, -1), target=(1, 2))
  score = jax.jit(WITH_HEADS.apply)
  before = score({'params': params}, codes, batch)
  table = params['prefix_embedding']['embedding']
  row = hash_prefixes(codes, NUM_ROWS)[2, 1]
  assert row not in hash_prefixes(codes, NUM_ROWS)[0]
  deltas = []
  for scale in (1, 2):
    changed = {'embedding': table.at[row].add(scale)}
    after = score(
      {'params': {**params, 'prefix_embedding': changed}}, codes, batch
    )
    deltas.append(
      [np.asarray(y - x) for x, y in zip(before, after, strict=True)]
    )
  once, twice = deltas
  assert np.abs(once[1][:, 2]).min() > 1e-3
  for level in range(3):
    np.testing.assert_allclose(twice[level], 2 * once[level], atol=1e-5)
    once[level] = np.abs(once[level]) > 1e-5
  assert not once[0].any()
  assert once[1].tolist() == [[False, False, True]] * 2


def test_the_first_code_has_no_output_weight_of_a_prefix(params):
  """The logits of the first code are those of a model without prefix heads."""
  with_heads = jax.jit(WITH_HEADS.apply)({'params': params}, CODES, _batch())
  without = forward(params, _batch())
  np.testing.assert_allclose(with_heads[0], without[0], atol=1e-6)
  assert np.abs(with_heads[1] - without[1]).max(1).min() > 1e-3
