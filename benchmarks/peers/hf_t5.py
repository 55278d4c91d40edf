"""Runs TIGER as a Hugging Face T5 with its `generate` method.

The T5 has the float32 weights of a `Tiger`. `prefix_allowed_tokens_fn` looks up
prefixes in a dict, and limits the search to the catalog. The scores of items
equal those of `TigerRetriever`.
"""

import collections
import math
from typing import Any

import jax
from jaxtyping import Bool, Float, Int
import numpy as np
import torch
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from tiger_jax.interfaces import Batch, Codes
from tiger_jax.models.relative_position import MAX_DISTANCE, NUM_BUCKETS
from tiger_jax.models.tiger import Tiger, hash_users

# The vocabulary: padding, start, the codes of each level, the user tokens.
_PAD, _START, _FIRST_CODE = 0, 1, 2
_NEVER = -1e9
# If a search finds too few items, it repeats some items with a score of -1e9.
_LEAST_SCORE = -1e8


class HfTiger:
  """Recommends items with `generate` on a CPU.

  Attributes:
    network: The T5.
  """

  def __init__(
    self,
    model: Tiger,
    params: Any,
    codes: Codes | Int[np.ndarray, 'items l'],
    level_sizes: tuple[int, ...],
  ):
    """Copies the weights, and indexes the catalog.

    Args:
      model: The network.
      params: The parameters of the network.
      codes: The Semantic ID of every item.
      level_sizes: The number of codes at each level.
    """
    firsts = _FIRST_CODE + np.cumsum((0, *level_sizes[:-1]))
    self.network = _port(model, jax.device_get(params))
    self._tokens = np.asarray(codes, np.int64) + firsts[None]
    self._num_users = model.config.num_user_tokens
    self._first_user = _FIRST_CODE + sum(level_sizes)
    items = [tuple(item) for item in self._tokens.tolist()]
    self._rows = {item: row for row, item in enumerate(items)}
    children = collections.defaultdict(set)
    for item in items:
      for level, token in enumerate(item):
        children[item[:level]].add(token)
    self._allowed = {prefix: sorted(x) for prefix, x in children.items()}

  def recommend(
    self, batch: Batch, num_beams: int, k: int
  ) -> tuple[Int[np.ndarray, 'b k'], Float[np.ndarray, 'b k']]:
    """Returns the items that `generate` returns, best first, and their scores.

    Args:
      batch: The histories. Targets are ignored.
      num_beams: The number of beams.
      k: The number of items, at most `num_beams`.

    Returns:
      Item rows and log-probabilities. If there are fewer than k items, the
      remaining rows are -1 and their log-probabilities are -inf.
    """
    tokens, mask = self._encoder_inputs(batch)
    num_levels = self._tokens.shape[1]
    outputs = self.network.generate(
      input_ids=torch.from_numpy(tokens),
      attention_mask=torch.from_numpy(mask.astype(np.int64)),
      prefix_allowed_tokens_fn=self._allowed_tokens,
      max_new_tokens=num_levels,
      num_beams=num_beams,
      num_return_sequences=k,
      do_sample=False,
      length_penalty=0.0,
      use_cache=True,
      return_dict_in_generate=True,
      output_scores=True,
    )
    # `generate` normalizes over the codes of all levels, see `_LevelHeads`.
    correction = num_levels * math.log(num_levels)
    scores = outputs.sequences_scores.numpy() + correction
    sequences = outputs.sequences[:, 1:].tolist()
    items = np.array([self._rows.get(tuple(x), -1) for x in sequences])
    is_item = scores > _LEAST_SCORE
    return (
      np.where(is_item, items, -1).reshape(-1, k),
      np.where(is_item, scores, -np.inf).reshape(-1, k),
    )

  def _allowed_tokens(self, row: int, sequence: torch.Tensor) -> list[int]:
    del row  # All rows have the same catalog.
    return self._allowed[tuple(sequence[1:].tolist())]

  def _encoder_inputs(
    self, batch: Batch
  ) -> tuple[Int[np.ndarray, 'b s'], Bool[np.ndarray, 'b s']]:
    """Returns tokens, padded to the longest history, and a mask."""
    history = np.asarray(batch.history)
    history = history[:, : (history >= 0).sum(1).max()]
    mask = np.repeat(history >= 0, self._tokens.shape[1], axis=1)
    tokens = self._tokens[history].reshape(mask.shape)
    if self._num_users:
      user = np.asarray(hash_users(batch.user, self._num_users))[:, None]
      tokens = np.concatenate([user + self._first_user, tokens], 1)
      is_known = np.asarray(batch.user)[:, None] >= 0
      mask = np.concatenate([is_known, mask], 1)
    return np.where(mask, tokens, _PAD), mask


