"""TIGER (Rajput et al., 2023): generates the Semantic ID of the next item.

Unlike in the paper (section 3.2), the encoder can be causal. One forward pass
over a history then predicts the next item after every prefix of the history.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32
import numpy as np

from tiger_jax.catalog.trie import take_codes
from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch, Codes
from tiger_jax.models.dropout import Dropout
from tiger_jax.models.history_bias import Candidates, HistoryBias
from tiger_jax.models.prefixes import PrefixEmbedding, extend_hash
from tiger_jax.models.relative_position import RecencyBias
from tiger_jax.models.targets import next_items, same_history
from tiger_jax.models.transformer import Decoder, Encoder, KeysValues

Scored = Sequence[Candidates]


class Encoded(NamedTuple):
  """Encoded histories, for cross-attention.

  Attributes:
    cross: The keys and values of the encoded tokens, for each decoder layer.
    mask: False for padding tokens and for the token of an unknown user.
    num_later: The number of items between the item of each token and the end of
      the history; -1 for the user token.
  """

  cross: tuple[KeysValues, ...]
  mask: Bool[Array, 'b s']
  num_later: Int[Array, 'b s']


class DecoderCache(NamedTuple):
  """What the decoder keeps of the codes that it has decoded.

  Attributes:
    layers: The keys and values of the codes, for each layer.
    prefix_hash: A hash of the codes of each row.
  """

  layers: tuple[KeysValues, ...]
  prefix_hash: UInt32[Array, ' rows']


class Tiger(nn.Module):
  """The sequence-to-sequence model over Semantic IDs.

  The encoder and the decoder share one embedding table for the codes of all
  levels. Each level has its own output head, which scores only the codes of
  that level. With `tied_heads`, a head reuses the embeddings of its codes.
  Logits are float32, one array per level. In every method, the argument `codes`
  holds the Semantic IDs of all items. The argument `scored` has the candidates
  at each level of each target; None stands for all codes, without history bias.
  """

  config: ModelConfig
  level_sizes: tuple[int, ...]

  def setup(self):
    """Creates the embeddings, the encoder, the decoder and the heads."""
    c = self.config
    dtype = jnp.dtype(c.dtype)
    # Tied embeddings are scaled as in Vaswani et al. (2017, section 3.4), so
    # that tokens and logits start with unit variance.
    self.gain = c.d_model**0.5 if c.tied_heads else 1.0
    init = nn.initializers.normal(1 / self.gain)

    def embed(num: int) -> nn.Embed:
      return nn.Embed(num, c.d_model, embedding_init=init, dtype=dtype)

    self.code_embedding = embed(sum(self.level_sizes))
    self.start = self.param('start', init, (c.d_model,))
    if c.num_user_tokens:
      self.user_embedding = embed(c.num_user_tokens)
    sizes = (c.num_heads, c.head_dim, c.mlp_dim, c.dropout, dtype)
    self.encoder = Encoder(c.num_encoder_layers, *sizes)
    self.decoder = Decoder(c.num_decoder_layers, *sizes)
    if c.prefix_embeddings:
      self.prefix_embedding = PrefixEmbedding(
        c.prefix_embeddings,
        c.d_model,
        self.level_sizes,
        # A tenth of the standard deviation of the code embeddings.
        nn.initializers.normal(0.1 / self.gain),
        dtype,
      )
      self.prefix_dropout = Dropout(c.prefix_dropout)
    if c.history_bias:
      self.history_bias = HistoryBias(len(self.level_sizes))
    if c.recency_bias:
      self.recency_bias = RecencyBias(c.num_heads)
    # Departs from the paper: the paper has one softmax over all codes.
    if not c.tied_heads:
      self.heads = [
        nn.Dense(size, use_bias=False, dtype=jnp.float32)
        for size in self.level_sizes
      ]

  def __call__(
    self, codes: Codes, batch: Batch, deterministic: bool = True
  ) -> list[Float[Array, 'b _v']]:
    """Scores the target's codes, each given the target's earlier codes."""
    return [x[:, 0] for x in self.last_target(codes, batch, deterministic)]

  def last_target(
    self,
    codes: Codes,
    batch: Batch,
    deterministic: bool = True,
    scored: Scored | None = None,
  ) -> list[Float[Array, 'b 1 _v']]:
    """Scores the codes of `batch.target`, the item after each history."""
    encoded = self.encode(codes, batch, deterministic)
    return self._teacher_forced_logits(
      codes[batch.target][:, None],
      encoded.cross,
      encoded.mask[:, None],
      self._cross_bias(encoded.num_later[:, None]),
      deterministic,
      scored,
    )

  def every_target(
    self,
    codes: Codes,
    batch: Batch,
    deterministic: bool = True,
    scored: Scored | None = None,
  ) -> list[Float[Array, 'b t _v']]:
    """Scores the codes of all `next_items(batch)` in one forward pass.

    The encoder must be causal. Neither the encoder nor the decoder attends to
    later items, or to the other histories of a packed row. The logits for each
    next item therefore equal the logits for a history that ends just before
    this item.
    """
    encoded = self.encode(codes, batch, deterministic)
    num_items = batch.history.shape[1]
    # The last history item that each target token may attend to.
    last = np.repeat(np.arange(num_items), codes.shape[1])
    item = self._item_of_token(num_items)
    num_later = jnp.asarray(
      np.where(item[None, :] >= 0, last[:, None] - item[None, :], -1)
    )
    visible = jnp.asarray(item[None, :] <= last[:, None])
    mask = encoded.mask[:, None] & visible[None]
    if batch.is_packed:
      mask = mask & self._same_history(batch)
    return self._teacher_forced_logits(
      codes[next_items(batch)],
      encoded.cross,
      mask,
      self._cross_bias(num_later[None]),
      deterministic,
      scored,
    )

  def encode(
    self, codes: Codes, batch: Batch, deterministic: bool = True
  ) -> Encoded:
    """Encodes histories, preceded by a user token if the model has one."""
    num_rows, num_items = batch.history.shape
    real = batch.history >= 0
    x = self._embed_codes(codes[batch.history])
    if self.config.prefix_embeddings:
      x += self._embed_prefixes(codes[batch.history], deterministic)
    x = x.reshape(num_rows, num_items * codes.shape[1], x.shape[-1])
    mask = jnp.repeat(real, codes.shape[1], axis=1)
    if self.config.num_user_tokens:
      user = self.user_embedding(
        hash_users(batch.user, self.config.num_user_tokens)
      )
      user = user * self.gain
      x = jnp.concatenate([user[:, None], x], 1)
      mask = jnp.concatenate([batch.user[:, None] >= 0, mask], 1)
    item = self._item_of_token(num_items)
    visible = mask[:, None]
    if self.config.causal_encoder:
      visible = visible & jnp.asarray(item[None, :] <= item[:, None])[None]
    if batch.is_packed:
      visible = visible & self._same_history(batch)
    x = self.encoder(x, visible, deterministic)
    last = real.sum(axis=1, keepdims=True) - 1
    num_later = jnp.where(item[None, :] >= 0, last - item[None, :], -1)
    return Encoded(self.decoder.cross_keys_values(x), mask, num_later)

  def empty_cache(self, num_rows: int) -> DecoderCache:
    """Returns an empty decoder cache, for use before the first code."""
    return DecoderCache(
      self.decoder.empty_cache(num_rows), jnp.zeros(num_rows, jnp.uint32)
    )

  def decode_step(
    self,
    level: int,
    previous: Int[Array, 'b m'] | None,
    cache: DecoderCache,
    encoded: Encoded,
    candidates: Candidates = Candidates(),  # noqa: B008 (it is immutable)
  ) -> tuple[Float[Array, 'b m _w'], DecoderCache]:
    """Scores the codes of one level for every beam, and extends the cache.

    Args:
      level: The level.
      previous: The code of each beam at the previous level. None at level 0,
        where each request has one beam.
      cache: The cache, with rows in (request, beam) order.
      encoded: The histories.
      candidates: The codes to score for each beam.
    """
    prefix_hash = cache.prefix_hash
    if previous is None:
      dtype = jnp.dtype(self.config.dtype)
      x = jnp.broadcast_to(
        self.start.astype(dtype),
        (encoded.mask.shape[0], 1, self.config.d_model),
      )
    else:
      x = self.code_embedding(previous + self._offsets()[level - 1])
      prefix_hash = extend_hash(prefix_hash, previous.reshape(-1))
    x = x * self.gain
    x, layers = self.decoder(
      x,
      cache.layers,
      encoded.cross,
      encoded.mask[:, None],
      self._cross_bias(encoded.num_later[:, None]),
      True,
    )
    prefixes = prefix_hash.reshape(x.shape[:2])
    logits = self._score(x, level, prefixes, candidates)
    return logits, DecoderCache(layers, prefix_hash)

  def _teacher_forced_logits(
    self,
    targets: Int[Array, 'b t l'],
    cross: tuple[KeysValues, ...],
    mask: Bool[Array, 'b #q s'],
    cross_bias: Float[Array, '#b h #q s'] | None,
    deterministic: bool,
    scored: Scored | None = None,
  ) -> list[Float[Array, 'b t _v']]:
    """Scores the codes of targets, each given the target's earlier codes."""
    num_rows, num_targets, levels = targets.shape
    tokens = self._embed_codes(targets)[:, :, :-1]
    shape = (num_rows, num_targets, 1, tokens.shape[-1])
    start = jnp.broadcast_to(self.start.astype(tokens.dtype), shape)
    x = jnp.concatenate([start * self.gain, tokens], 2)
    x, _ = self.decoder(
      x.reshape(num_rows, num_targets * levels, x.shape[-1]),
      self.decoder.empty_cache(num_rows * num_targets),
      cross,
      mask,
      cross_bias,
      deterministic,
    )
    x = x.reshape(num_rows, num_targets, levels, x.shape[-1])
    logits = []
    prefix_hash = jnp.zeros((num_rows, num_targets), jnp.uint32)
    for level in range(levels):
      candidates = scored[level] if scored else Candidates()
      logits.append(self._score(x[:, :, level], level, prefix_hash, candidates))
      prefix_hash = extend_hash(prefix_hash, targets[:, :, level])
    return logits

  def _score(
    self,
    x: Float[Array, 'b q d'],
    level: int,
    prefix_hash: UInt32[Array, 'b q'],
    candidates: Candidates,
  ) -> Float[Array, 'b q _w']:
    """Scores codes of a level in float32; bfloat16 would cause ties."""
    x = x.astype(jnp.float32)
    if self.config.tied_heads:
      start = self._offsets()[level]
      heads = self.code_embedding.embedding[start:][: self.level_sizes[level]]
      logits = x @ heads.T
    else:
      logits = self.heads[level](x)
    logits = take_codes(logits, candidates.codes)
    if self.config.prefix_heads and level:
      weights = self.prefix_embedding.extensions(
        prefix_hash, level, candidates.codes
      )
      logits += jnp.einsum('bqd,bqvd->bqv', x, weights)
    if self.config.history_bias:
      logits += self.history_bias(level, x, candidates.seen)
    return logits

  def _cross_bias(
    self, num_later: Int[Array, '#b #q s']
  ) -> Float[Array, '#b h #q s'] | None:
    """Returns the bias of the cross-attention; None without recency bias."""
    if not self.config.recency_bias:
      return None
    return jnp.moveaxis(self.recency_bias(num_later), -1, 1)

  def _same_history(self, batch: Batch) -> Bool[Array, 'b s s']:
    """Returns whether two tokens of a packed row belong to one history."""
    same = jnp.repeat(same_history(batch), len(self.level_sizes), axis=1)
    return jnp.repeat(same, len(self.level_sizes), axis=2)

  def _item_of_token(self, num_items: int) -> np.ndarray:
    """Returns, for each encoder token, the history position of its item."""
    item = np.repeat(np.arange(num_items), len(self.level_sizes))
    # With position -1, the user token attends to no item, and every item
    # attends to the user token.
    return np.append(-1, item) if self.config.num_user_tokens else item

  def _offsets(self) -> np.ndarray:
    """Returns the first row of each level in the embedding table."""
    return np.cumsum((0, *self.level_sizes[:-1]))

  def _embed_codes(self, codes: Int[Array, '*b l']) -> Float[Array, '*b l d']:
    offsets = jnp.asarray(self._offsets(), codes.dtype)
    offsets = offsets.reshape((1,) * (codes.ndim - 1) + (-1,))
    return self.code_embedding(codes + offsets) * self.gain

  def _embed_prefixes(
    self, codes: Int[Array, 'b t l'], deterministic: bool
  ) -> Float[Array, 'b t l d']:
    """Embeds the prefix that ends with each code."""
    x = self.prefix_embedding(codes) * self.gain
    # Dropout zeroes whole embeddings, not single entries.
    return x * self.prefix_dropout(jnp.ones_like(x[..., :1]), deterministic)


def hash_users(
  user: Int[Array, ' b'] | Int[np.ndarray, ' b'], num_buckets: int
) -> Int[Array, ' b']:
  """Maps user rows to `num_buckets` tokens by a multiplicative hash."""
  mixed = jnp.asarray(user).astype(jnp.uint32) * jnp.uint32(2654435761)
  return ((mixed >> 8) % jnp.uint32(num_buckets)).astype(jnp.int32)
