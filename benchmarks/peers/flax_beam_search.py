"""Runs the beam search of Flax's translation example with a `Tiger`.

The search is `examples/wmt/decode.py` of google/flax (commit 18f8f311, Apache
2.0), loaded from a file. The weights and the modules are ours. The decoder is
called as in that example and in T5X. Every beam has a copy of the encoded
history, and the body of the loop projects this copy to keys and values. On a
CPU, XLA moves these projections out of the loop. On other devices, XLA may
leave them in the loop. A cache holds the keys and values of the decoded tokens.
"""

from collections.abc import Callable
import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from tiger_jax.interfaces import Batch, Codes, Tokens
from tiger_jax.models.tiger import Tiger
from tiger_jax.models.transformer import Encoder, KeysValues

# The start token of the search. The codes follow, level by level.
_START = 0
# A score that is lower than that of an unused beam in Flax's search.
_NEVER = -1e9


class History(NamedTuple):
  """A batch of encoded histories.

  Attributes:
    tokens: The encoded tokens `[b, s, d]`.
    mask: Whether a token `[b, s]` is not padding.
  """

  tokens: Tokens
  mask: Bool[Array, 'b s']


class FlaxSearch:
  """Searches Semantic IDs with Flax's search, without a catalog."""

  def __init__(
    self, decode_file: str | Path, model: Tiger, params: Any, codes: Codes
  ):
    """Loads Flax's search. The first request compiles it.

    Args:
      decode_file: The file with Flax's search.
      model: The network.
      params: The parameters of the network.
      codes: The Semantic ID of every item.
    """
    self._peer = _load(decode_file)
    self._model = model
    self._params = params
    self._codes = codes

  def encode(self, batch: Batch) -> History:
    """Encodes histories.

    Args:
      batch: The histories. Targets are ignored.
    """
    return _encode(self._model, self._params, self._codes, batch)

  def decode(
    self, history: History, num_beams: int
  ) -> tuple[Int[Array, 'b m l'], Float[Array, 'b m']]:
    """Searches from encoded histories.

    Args:
      history: The result of `encode`.
      num_beams: The number of beams, at most the number of Semantic IDs.

    Returns:
      The Semantic ID of every beam, best first, and its log-probability.
    """
    return _decode(self._peer, self._model, num_beams, self._params, history)

  def search(
    self, batch: Batch, num_beams: int
  ) -> tuple[Int[Array, 'b m l'], Float[Array, 'b m']]:
    """Encodes and decodes in one program.

    Args:
      batch: The histories. Targets are ignored.
      num_beams: The number of beams, at most the number of Semantic IDs.

    Returns:
      The same as `decode`.
    """
    return _search(
      self._peer, self._model, num_beams, self._params, self._codes, batch
    )


class _Cache(NamedTuple):
  """The cache of the search, which is reordered when beams are selected.

  Attributes:
    level: The next level.
    layers: The keys and values `[rows, h, l, k]` of each layer.
  """

  level: Int[Array, '']
  layers: tuple[KeysValues, ...]


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: Tiger, params: Any, codes: Codes, batch: Batch) -> History:
  # `encode` returns projections of the encoder's output. This call captures the
  # output itself.
  encoded, state = model.apply(
    {'params': params},
    codes,
    batch,
    method='encode',
    capture_intermediates=lambda module, _: isinstance(module, Encoder),
    mutable='intermediates',
  )
  (tokens,) = state['intermediates']['encoder']['__call__']
  return History(tokens, encoded.mask)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _decode(
  peer: ModuleType,
  model: Tiger,
  num_beams: int,
  params: Any,
  history: History,
) -> tuple[Int[Array, 'b m l'], Float[Array, 'b m']]:
  c, sizes = model.config, model.level_sizes
  shape = (history.mask.shape[0], c.num_heads, len(sizes), c.head_dim)
  zeros = jnp.zeros(shape, c.dtype)
  # No sequence ends early, so the search returns the live beams.
  sequences, scores = peer.beam_search(
    history.mask,  # Used for its shape only.
    _Cache(jnp.int32(0), (KeysValues(zeros, zeros),) * c.num_decoder_layers),
    _step_fn(
      model,
      params,
      History(*(peer.flat_batch_beam_expand(x, num_beams) for x in history)),
    ),
    beam_size=num_beams,
    alpha=0.0,
    eos_id=-1,
    max_decode_len=1 + len(sizes),
  )
  firsts = _START + 1 + np.cumsum((0, *sizes[:-1]))
  # Flax's search returns the best beam last.
  return sequences[:, ::-1, 1:] - firsts[None, None], scores[:, ::-1]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
  peer: ModuleType,
  model: Tiger,
  num_beams: int,
  params: Any,
  codes: Codes,
  batch: Batch,
) -> tuple[Int[Array, 'b m l'], Float[Array, 'b m']]:
  history = _encode(model, params, codes, batch)
  return _decode(peer, model, num_beams, params, history)


def _step_fn(
  model: Tiger, params: Any, history: History
) -> Callable[
  [Int[Array, 'rows 1'], _Cache], tuple[Float[Array, 'rows v'], _Cache]
]:
  """Returns the `tokens_to_logits` of the search.

  Args:
    model: The network.
    params: The parameters of the network.
    history: The encoded history, with one row per beam.
  """
  decoder = model.bind({'params': params}).decoder
  dtype = jnp.dtype(model.config.dtype)
  num_levels = len(model.level_sizes)
  levels = np.arange(num_levels)
  bias = decoder.position_bias(levels, levels)
  code_table = params['code_embedding']['embedding']
  table = jnp.concatenate([params['start'][None], code_table]).astype(dtype)
  heads = jnp.concatenate(
    [params[f'heads_{level}']['kernel'] for level in levels], 1
  ).astype(dtype)
  level_of_code = jnp.asarray(np.repeat(levels, model.level_sizes))

  def step(
    tokens: Int[Array, 'rows 1'], cache: _Cache
  ) -> tuple[Float[Array, 'rows v'], _Cache]:
    level = cache.level
    bias_here = jax.lax.dynamic_slice_in_dim(bias, level, 1, axis=1)
    decoded = (jnp.arange(num_levels) <= level)[None, None]
    x = table[tokens]
    layers = []
    for i, before in enumerate(cache.layers):
      attention = decoder.self_attentions[i]
      y = decoder.self_norms[i](x)
      seen = KeysValues(
        *(
          jax.lax.dynamic_update_slice_in_dim(old, new, level, axis=2)
          for old, new in zip(before, attention.keys_values(y), strict=True)
        )
      )
      layers.append(seen)
      x = x + attention(y, seen, decoded, bias_here, True)
      attention = decoder.cross_attentions[i]
      x = x + attention(
        decoder.cross_norms[i](x),
        attention.keys_values(history.tokens),
        history.mask[:, None],
        None,
        True,
      )
      x = x + decoder.mlps[i](decoder.mlp_norms[i](x), True)
    logits = jnp.dot(decoder.final_norm(x)[:, 0], heads).astype(jnp.float32)
    logits = jnp.where((level_of_code == level)[None], logits, _NEVER)
    # The start token is never generated.
    logits = jnp.pad(logits, ((0, 0), (1, 0)), constant_values=_NEVER)
    return logits, _Cache(level + 1, tuple(layers))

  return step


def _load(path: str | Path) -> ModuleType:
  """Imports a file that is not part of a package."""
  spec = importlib.util.spec_from_file_location('flax_wmt_decode', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
