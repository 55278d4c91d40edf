"""The configuration: one frozen dataclass per section, checked once."""

import dataclasses

from tiger_jax.config.checks import (
  added_later,
  require_at_most,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.config.model import ModelConfig
from tiger_jax.config.train import OptimizerConfig, ParallelConfig, TrainConfig
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """Where the shop's items and histories come from.

  Attributes:
    name: `synthetic`, `files` (your own), or `amazon2014/<Category>`.
    source_dir: Folder of raw files; empty downloads the official ones.
    synthetic_users: Shoppers the synthetic shop draws.
    drop_short_users: Leave out users with fewer than three events, who cannot
      be split into train, validation and test, instead of refusing them.
    allow_missing_metadata: Keep items without a metadata record, with their
      id as their text, instead of refusing them.
    keep_repeats: Keep rows that are equal in user, item and time, instead of
      only the first of them.
    shuffle_ties: Put a user's events of one time in random order, instead of
      the order of the file.
    unseen_share: Share of the items of the test that nobody is to have bought
      before (the paper's Figure 5): they are taken out of all that comes
      before the test, and quantizers are not fitted to them.
  """

  name: str = 'synthetic'
  source_dir: str = ''
  synthetic_users: int = 3000
  drop_short_users: bool = False
  allow_missing_metadata: bool = False
  keep_repeats: bool = added_later(False, before=True)
  shuffle_ties: bool = False
  unseen_share: float = 0.0

  def __post_init__(self):
    """Checks the values."""
    require_positive(self, 'synthetic_users')
    require_at_most(self, 10**8, 'synthetic_users')
    if not 0 <= self.unseen_share < 1:
      raise UsageError(
        f'unseen_share is {self.unseen_share}: choose from [0, 1)'
      )


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
  """How an item's sentence becomes a vector.

  Attributes:
    encoder: `sentence-transformers`, `tfidf-svd` or `precomputed`.
    model: Hub name or local folder, for `sentence-transformers`. A commit or
      tag of the hub may follow the name, as in `name@revision`.
    dim: Width of the vectors that `tfidf-svd` makes.
    path: A `.npy` of `[items, dim]`, for `precomputed`.
    ids_path: A JSON list of the item id of each row of `path`.
  """

  encoder: str = 'sentence-transformers'
  model: str = 'sentence-transformers/sentence-t5-base'
  dim: int = 64
  path: str = ''
  ids_path: str = ''

  def __post_init__(self):
    """Checks the values."""
    encoders = ('sentence-transformers', 'tfidf-svd', 'precomputed')
    require_one_of(self, 'encoder', encoders)
    require_positive(self, 'dim')
    require_at_most(self, 2**16, 'dim')


# The codes of each level where a config names none, as the paper has them.
_CODEBOOK_SIZES = {
  'rq_vae': (256, 256, 256),
  'rq_kmeans': (256, 256, 256),
  'vq_vae': (256, 256, 256),
  'hierarchical_kmeans': (256, 256, 256),
  'opq': (256, 256, 256),
  'lsh': (256, 256, 256, 256),
  'random': (255, 255, 255, 255),
}


@dataclasses.dataclass(frozen=True)
class SemanticIdsConfig:
  """The quantizer that makes the IDs, and its training.

  All from `latent_dim` on concerns `rq_vae` and `vq_vae` alone.

  Attributes:
    quantizer: `rq_vae` (sections 3.1 and 4.1 of the paper), `rq_kmeans`,
      `vq_vae`, `hierarchical_kmeans`, `opq`, `lsh` or `random`.
    codebook_sizes: Codes at each level, before the collision code is
      appended; `()` takes the paper's, see `level_sizes`.
    collisions: `extra_code` numbers the items whose codes are the same;
      `nearest_free` moves all but the first of them to the nearest free codes.
    shared_with: Workdirs of other runs, whose items the quantizer is fitted to
      as well, so that their items and these share one ID space.
    latent_dim: Width of the latent space and of every code.
    hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors
      them.
    beta: Weight of the commitment loss.
    batch_size: Items in a batch.
    epochs: Passes over the items.
    kmeans_init: What k-means makes the first codebooks of, `all_items` or
      `first_batch`.
    restart_epochs: Dead codes are restarted once an epoch for so many epochs.
    optimizer: The recipe.
  """

  quantizer: str = 'rq_vae'
  codebook_sizes: tuple[int, ...] = ()
  collisions: str = 'extra_code'
  shared_with: tuple[str, ...] = ()
  latent_dim: int = 32
  hidden_dims: tuple[int, ...] = (512, 256, 128)
  beta: float = 0.25
  batch_size: int = 256
  epochs: int = 120
  kmeans_init: str = 'all_items'
  restart_epochs: int = 100
  optimizer: OptimizerConfig = OptimizerConfig(
    learning_rate=5e-3, weight_decay=0.01
  )

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Codes at each level that carries meaning."""
    return self.codebook_sizes or _CODEBOOK_SIZES[self.quantizer]

  def __post_init__(self):
    """Checks the values."""
    require_one_of(self, 'quantizer', tuple(_CODEBOOK_SIZES))
    require_one_of(self, 'collisions', ('extra_code', 'nearest_free'))
    require_one_of(self, 'kmeans_init', ('all_items', 'first_batch'))
    require_positive(self, 'latent_dim', 'batch_size', 'epochs')
    require_not_negative(self, 'beta', 'restart_epochs')
    require_at_most(self, 2**16, 'latent_dim', 'hidden_dims')
    require_at_most(self, 2**24, 'batch_size', 'codebook_sizes')
    require_at_most(self, 2**31 - 1, 'epochs', 'restart_epochs')
    if min(self.hidden_dims, default=1) < 1:
      raise UsageError(
        f'hidden_dims is {self.hidden_dims}: widths must be positive'
      )
    sizes = self.codebook_sizes
    if min(sizes, default=1) < 1:
      raise UsageError(f'codebook_sizes is {sizes}: sizes must be positive')
    if self.quantizer == 'lsh' and any(size & (size - 1) for size in sizes):
      raise UsageError(
        f'codebook_sizes is {sizes}: lsh needs powers of two, for each '
        'hyperplane doubles a codebook'
      )
    if (self.quantizer, self.collisions) == (
      'hierarchical_kmeans',
      'nearest_free',
    ):
      raise UsageError(
        "collisions is 'nearest_free': hierarchical_kmeans has no code to "
        'spare, choose extra_code'
      )
    if self.quantizer == 'vq_vae' and len(set(sizes)) > 1:
      raise UsageError(
        f'codebook_sizes is {sizes}: vq_vae has one codebook for all levels, '
        'so give them one size'
      )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """How a trained model is measured.

  Attributes:
    num_beams: Beams of the search, at least the largest cutoff.
    batch_size: Users searched for at once.
    num_users: So many users, drawn evenly, are measured; 0 for all.
    search: Of baselines that score items: `exact`, or `approximate` on
      accelerators that have a faster way to nearly all of the best.
  """

  num_beams: int = 30
  batch_size: int = 256
  num_users: int = 0
  search: str = 'exact'

  def __post_init__(self):
    """Checks the values."""
    require_not_negative(self, 'num_users')
    require_one_of(self, 'search', ('exact', 'approximate'))
    require_positive(self, 'batch_size')
    require_at_most(self, 2**20, 'batch_size', 'num_beams')
    require_at_most(self, 2**31 - 1, 'num_users')
    if self.num_beams < 10:
      raise UsageError(
        f'num_beams is {self.num_beams}: recall@10 needs at least 10'
      )


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything one run depends on.

  Attributes:
    seed: All randomness is a function of the seed and the step.
    dataset: See `DatasetConfig`.
    embedding: See `EmbeddingConfig`.
    semantic_ids: See `SemanticIdsConfig`.
    model: See `ModelConfig`.
    train: See `TrainConfig`.
    evaluation: See `EvaluationConfig`.
    parallel: See `ParallelConfig`.
  """

  seed: int = 0
  dataset: DatasetConfig = DatasetConfig()
  embedding: EmbeddingConfig = EmbeddingConfig()
  semantic_ids: SemanticIdsConfig = SemanticIdsConfig()
  model: ModelConfig = ModelConfig()
  train: TrainConfig = TrainConfig()
  evaluation: EvaluationConfig = EvaluationConfig()
  parallel: ParallelConfig = ParallelConfig()

  def __post_init__(self):
    """Checks what concerns more than one section."""
    # More bits than these, and jax.random.key would drop them.
    if not 0 <= self.seed < 2**32:
      raise UsageError(f'seed is {self.seed}: choose from [0, 2**32)')
    if self.train.length_buckets[-1:] != (self.model.max_history,):
      raise UsageError(
        f'train.length_buckets is {self.train.length_buckets}: the last must '
        f'be config.model.max_history, {self.model.max_history}'
      )
