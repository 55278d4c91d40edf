"""A T5-style encoder and decoder.

The following choices are those of T5 (Raffel et al., 2020):

- RMS normalization precedes every sub-layer.
- Learned biases for relative positions replace position embeddings.
- The linear layers have no additive biases.
- The logits are not scaled by 1/sqrt(head_dim). The initialization of the query
  projections contains this factor instead.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from tiger_jax.interfaces import Tokens
from tiger_jax.models.dropout import Dropout
from tiger_jax.models.linear import Linear
from tiger_jax.models.relative_position import RelativePositionBias

_fan_in = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')


class KeysValues(NamedTuple):
  """The keys and values that queries attend to.

  The head axis comes before the token axis, because the attention products use
  this memory order. With a different order, every step of a search would
  transpose both arrays.
  """

  keys: Float[Array, 'rows h s k']
  values: Float[Array, 'rows h s k']


class Attention(nn.Module):
  """Multi-head attention to precomputed keys and values.

  The softmax is computed in float32. `dropout` applies to the attention
  weights, and `out_init` initializes the output projection.
  """

  num_heads: int
  head_dim: int
  dropout: float
  dtype: jnp.dtype
  out_init: nn.initializers.Initializer = _fan_in

  def setup(self):
    """Creates the projections of queries, keys and values."""
    heads = (self.num_heads, self.head_dim)

    def project(scale: float) -> Linear:
      init = nn.initializers.variance_scaling(scale, 'fan_in', 'normal')
      return Linear(heads, init, self.dtype)

    self.query = project(1.0 / self.head_dim)
    self.key = project(1.0)
    self.value = project(1.0)
    self.weights_dropout = Dropout(self.dropout)

  def keys_values(self, x: Float[Array, 'rows s d']) -> KeysValues:
    """Projects tokens to keys and values."""
    return KeysValues(
      *(jnp.swapaxes(y, 1, 2) for y in (self.key(x), self.value(x)))
    )

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'rows q d'],
    keys_values: KeysValues,
    mask: Bool[Array, '#rows #q s'],
    bias: Float[Array, '#rows h #q s'] | None,
    deterministic: bool,
  ) -> Float[Array, 'rows q d']:
    """Returns the attention output of every token in `x`.

    `mask` marks the keys that a query may attend to. A query that may attend to
    no key has a finite but meaningless result.
    """
    logits = jnp.einsum('rqhk,rhsk->rhqs', self.query(x), keys_values.keys)
    logits = logits.astype(jnp.float32)
    if bias is not None:
      logits = logits + bias
    logits = jnp.where(mask[:, None], logits, -1e9)
    weights = jax.nn.softmax(logits).astype(self.dtype)
    weights = self.weights_dropout(weights, deterministic)
    mixed = jnp.einsum('rhqs,rhsk->rqhk', weights, keys_values.values)
    out = Linear(
      x.shape[-1:], self.out_init, self.dtype, num_axes=2, name='out'
    )
    return out(mixed)


class Mlp(nn.Module):
  """Two linear layers with a ReLU between them.

  `dropout` applies to the hidden activations, and `out_init` initializes the
  second layer.
  """

  hidden_dim: int
  dropout: float
  dtype: jnp.dtype
  out_init: nn.initializers.Initializer = _fan_in

  @nn.compact
  def __call__(
    self, x: Float[Array, 'rows q d'], deterministic: bool
  ) -> Float[Array, 'rows q d']:
    """Returns the transformed tokens."""
    up = Linear((self.hidden_dim,), _fan_in, self.dtype, name='up')
    down = Linear(x.shape[-1:], self.out_init, self.dtype, name='down')
    hidden = nn.relu(up(x))
    hidden = Dropout(self.dropout)(hidden, deterministic)
    return down(hidden)


class _Stack(nn.Module):
  """The sizes of an encoder or a decoder."""

  num_layers: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout: float
  dtype: jnp.dtype


class Encoder(_Stack):
  """Blocks of self-attention and MLP over a padded sequence."""

  @nn.compact
  def __call__(
    self, x: Tokens, mask: Bool[Array, 'b #s s'], deterministic: bool
  ) -> Tokens:
    """Encodes embedded tokens, and normalizes the result.

    `mask` marks the tokens that each token may attend to. A token that may
    attend to no token has a meaningless result.
    """
    drop = Dropout(self.dropout)
    positions = np.arange(x.shape[1])
    bias = RelativePositionBias(
      self.num_heads, bidirectional=True, name='position_bias'
    )(positions, positions)
    x = drop(x, deterministic)
    for layer in range(self.num_layers):
      attention = Attention(
        self.num_heads,
        self.head_dim,
        self.dropout,
        self.dtype,
        name=f'attention_{layer}',
      )
      y = _norm(self.dtype, f'attention_norm_{layer}')(x)
      y = attention(
        y, attention.keys_values(y), mask, bias[None], deterministic
      )
      x = x + drop(y, deterministic)
      y = _norm(self.dtype, f'mlp_norm_{layer}')(x)
      y = Mlp(self.mlp_dim, self.dropout, self.dtype, name=f'mlp_{layer}')(
        y, deterministic
      )
      x = x + drop(y, deterministic)
    return drop(_norm(self.dtype, 'final_norm')(x), deterministic)


class Decoder(_Stack):
  """Blocks of causal self-attention, cross-attention and MLP.

  Training and search share this code. For each of `r` rows, a cache holds the
  `p` tokens decoded so far. In training, each row is a target, p is 0, and all
  tokens of a target are decoded at once. In search, each row is a beam, and
  each call decodes one token per beam. In cross-attention, all targets or beams
  of a history lie on the query axis, so that each history is projected and
  stored only once.
  """

  def setup(self):
    """Creates the layers."""

    def attentions() -> list[Attention]:
      return [
        Attention(self.num_heads, self.head_dim, self.dropout, self.dtype)
        for _ in range(self.num_layers)
      ]

    def norms() -> list[nn.RMSNorm]:
      return [_norm(self.dtype) for _ in range(self.num_layers)]

    self.position_bias = RelativePositionBias(
      self.num_heads, bidirectional=False
    )
    self.self_norms, self.self_attentions = norms(), attentions()
    self.cross_norms, self.cross_attentions = norms(), attentions()
    self.mlp_norms = norms()
    self.mlps = [
      Mlp(self.mlp_dim, self.dropout, self.dtype)
      for _ in range(self.num_layers)
    ]
    self.final_norm = _norm(self.dtype)
    self.drop = Dropout(self.dropout)

  def cross_keys_values(self, encoded: Tokens) -> tuple[KeysValues, ...]:
    """Projects the encoded histories to keys and values for every layer."""
    return tuple(a.keys_values(encoded) for a in self.cross_attentions)

  def empty_cache(self, num_rows: int) -> tuple[KeysValues, ...]:
    """Returns a cache without tokens for `num_rows` rows."""
    empty = jnp.zeros((num_rows, self.num_heads, 0, self.head_dim))
    empty = empty.astype(self.dtype)
    return (KeysValues(empty, empty),) * self.num_layers

  def __call__(
    self,
    x: Float[Array, 'b q d'],
    cache: tuple[KeysValues, ...],
    cross: tuple[KeysValues, ...],
    mask: Bool[Array, 'b #q s'],
    cross_bias: Float[Array, '#b h #q s'] | None,
    deterministic: bool,
  ) -> tuple[Float[Array, 'b q d'], tuple[KeysValues, ...]]:
    """Decodes further tokens, and appends them to the cache.

    Args:
      x: Embedded tokens. The axis `q` concatenates the tokens of all targets or
        beams of a history. Each target or beam has the same number of tokens.
      cache: The keys and values `[r, h, p, k]` of earlier tokens, for each
        layer; r is a multiple of b.
      cross: The projected histories, for each layer.
      mask: The history tokens that each query may attend to.
      cross_bias: A bias of the cross-attention logits, for all layers.
      deterministic: Whether to disable dropout.

    Returns:
      The decoded tokens and the extended cache.
    """
    num_rows, _, num_cached, _ = cache[0].keys.shape
    num_new = x.shape[0] * x.shape[1] // num_rows
    queries = num_cached + np.arange(num_new)
    keys = np.arange(num_cached + num_new)
    bias = self.position_bias(queries, keys)
    causal = jnp.asarray(keys[None, :] <= queries[:, None])[None]
    new_cache = []
    x = self.drop(x, deterministic)
    for layer, cached in enumerate(cache):
      y = self.self_norms[layer](x).reshape(num_rows, num_new, x.shape[-1])
      new = self.self_attentions[layer].keys_values(y)
      keys_values = KeysValues(
        *(jnp.concatenate(pair, 2) for pair in zip(cached, new, strict=True))
      )
      new_cache.append(keys_values)
      y = self.self_attentions[layer](
        y, keys_values, causal, bias[None], deterministic
      )
      x = x + self.drop(y.reshape(x.shape), deterministic)
      y = self.cross_attentions[layer](
        self.cross_norms[layer](x),
        cross[layer],
        mask,
        cross_bias,
        deterministic,
      )
      x = x + self.drop(y, deterministic)
      y = self.mlps[layer](self.mlp_norms[layer](x), deterministic)
      x = x + self.drop(y, deterministic)
    return self.drop(self.final_norm(x), deterministic), tuple(new_cache)


def _norm(dtype: jnp.dtype, name: str | None = None) -> nn.RMSNorm:
  return nn.RMSNorm(epsilon=1e-6, dtype=dtype, name=name)
