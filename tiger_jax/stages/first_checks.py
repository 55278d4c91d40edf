"""Checks at the start of a run, because later stages can take hours."""

from collections.abc import Iterable
from pathlib import Path

from tiger_jax.checkpoints import checkpoint_folder
from tiger_jax.config import Config
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import checks, registry
from tiger_jax.recommenders.session import (
  Batches,
  check_transitions,
  training_batches,
)
from tiger_jax.stages import semantic_ids, training


def check_settings(config: Config, workdir: Path, mode: str) -> None:
  """Checks the settings, the path and the mode of a run; writes nothing.

  Raises:
    UsageError: Settings contradict each other, a required path is not set, or
      checkpoints cannot be saved at the path of `workdir`.
  """
  checks.check(config, mode)
  if problems := checks.missing_paths(config, mode):
    raise UsageError('; '.join(problems))
  checkpoint_folder.check_path(workdir.absolute())


def trains(config: Config, mode: str, workdirs: Iterable[Path]) -> bool:
  """Returns whether a mode trains a model.

  Args:
    config: The settings of the run.
    mode: A mode of the command line.
    workdirs: The folders that may hold the trained model.
  """
  if mode == 'bench':
    return registry.entry(config.model).is_trained
  return mode in ('train', 'evaluate') and not training.is_finished(
    config, workdirs
  )


def check_sizes(
  config: Config, dataset: Dataset, mode: str, is_training: bool
) -> Batches | None:
  """Checks that the dataset has enough items and events for a mode.

  Args:
    config: The settings of the run.
    dataset: The dataset of the run.
    mode: A mode of the command line.
    is_training: Whether the mode trains a model, see `trains`.

  Returns:
    The training batches, if the mode trains a model.

  Raises:
    UsageError: There are too few items to fit the quantizer.
    DataError: There are too few training examples, or no transitions for a
      mixture.
  """
  if mode in ('data', 'embed'):
    return None
  model = registry.entry(config.model)
  makes_ids = 'semantic_ids' in model.needs or mode == 'semantic_ids'
  if makes_ids and not config.semantic_ids.shared_with:
    num_items = dataset.num_items - len(dataset.unseen)
    semantic_ids.refuse_sizes(config.semantic_ids, num_items)
  batches = training_batches(config, dataset) if is_training else None
  # `train` needs this check too: the model is served with these settings.
  mixes = config.evaluation.transition_weight and model.is_generative
  if mixes and mode in ('train', 'evaluate'):
    check_transitions(dataset)
  return batches
