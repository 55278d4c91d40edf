"""The settings of a run, as one frozen dataclass per section."""

import dataclasses

from tiger_jax.config.dataset import ColumnsConfig, DatasetConfig
from tiger_jax.config.embedding import EmbeddingConfig
from tiger_jax.config.evaluation import EvaluationConfig
from tiger_jax.config.model import ModelConfig
from tiger_jax.config.semantic_ids import SemanticIdsConfig
from tiger_jax.config.train import OptimizerConfig, ParallelConfig, TrainConfig
from tiger_jax.errors import UsageError

__all__ = [
  'ColumnsConfig',
  'Config',
  'DatasetConfig',
  'EmbeddingConfig',
  'EvaluationConfig',
  'ModelConfig',
  'OptimizerConfig',
  'ParallelConfig',
  'SemanticIdsConfig',
  'TrainConfig',
]


@dataclasses.dataclass(frozen=True)
class Config:
  """The settings of a run.

  Example:
    >>> import tiger_jax
    >>> config = tiger_jax.load_config('configs/quickstart.py')
    >>> config.train.batch_size
    64

  Attributes:
    seed: The seed of all random numbers.
    dataset: The items and the histories.
    embedding: The vectors of the items.
    semantic_ids: The quantizer that makes the Semantic IDs.
    model: The recommender.
    train: The training of the recommender.
    evaluation: The measurement of the trained recommender.
    parallel: The division of the work between devices.
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
    """Checks the seed, and fields that depend on another section."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if type(value) is not field.type:
        name = getattr(field.type, '__name__', field.type)
        raise UsageError(
          f'{field.name} is {value!r}: it must be of type {name}'
        )
    # jax.random.key ignores all but the last 32 bits.
    if not 0 <= self.seed < 2**32:
      raise UsageError(f'seed is {self.seed}: choose from [0, 2**32)')
    if self.train.length_buckets[-1:] != (self.model.max_history,):
      raise UsageError(
        f'train.length_buckets is {self.train.length_buckets}: the last length '
        f'must be config.model.max_history, which is {self.model.max_history}'
      )
