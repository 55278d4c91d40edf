"""The section of the model."""

import dataclasses

from tiger_jax.config.checks import (
  require_at_most,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The recommender: TIGER (section 4.1 of the paper), or a baseline.

  Attributes:
    name: A key of `recommenders.registry.MODELS`. A baseline reads those of
      the fields below that it has.
    max_history: The encoder reads so many of the latest items.
    d_model: Width of the residual stream; of a baseline that scores items, of
      their vectors too.
    num_heads: Attention heads.
    head_dim: Width of one head; `num_heads * head_dim` need not be `d_model`.
    mlp_dim: Hidden width of the feed-forward layers.
    num_encoder_layers: Encoder blocks, or layers of a baseline.
    num_decoder_layers: Decoder blocks.
    dropout: Rate of every dropout.
    num_user_tokens: Hash buckets of the user token; 0 leaves it out.
    causal_encoder: Whether an item sees only itself and earlier ones in the
      encoder. One pass over a history then trains every prefix of it, and
      histories longer than `max_history` are cut into windows, see
      `data.splits.sequences`.
    tied_heads: Whether codes are scored by their embeddings, instead of by
      heads that are learnt beside them. All embeddings then begin smaller, and
      are scaled up by the root of `d_model` where they are read.
    loss: Of baselines that score items: `cross_entropy` over all of them,
      `sampled_softmax` over the target and 256 drawn for a user, or `bce`, a
      binary cross-entropy with one that is drawn for the target.
    dtype: The dtype of training, `float32` or `bfloat16`; parameters,
      softmax and losses stay in float32. The search is always in float32.
  """

  name: str = 'tiger'
  max_history: int = 20
  d_model: int = 128
  num_heads: int = 6
  head_dim: int = 64
  mlp_dim: int = 1024
  num_encoder_layers: int = 4
  num_decoder_layers: int = 4
  dropout: float = 0.1
  # Departs from the paper: it has 2,000 user tokens.
  num_user_tokens: int = 0
  causal_encoder: bool = False
  tied_heads: bool = False
  loss: str = 'cross_entropy'
  dtype: str = 'float32'

  def __post_init__(self):
    """Checks the values."""
    require_positive(
      self, 'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim',
      'num_encoder_layers', 'num_decoder_layers',
    )  # fmt: skip
    require_not_negative(self, 'num_user_tokens')
    require_at_most(
      self, 2**16, 'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim'
    )
    require_at_most(self, 256, 'num_encoder_layers', 'num_decoder_layers')
    require_at_most(self, 2**24, 'num_user_tokens')
    require_one_of(self, 'dtype', ('float32', 'bfloat16'))
    losses = ('cross_entropy', 'sampled_softmax', 'bce')
    require_one_of(self, 'loss', losses)
    if not 0 <= self.dropout < 1:
      raise UsageError(f'dropout is {self.dropout}: choose from [0, 1)')
