"""The settings of a run, as one frozen dataclass per section."""

from collections.abc import Mapping
import dataclasses
from typing import Any

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
  """The settings of a run.

  Example:
    >>> import tiger_jax
    >>> config = tiger_jax.Config.from_file('configs/quickstart.py')
    >>> config.train.batch_size
    256

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
    # jax.random.key ignores all but the last 32 bits.
    if not 0 <= self.seed < 2**32:
      raise UsageError(f'seed is {self.seed}: choose from [0, 2**32)')
    if self.train.length_buckets[-1:] != (self.model.max_history,):
      raise UsageError(
        f'train.length_buckets is {self.train.length_buckets}: the last must '
        f'be config.model.max_history, {self.model.max_history}'
      )

  @classmethod
  def from_file(
    cls, path: str, overrides: Mapping[str, Any] | None = None
  ) -> 'Config':
    """Reads a config file.

    Example:
      >>> from tiger_jax import Config
      >>> config = Config.from_file('configs/beauty.py:cpu', {'train.steps': 9})
      >>> config.train.steps
      9

    Args:
      path: The path of the file. It may end with `:` and the name of a variant.
        If there is no file at a path of the form `configs/...`, the file of
        this name in the installation is read.
      overrides: Maps fields to their values, as in `{'train.steps': 500}`.

    Raises:
      UsageError: There is no such file, variant or field, or a value is not
        valid. The message names all wrong values.
    """
    # Imported here, because `config_dict` imports this class.
    from tiger_jax.config import config_dict, config_file

    settings = config_file.load(path)
    if 'experiment' in settings:
      raise UsageError(
        f'{path} is an experiment of several runs: name the config of one run'
      )
    config_file.override(settings, overrides or {})
    return config_dict.parse(settings)
