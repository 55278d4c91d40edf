"""Compares the Transformer with loops in NumPy that follow T5."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.models.relative_position import relative_buckets
from tiger_jax.models.transformer import Decoder, Encoder

HEADS, HEAD_DIM, MLP_DIM, WIDTH, LAYERS = 2, 3, 7, 6, 2
SIZES = (LAYERS, HEADS, HEAD_DIM, MLP_DIM, 0.0, jnp.dtype('float32'))
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)


def _slow_bucket(distance: int, bidirectional: bool) -> int:
  """Returns the position bucket of T5, computed without a logarithm."""
  num_buckets, offset = 32, 0
  if bidirectional:
    num_buckets = 16
    if distance > 0:
      offset = 16
    length = abs(distance)
  else:
    length = max(-distance, 0)
  exact = num_buckets // 2
  if length < exact:
    return offset + length
  # exact + floor(exact * log(length / exact) / log(128 / exact)), limited to
  # the last bucket.
  bucket = exact
  while bucket + 1 < num_buckets and length**exact >= exact**exact * (
    128 // exact
  ) ** (bucket + 1 - exact):
    bucket += 1
  return offset + bucket


@pytest.mark.parametrize('bidirectional', [True, False])
def test_buckets_equal_the_scalar_rule(bidirectional):
  buckets = relative_buckets(
    np.arange(-3, 200), np.arange(-50, 400), bidirectional
  )
  expected = [
    [_slow_bucket(key - query, bidirectional) for key in range(-50, 400)]
    for query in range(-3, 200)
  ]
  np.testing.assert_array_equal(buckets, expected)


@pytest.mark.parametrize(
  ('distance', 'bidirectional', 'causal'),
  [
    (0, 0, 0),
    (-1, 1, 1),
    (-7, 7, 7),
    (-8, 8, 8),
    (-15, 9, 15),
    (-16, 10, 16),
    (-32, 12, 21),
    (-64, 14, 26),
    (-127, 15, 31),
    (-5000, 15, 31),
    (1, 17, 0),
    (8, 24, 0),
    (128, 31, 0),
  ],
)
def test_buckets_equal_values_worked_by_hand(distance, bidirectional, causal):
  query, key = np.array([0]), np.array([distance])
  assert relative_buckets(query, key, True) == bidirectional
  assert relative_buckets(query, key, False) == causal


def _random_params(module, *args, **kwargs):
  """Returns random parameters, because initial values of 1 can hide errors."""
  init = functools.partial(module.init, **kwargs)
  shapes = jax.eval_shape(init, jax.random.key(0), *args)['params']
  leaves, tree = jax.tree.flatten(shapes)
  rng = np.random.default_rng(0)
  return tree.unflatten(
    [jnp.asarray(rng.normal(0, 0.4, x.shape), x.dtype) for x in leaves]
  )


def _norm(x, params):
  scale = np.asarray(params['scale'], np.float64)
  return np.stack([row / np.sqrt(np.mean(row**2) + 1e-6) * scale for row in x])


def _mlp(x, params):
  up, down = params['up']['kernel'], params['down']['kernel']
  return np.maximum(x @ np.asarray(up), 0) @ np.asarray(down)


def _attend(
  x, y, params, visible, bias_table=None, bidirectional=False, bias=None
):
  """Returns the attention from queries in `x` to keys in `y`, for one row."""
  result = np.zeros((len(x), WIDTH))
  for head in range(HEADS):
    project = {
      name: np.asarray(params[name]['kernel'], np.float64)[:, head]
      for name in ('query', 'key', 'value')
    }
    out = np.asarray(params['out']['kernel'], np.float64)[head]
    keys, values = y @ project['key'], y @ project['value']
    for i, query in enumerate(x @ project['query']):
      positions = [j for j in range(len(y)) if visible[i, j]]
      logits = [query @ keys[j] for j in positions]
      if bias_table is not None:
        buckets = [_slow_bucket(j - i, bidirectional) for j in positions]
        logits = [
          logit + float(bias_table[bucket, head])
          for logit, bucket in zip(logits, buckets, strict=True)
        ]
      if bias is not None:
        logits = [
          logit + bias[head, i, j]
          for logit, j in zip(logits, positions, strict=True)
        ]
      weights = np.exp(np.array(logits) - max(logits))
      weights /= weights.sum()
      mixed = sum(
        w * values[j] for w, j in zip(weights, positions, strict=True)
      )
      result[i] += mixed @ out
  return result


def _slow_encode(params, x, mask):
  """Encodes one row."""
  visible = np.tile(mask, (len(x), 1))
  table = params['position_bias']['table']
  for layer in range(LAYERS):
    y = _norm(x, params[f'attention_norm_{layer}'])
    x = x + _attend(
      y, y, params[f'attention_{layer}'], visible, table, bidirectional=True
    )
    y = _norm(x, params[f'mlp_norm_{layer}'])
    x = x + _mlp(y, params[f'mlp_{layer}'])
  return _norm(x, params['final_norm'])


def _slow_decode(params, x, encoded, mask, bias):
  """Decodes one row."""
  causal = np.tril(np.ones((len(x), len(x)), bool))
  visible = np.tile(mask, (len(x), 1))
  table = params['position_bias']['table']
  for layer in range(LAYERS):
    y = _norm(x, params[f'self_norms_{layer}'])
    x = x + _attend(y, y, params[f'self_attentions_{layer}'], causal, table)
    y = _norm(x, params[f'cross_norms_{layer}'])
    cross = params[f'cross_attentions_{layer}']
    x = x + _attend(y, encoded, cross, visible, bias=bias)
    y = _norm(x, params[f'mlp_norms_{layer}'])
    x = x + _mlp(y, params[f'mlps_{layer}'])
  return _norm(x, params['final_norm'])


@pytest.fixture(scope='module')
def tokens():
  return np.random.default_rng(1).normal(size=(*MASK.shape, WIDTH))


def test_encoder_equals_slow_numpy(tokens):
  encoder = Encoder(*SIZES)
  x, mask = jnp.asarray(tokens, jnp.float32), jnp.asarray(MASK)
  params = _random_params(encoder, x, mask[:, None], deterministic=True)
  encode = jax.jit(
    lambda p, x: encoder.apply({'params': p}, x, mask[:, None], True)
  )
  encoded = encode(params, x)
  for row in range(len(MASK)):
    expected = _slow_encode(params, tokens[row], MASK[row])
    np.testing.assert_allclose(
      encoded[row][MASK[row]], expected[MASK[row]], atol=1e-5
    )


def _decode_all(decoder, x, encoded, mask, bias):
  return decoder(
    x,
    decoder.empty_cache(x.shape[0]),
    decoder.cross_keys_values(encoded),
    mask[:, None],
    bias,
    True,
  )


def test_decoder_equals_slow_numpy(tokens):
  decoder = Decoder(*SIZES)
  x = np.random.default_rng(2).normal(size=(len(MASK), 4, WIDTH))
  # A bias for each row, head, query and key.
  bias = np.random.default_rng(3).normal(size=(len(MASK), HEADS, 4, 5))
  args = (*map(jnp.float32, (x, tokens)), jnp.asarray(MASK), jnp.float32(bias))
  params = _random_params(decoder, *args, method=_decode_all)
  decode = jax.jit(
    lambda p, *args: decoder.apply({'params': p}, *args, method=_decode_all)
  )
  decoded, cache = decode(params, *args)
  for row in range(len(MASK)):
    expected = _slow_decode(params, x[row], tokens[row], MASK[row], bias[row])
    np.testing.assert_allclose(decoded[row], expected, atol=1e-5)
  assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {
    (len(MASK), HEADS, 4, HEAD_DIM)
  }
