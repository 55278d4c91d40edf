"""The inputs that a recommender is built from."""

from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import UsageError
from tiger_jax.models.baselines.transitions import Transitions
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.ids import SemanticIds


class Inputs(NamedTuple):
  """A dataset, with the Semantic IDs and the vectors of its items.

  `ids` and `embeddings` are None for a model that does not need them.
  """

  dataset: Dataset
  ids: SemanticIds | None = None
  embeddings: Float[np.ndarray, 'items dim'] | None = None

  @property
  def semantic_ids(self) -> SemanticIds:
    """The Semantic IDs, for a model that needs them."""
    assert self.ids is not None
    return self.ids

  @property
  def vectors(self) -> Float[np.ndarray, 'items dim']:
    """The item vectors, for a model that needs them."""
    assert self.embeddings is not None
    return self.embeddings

  @property
  def prefixes(self) -> Int[np.ndarray, 'items l'] | None:
    """The semantic prefix of every item; None without Semantic IDs."""
    return self.ids.prefixes if self.ids else None


def standardized_vectors(inputs: Inputs) -> Float[np.ndarray, 'items dim']:
  """Returns the item vectors with mean 0 and variance 1."""
  return item_batches.standardize(inputs.vectors)


def vectors(inputs: Inputs) -> Float[np.ndarray, 'items dim']:
  """Returns the item vectors."""
  return np.asarray(inputs.vectors, np.float32)


def prefixes(inputs: Inputs) -> Int[np.ndarray, 'items l']:
  """Returns the semantic prefix of every item."""
  return inputs.semantic_ids.prefixes


def training_counts(inputs: Inputs) -> Float[np.ndarray, ' items']:
  """Returns how often each item occurs in the training histories."""
  return splits.training_counts(inputs.dataset).astype(np.float32)


def refuse_shards(dataset: Dataset) -> None:
  """Raises UsageError if the training histories are in shards."""
  if dataset.training_counts is not None:
    raise UsageError(
      'the training histories are in shards, whose transitions are not known: '
      'choose config.model.name=tiger without config.evaluation.'
      'transition_weight'
    )


def training_transitions(inputs: Inputs, num_rows: int = 0) -> Transitions:
  """Returns the transitions between consecutive items of training histories.

  The table has one row per item of the dataset. If these are fewer than
  `num_rows`, it is padded with rows without transitions.

  Raises:
    UsageError: The training histories are in shards.
  """
  dataset = inputs.dataset
  refuse_shards(dataset)
  position = splits.transition_positions(dataset)
  pairs = np.stack([dataset.history[position - 1], dataset.history[position]])
  counts = splits.training_counts(dataset)
  counts = np.pad(counts, (0, max(0, num_rows - len(counts))))
  return Transitions.from_pairs(pairs.T, counts)
