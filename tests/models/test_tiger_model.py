"""Tests which inputs change the logits of TIGER, and which do not."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger, hash_users
from tiger_jax.models.transformer import Decoder, Encoder

LEVEL_SIZES = (5, 3, 4)
CONFIG = ModelConfig(
  max_history=4,
  d_model=8,
  num_heads=2,
  head_dim=3,
  mlp_dim=12,
  num_encoder_layers=2,
  num_decoder_layers=2,
)
WITH_USERS = dataclasses.replace(CONFIG, num_user_tokens=7)
HISTORY = np.array([[3, 0, 5, 9], [7, 2, -1, -1], [1, -1, -1, -1]], np.int32)


@pytest.fixture(scope='module')
def codes():
  ids = np.random.default_rng(0).permutation(math.prod(LEVEL_SIZES))[:10]
  return jnp.asarray(np.stack(np.unravel_index(ids, LEVEL_SIZES), 1), jnp.int32)


def _batch(history=HISTORY, user=(-1, -1, -1), target=(2, 6, 4)):
  return Batch(*(jnp.asarray(x, jnp.int32) for x in (history, user, target)))


def _init(config, codes):
  model = Tiger(config, LEVEL_SIZES)
  params = jax.jit(model.init)(jax.random.key(0), codes, _batch())['params']
  return model, params


@pytest.fixture(scope='module')
def plain(codes):
  """A model without user tokens, its parameters, and its forward pass."""
  model, params = _init(CONFIG, codes)
  return model, params, jax.jit(lambda p, *x: model.apply({'params': p}, *x))


@pytest.fixture(scope='module')
def with_users(codes):
  """Like `plain`, with user tokens."""
  model, params = _init(WITH_USERS, codes)
  return model, params, jax.jit(lambda p, *x: model.apply({'params': p}, *x))


@pytest.fixture(scope='module')
def tied(codes):
  """Like `plain`, with user tokens and tied heads."""
  config = dataclasses.replace(WITH_USERS, tied_heads=True)
  model, params = _init(config, codes)
  return model, params, jax.jit(lambda p, *x: model.apply({'params': p}, *x))


def _assert_close(logits, expected, atol=1e-5):
  for x, y in zip(logits, expected, strict=True):
    np.testing.assert_allclose(x, y, atol=atol)


def _changed_rows(logits, previous):
  """Returns, for each level, which rows of the logits have changed."""
  return [
    np.abs(np.asarray(x) - np.asarray(y)).max(-1) > 1e-4
    for x, y in zip(logits, previous, strict=True)
  ]


def test_every_level_has_a_head_over_its_own_codes(plain, codes):
  _, params, forward = plain
  logits = forward(params, codes, _batch())
  assert [x.shape for x in logits] == [(3, size) for size in LEVEL_SIZES]
  assert [params[f'heads_{i}']['kernel'].shape for i in range(3)] == [
    (CONFIG.d_model, size) for size in LEVEL_SIZES
  ]


def test_every_level_has_its_own_embeddings(plain, codes):
  """The expected logits come from tokens that the test looks up itself."""
  model, params, forward = plain
  table = np.asarray(params['code_embedding']['embedding'])
  assert table.shape == (5 + 3 + 4, CONFIG.d_model)

  def embed(item):
    first, second, third = np.asarray(codes)[item]
    return [table[first], table[5 + second], table[8 + third]]

  history, mask = [], []
  for row in HISTORY:
    history.append([token for item in row for token in embed(item)])
    mask.append([item >= 0 for item in row for _ in LEVEL_SIZES])
  start = np.asarray(params['start'])
  teacher = [[start, *embed(item)[:2]] for item in _batch().target]
  history, teacher = (jnp.asarray(np.array(x)) for x in (history, teacher))
  mask = jnp.asarray(mask)
  sizes = (2, 2, 3, 12, 0.0, jnp.dtype('float32'))

  @jax.jit
  def run_stacks(params):
    encoder, decoder = Encoder(*sizes), Decoder(*sizes)
    encoded = encoder.apply(
      {'params': params['encoder']}, history, mask[:, None], True
    )
    bound = decoder.bind({'params': params['decoder']})
    cross = bound.cross_keys_values(encoded)
    cache = bound.empty_cache(3)
    return bound(teacher, cache, cross, mask[:, None], None, True)[0]

  x = run_stacks(params)
  expected = [x[:, i] @ params[f'heads_{i}']['kernel'] for i in range(3)]
  _assert_close(forward(params, codes, _batch()), expected)


def test_the_logits_of_a_code_depend_only_on_earlier_codes(plain, codes):
  _, params, forward = plain
  before = forward(params, codes, _batch())
  for level in range(3):
    # Change one code of a target item that is in no history.
    target = 4
    assert target not in HISTORY
    other = (codes[target, level] + 1) % LEVEL_SIZES[level]
    after = forward(params, codes.at[target, level].set(other), _batch())
    changed = np.stack(_changed_rows(after, before), 1)
    expected = np.zeros((3, 3), bool)
    expected[2, level + 1 :] = True
    np.testing.assert_array_equal(changed, expected)


def test_wider_padding_changes_nothing(plain, codes):
  model, params, forward = plain
  encode = jax.jit(
    lambda p, b: model.apply({'params': p}, codes, b, method='encode')
  )
  wide = np.pad(HISTORY, ((0, 0), (0, 3)), constant_values=-1)
  narrow = encode(params, _batch())
  wider = encode(params, _batch(wide))
  mask = np.asarray(narrow.mask)
  np.testing.assert_array_equal(wider.mask[:, : mask.shape[1]], mask)
  assert not wider.mask[:, mask.shape[1] :].any()
  for x, y in zip(
    jax.tree.leaves(narrow.cross), jax.tree.leaves(wider.cross), strict=True
  ):
    x, y = np.swapaxes(x, 1, 2), np.swapaxes(y, 1, 2)[:, : mask.shape[1]]
    np.testing.assert_allclose(x[mask], y[mask], atol=1e-5)
  _assert_close(
    forward(params, codes, _batch(wide)), forward(params, codes, _batch())
  )


def test_padding_does_not_read_the_last_item(plain, codes):
  """As an index, padding (-1) selects the last item, which must not matter."""
  _, params, forward = plain
  history = np.where(HISTORY == 9, 8, HISTORY)
  other = codes.at[9].set((codes[9] + 1) % jnp.asarray(LEVEL_SIZES))
  before = forward(params, codes, _batch(history))
  _assert_close(forward(params, other, _batch(history)), before, atol=0)


def test_the_order_of_the_history_matters(plain, codes):
  _, params, forward = plain
  swapped = HISTORY.copy()
  swapped[0] = [0, 3, 5, 9]
  changed = _changed_rows(
    forward(params, codes, _batch(swapped)), forward(params, codes, _batch())
  )
  np.testing.assert_array_equal(
    np.stack(changed, 1)[:, 0], [True, False, False]
  )


def test_rows_are_independent(plain, codes):
  _, params, forward = plain
  together = forward(params, codes, _batch())
  one_by_one = [
    forward(params, codes, jax.tree.map(lambda x, i=i: x[i : i + 1], _batch()))
    for i in range(3)
  ]
  one_by_one = [jnp.concatenate(x) for x in zip(*one_by_one, strict=True)]
  _assert_close(one_by_one, together)


def test_an_empty_history_has_finite_logits(plain, codes):
  _, params, forward = plain
  logits = forward(params, codes, _batch(np.full_like(HISTORY, -1)))
  assert all(np.isfinite(x).all() for x in logits)


def _step(model):
  def step(params, level, previous, cache, encoded):
    return model.apply(
      {'params': params}, level, previous, cache, encoded, method='decode_step'
    )

  return jax.jit(step, static_argnums=1)


def test_tied_heads_equal_the_embeddings(tied, with_users, codes):
  """The logits equal those of a model whose heads copy its embeddings."""
  _, params, forward = tied
  assert not [name for name in params if name.startswith('heads')]
  table = params['code_embedding']['embedding']
  gain = CONFIG.d_model**0.5
  assert abs(float(table.std()) * gain - 1) < 0.2
  copies = {
    f'heads_{i}': {'kernel': x.T}
    for i, x in enumerate(jnp.split(table, np.cumsum(LEVEL_SIZES)[:-1]))
  }
  larger = jax.tree.map(
    lambda x: x * gain,
    {x: params[x] for x in ('code_embedding', 'user_embedding', 'start')},
  )
  batch = _batch(user=(4, 2, -1))
  expected = with_users[2](dict(params) | larger | copies, codes, batch)
  _assert_close(forward(params, codes, batch), expected)


@pytest.mark.parametrize('network', ['plain', 'with_users', 'tied'])
def test_decoding_step_by_step_equals_one_pass(network, codes, request):
  """Each of two requests decodes three items, one per beam."""
  model, params, forward = request.getfixturevalue(network)
  items = np.array([[8, 1, 5], [0, 9, 4]])
  requests = Batch(
    jnp.asarray(HISTORY[:2]), jnp.array([4, -1]), jnp.array([-1, -1])
  )
  repeated = Batch(
    jnp.repeat(requests.history, 3, 0),
    jnp.repeat(requests.user, 3),
    jnp.asarray(items.reshape(-1), jnp.int32),
  )
  expected = forward(params, codes, repeated)

  encode = jax.jit(
    lambda p: model.apply({'params': p}, codes, requests, method='encode')
  )
  encoded = encode(params)
  cache = model.bind({'params': params}).empty_cache(2)
  step = _step(model)
  logits, cache = step(params, 0, None, cache, encoded)
  np.testing.assert_allclose(
    jnp.repeat(logits[:, 0], 3, 0), expected[0], atol=1e-5
  )
  cache = jax.tree.map(lambda x: jnp.repeat(x, 3, 0), cache)
  for level in (1, 2):
    previous = codes[items][:, :, level - 1]
    logits, cache = step(params, level, previous, cache, encoded)
    assert logits.shape == (2, 3, LEVEL_SIZES[level])
    np.testing.assert_allclose(
      logits.reshape(6, -1), expected[level], atol=1e-5
    )


def test_an_unknown_user_has_no_token(plain, with_users, codes):
  _, params, forward = with_users
  logits = forward(params, codes, _batch())
  without = {k: v for k, v in params.items() if k != 'user_embedding'}
  _assert_close(logits, plain[2](without, codes, _batch()))
  other = jax.tree.map(lambda x: x + 1, params['user_embedding'])
  changed = {**params, 'user_embedding': other}
  _assert_close(forward(changed, codes, _batch()), logits, atol=0)


def test_logits_depend_on_the_bucket_of_the_user(with_users, codes):
  _, params, forward = with_users
  buckets = np.asarray(hash_users(jnp.arange(40), WITH_USERS.num_user_tokens))
  same = int(np.flatnonzero(buckets == buckets[0])[1])
  other = int(np.flatnonzero(buckets != buckets[0])[0])
  history = np.tile(HISTORY[1], (3, 1))
  batch = _batch(history, (0, same, other), (2, 2, 2))
  for x in forward(params, codes, batch):
    np.testing.assert_allclose(x[0], x[1], atol=1e-6)
    assert np.abs(np.asarray(x[0] - x[2])).max() > 1e-3


@pytest.mark.parametrize('num_buckets', [1, 7, 2000])
def test_users_are_spread_over_all_buckets(num_buckets):
  users = jnp.arange(-1, 100_000)
  buckets = np.asarray(hash_users(users, num_buckets))
  assert buckets.dtype == np.int32
  counts = np.bincount(buckets, minlength=num_buckets)
  assert len(counts) == num_buckets
  expected = len(users) / num_buckets
  assert np.abs(counts - expected).max() < 6 * math.sqrt(expected) + 1
  np.testing.assert_array_equal(hash_users(users, num_buckets), buckets)
  # A user's bucket does not depend on the other users of the batch.
  assert hash_users(users[17:18], num_buckets)[0] == buckets[17]


def test_dropout_acts_only_in_training(plain, codes):
  model = Tiger(dataclasses.replace(CONFIG, dropout=0.3), LEVEL_SIZES)
  params = plain[1]

  @jax.jit
  def train(rng):
    return model.apply(
      {'params': params}, codes, _batch(), False, rngs={'dropout': rng}
    )

  first = train(jax.random.key(1))
  _assert_close(train(jax.random.key(1)), first, atol=0)
  assert all(x.any() for x in _changed_rows(train(jax.random.key(2)), first))


def test_bfloat16_returns_float32_logits(plain, codes):
  _, params, forward = plain
  model = Tiger(dataclasses.replace(CONFIG, dtype='bfloat16'), LEVEL_SIZES)
  shapes = jax.eval_shape(model.init, jax.random.key(0), codes, _batch())
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  run = jax.jit(lambda p: model.apply({'params': p}, codes, _batch()))
  logits, exact = run(params), forward(params, codes, _batch())
  assert {x.dtype for x in logits} == {jnp.dtype('float32')}
  _assert_close(logits, exact, atol=0.15)
  assert any((x != y).any() for x, y in zip(logits, exact, strict=True))


def test_the_number_of_parameters_equals_a_count_by_hand():
  level_sizes = (256, 256, 256, 3)
  model = Tiger(ModelConfig(num_user_tokens=2000), level_sizes)
  shapes = jax.eval_shape(
    model.init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((10, 4), jnp.int32),
    _batch(),
  )['params']

  def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))

  attention = 4 * 128 * (6 * 64)
  mlp = 2 * 128 * 1024
  biases = 32 * 6
  encoder = 4 * (attention + mlp + 2 * 128) + 128 + biases
  decoder = 4 * (2 * attention + mlp + 3 * 128) + 128 + biases
  assert encoder + decoder == 4_459_648
  assert count(shapes['encoder']) == encoder
  assert count(shapes['decoder']) == decoder
  embeddings = (sum(level_sizes) + 2000 + 1) * 128
  heads = sum(level_sizes) * 128
  assert count(shapes) == encoder + decoder + embeddings + heads