class _LevelHeads(nn.Module):
  """The output heads of all levels, with a softmax for each level.

  `generate` applies another log-softmax over the whole vocabulary. The
  probabilities of all levels sum to the number of levels, so this second
  log-softmax subtracts the logarithm of that number everywhere. The ranking is
  the same.
  """

  def __init__(self, kernels: list[np.ndarray]):
    super().__init__()
    self.sizes = [kernel.shape[1] for kernel in kernels]
    self.weight = nn.Parameter(_transposed(np.concatenate(kernels, 1)))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns log-probabilities of all tokens except the user tokens."""
    logits = nn.functional.linear(x, self.weight).split(self.sizes, -1)
    never = x.new_full((*x.shape[:-1], _FIRST_CODE), _NEVER)
    return torch.cat([never, *(v.log_softmax(-1) for v in logits)], -1)


def _port(model: Tiger, params: dict[str, Any]) -> T5ForConditionalGeneration:
  """Returns a T5 with the parameters of a `Tiger`."""
  c = model.config
  code_table = params['code_embedding']['embedding']
  embeddings = [np.zeros((1, c.d_model)), params['start'][None], code_table]
  if c.num_user_tokens:
    embeddings.append(params['user_embedding']['embedding'])
  table = torch.tensor(np.concatenate(embeddings), dtype=torch.float32)
  network = T5ForConditionalGeneration(
    T5Config(
      vocab_size=len(table),
      d_model=c.d_model,
      d_kv=c.head_dim,
      d_ff=c.mlp_dim,
      num_heads=c.num_heads,
      num_layers=c.num_encoder_layers,
      num_decoder_layers=c.num_decoder_layers,
      relative_attention_num_buckets=NUM_BUCKETS,
      relative_attention_max_distance=MAX_DISTANCE,
      layer_norm_epsilon=1e-6,
      feed_forward_proj='relu',
      # Otherwise the T5 scales the input of the heads.
      tie_word_embeddings=False,
      pad_token_id=_PAD,
      decoder_start_token_id=_START,
      eos_token_id=None,
    )
  )
  network.lm_head = _LevelHeads(
    [params[f'heads_{i}']['kernel'] for i in range(len(model.level_sizes))]
  )
  state = {
    'shared.weight': table,
    'encoder.embed_tokens.weight': table,
    'decoder.embed_tokens.weight': table,
    'lm_head.weight': network.lm_head.weight,
  }
  state |= _stack('encoder', params['encoder'], c.num_encoder_layers)
  state |= _stack('decoder', params['decoder'], c.num_decoder_layers)
  network.load_state_dict(state)
  return network.eval()


def _stack(
  name: str, params: dict[str, Any], num_layers: int
) -> dict[str, torch.Tensor]:
  """Renames the parameters of the encoder or the decoder."""
  # For each sub-layer of a block: T5's name, our name, our norm.
  sub_layers = {
    'encoder': [
      ('SelfAttention', 'attention', 'attention_norm'),
      ('DenseReluDense', 'mlp', 'mlp_norm'),
    ],
    'decoder': [
      ('SelfAttention', 'self_attentions', 'self_norms'),
      ('EncDecAttention', 'cross_attentions', 'cross_norms'),
      ('DenseReluDense', 'mlps', 'mlp_norms'),
    ],
  }[name]
  state = {
    f'{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight': (
      torch.tensor(params['position_bias']['table'])
    ),
    f'{name}.final_layer_norm.weight': (
      torch.tensor(params['final_norm']['scale'])
    ),
  }
  for i in range(num_layers):
    for j, (t5_name, our_name, norm) in enumerate(sub_layers):
      layer = f'{name}.block.{i}.layer.{j}'
      scale = params[f'{norm}_{i}']['scale']
      state[f'{layer}.layer_norm.weight'] = torch.tensor(scale)
      weights = _mlp if t5_name == 'DenseReluDense' else _attention
      for part, weight in weights(params[f'{our_name}_{i}']).items():
        state[f'{layer}.{t5_name}.{part}.weight'] = weight
  return state


def _attention(params: dict[str, Any]) -> dict[str, torch.Tensor]:
  """Renames the projections, and merges the heads into one axis."""
  d_model = params['query']['kernel'].shape[0]
  weights = {
    part[0]: _transposed(params[part]['kernel'].reshape(d_model, -1))
    for part in ('query', 'key', 'value')
  }
  out = params['out']['kernel'].reshape(-1, d_model)
  return weights | {'o': _transposed(out)}


def _mlp(params: dict[str, Any]) -> dict[str, torch.Tensor]:
  return {
    'wi': _transposed(params['up']['kernel']),
    'wo': _transposed(params['down']['kernel']),
  }


def _transposed(kernel: np.ndarray) -> torch.Tensor:
  """Converts a kernel `[in, out]` to the weight of a torch layer."""
  return torch.tensor(kernel.T.copy())
