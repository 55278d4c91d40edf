"""The config section `model`."""

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
    name: A key of `recommenders.registry.MODELS`. A baseline ignores the fields
      that it does not use.
    max_history: Number of the latest items that the encoder reads.
    d_model: Width of the residual stream. In a baseline that scores items, also
      the width of the item vectors.
    num_heads: Number of attention heads.
    head_dim: Width of one head; `num_heads * head_dim` may differ from
      `d_model`.
    mlp_dim: Hidden width of the feed-forward layers.
    num_encoder_layers: Number of encoder blocks, or of layers of a baseline.
    num_decoder_layers: Number of decoder blocks.
    dropout: Dropout rate of all layers.
    num_user_tokens: Number of hash buckets for users, each with its own input
      token; 0 for no user token.
    causal_encoder: Whether an item attends only to itself and to earlier items
      in the encoder. One pass over a history then trains every prefix, and
      histories longer than `max_history` are cut into windows (see
      `data.splits.sequences`).
    tied_heads: Whether the code embeddings are also the output weights.
      Otherwise each level has its own output layer. Tied embeddings have a
      smaller initial scale, and inputs are multiplied by `sqrt(d_model)`.
    softmax: The normalization of the code probabilities. `all_codes`: over all
      codes of a level, as in the paper. `trie`: only over the codes that follow
      the prefix in the ID of some item (Wang et al., 2025). The probabilities
      of all items then sum to 1.
    recency_bias: Whether cross-attention has a learned bias. It depends on the
      head and on the number of items between a key's item and the end of the
      history.
    prefix_embeddings: Size of a table of embeddings for whole prefixes; 0 for
      no table. The encoder adds one row to the embedding of each code (Singh et
      al., 2023). The row is the hash of the earlier codes plus this code. The
      table has as many more rows as the largest level has codes.
    prefix_dropout: Probability of omitting the row of a prefix in training. It
      applies to the encoder only, not to `prefix_heads`.
    prefix_heads: Whether the embeddings of prefixes are output weights too. The
      logit of a code is then a sum of two products of the decoder state: with
      the weights of the code, and with the embedding of the prefix that ends
      with the code.
    history_bias: Whether codes that lead to items of the history have a learned
      bias, a linear function of the decoder state. Each level has two sets of
      weights: one for codes that lead only to items of the history, and one for
      codes that also lead to other items. The model thus learns how often users
      buy an item again. Needs the softmax `trie`.
    loss: The loss of baselines that score items. `cross_entropy` is over all
      items, `sampled_softmax` over the target and 256 random items per user,
      and `bce` is a binary cross-entropy with one random item per target.
    dtype: Computation dtype of training, `float32` or `bfloat16`. Parameters,
      softmax, losses and the search are always in float32.
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
  # Departs from the paper: the paper has 2,000 user tokens.
  num_user_tokens: int = 0
  causal_encoder: bool = False
  tied_heads: bool = False
  softmax: str = 'all_codes'
  recency_bias: bool = False
  prefix_embeddings: int = 0
  prefix_dropout: float = 0.5
  prefix_heads: bool = False
  history_bias: bool = False
  loss: str = 'cross_entropy'
  dtype: str = 'float32'

  def __post_init__(self):
    """Checks the values."""
    require_positive(
      self, 'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim',
      'num_encoder_layers', 'num_decoder_layers',
    )  # fmt: skip
    require_not_negative(self, 'num_user_tokens', 'prefix_embeddings')
    require_at_most(
      self, 2**16, 'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim'
    )
    require_at_most(self, 256, 'num_encoder_layers', 'num_decoder_layers')
    require_at_most(self, 2**24, 'num_user_tokens', 'prefix_embeddings')
    require_one_of(self, 'dtype', ('float32', 'bfloat16'))
    require_one_of(self, 'softmax', ('all_codes', 'trie'))
    losses = ('cross_entropy', 'sampled_softmax', 'bce')
    require_one_of(self, 'loss', losses)
    if self.prefix_heads and not self.prefix_embeddings:
      raise UsageError(
        'prefix_heads is True, but prefix_embeddings is 0: set '
        'prefix_embeddings to 32768, for example'
      )
    if self.history_bias and self.softmax != 'trie':
      raise UsageError(
        "history_bias is True, but softmax is 'all_codes': set softmax to "
        "'trie', or history_bias to False"
      )
    for name in ('dropout', 'prefix_dropout'):
      if not 0 <= (rate := getattr(self, name)) < 1:
        raise UsageError(f'{name} is {rate}: choose from [0, 1)')
