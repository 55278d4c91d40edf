"""The configuration: one frozen dataclass per section."""

import dataclasses

from tiger_jax.config.dataset import DatasetConfig
from tiger_jax.config.embedding import EmbeddingConfig
from tiger_jax.config.evaluation import EvaluationConfig
from tiger_jax.config.model import ModelConfig
from tiger_jax.config.semantic_ids import SemanticIdsConfig
from tiger_jax.config.train import OptimizerConfig, ParallelConfig, TrainConfig
from tiger_jax.errors import UsageError

__all__ = [
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
    # jax.random.key ignores further bits.
    if not 0 <= self.seed < 2**32:
      raise UsageError(f'seed is {self.seed}: choose from [0, 2**32)')
    if self.train.length_buckets[-1:] != (self.model.max_history,):
      raise UsageError(
        f'train.length_buckets is {self.train.length_buckets}: the last must '
        f'be config.model.max_history, {self.model.max_history}'
      )
