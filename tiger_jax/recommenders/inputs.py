"""The inputs that a recommender is built from."""

from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import training_positions, transition_positions
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
  dataset = inputs.dataset
  items = dataset.history[training_positions(dataset)]
  counts = np.bincount(items, minlength=dataset.num_items)
  return counts.astype(np.float32)


def training_transitions(inputs: Inputs, num_rows: int = 0) -> Transitions:
  """Returns the transitions between consecutive items of training histories.

  The table has one row per item of the dataset. If these are fewer than
  `num_rows`, it is padded with rows without transitions.
  """
  dataset = inputs.dataset
  position = transition_positions(dataset)
  pairs = np.stack([dataset.history[position - 1], dataset.history[position]])
  counts = training_counts(inputs).astype(np.int64)
  counts = np.pad(counts, (0, max(0, num_rows - len(counts))))
  return Transitions.from_pairs(pairs.T, counts)
