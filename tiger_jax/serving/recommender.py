"""The Python API: raw item ids in, titles out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tiger_jax import stages
from tiger_jax.config import Config
from tiger_jax.config_dict import from_json
from tiger_jax.data.batches import request_batch
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.workdir import Artefact, read_artefact


class Recommendation(NamedTuple):
  """One recommended item.

  Attributes:
    item_id: The shop's own id.
    title: What a person calls it.
    score: Log-probability of the item as the next one.
    semantic_id: Its codes.
  """

  item_id: str
  title: str
  score: float
  semantic_id: tuple[int, ...]


class Recommender:
  """A trained model and its catalogue."""

  def __init__(
    self, config: Config, dataset: Dataset, ids: SemanticIds, params: Any
  ):
    """Takes the parts; `from_workdir` reads them from a run."""
    self.dataset = dataset
    self._config = config
    self._ids = ids
    self._params = params
    self._retriever = stages.make_retriever(
      config, ids, config.evaluation.num_beams
    )

  @classmethod
  def from_workdir(cls, workdir: str | Path) -> 'Recommender':
    """Reads what a run left.

    Args:
      workdir: Of a run that finished training.

    Raises:
      CheckpointError: A stage is missing, or does not belong to the others.
    """
    workdir = Path(workdir)
    trained = _finished(workdir, 'train')
    for name in ('data', 'semantic_ids'):
      if _finished(workdir, name).fingerprint != trained.about.get(name):
        raise CheckpointError(
          f'{workdir / name} is not what the model in {trained.folder} was '
          'trained with: run --mode=all'
        )
    config = from_json(trained.about.get('config', {}))
    ids = SemanticIds.load(workdir / 'semantic_ids')
    return cls(
      config,
      Dataset.load(workdir / 'data'),
      ids,
      stages.restore_params(config, ids, trained.folder),
    )

  def recommend(
    self, history: Sequence[str], k: int = 10
  ) -> list[Recommendation]:
    """Returns the k items most likely to be bought next, best first.

    Args:
      history: Item ids, oldest first. The latest `model.max_history` count.
      k: How many; fewer come back only from a smaller catalogue.

    Raises:
      UsageError: The history is empty or names an item that the catalogue
        does not have, or k is not positive.
    """
    if not history:
      raise UsageError('the history is empty: name at least one item id')
    if k < 1:
      raise UsageError(f'k is {k}: ask for at least 1')
    rows = self.dataset.items.rows
    unknown = [item for item in history if item not in rows]
    if unknown:
      raise UsageError(
        f'no item {unknown[0]!r} in {self.dataset.name} ({len(unknown)} of '
        f'{len(history)} in the history are unknown): ids look like '
        f'{self.dataset.items.ids[0]!r}'
      )
    return self.recommend_rows([[rows[item] for item in history]], k)[0]

  def recommend_rows(
    self,
    histories: Sequence[Sequence[int]],
    k: int = 10,
    users: Sequence[int] | None = None,
  ) -> list[list[Recommendation]]:
    """Like `recommend`, for several histories of item rows at once.

    Args:
      histories: Item rows, oldest first.
      k: How many; at most the whole catalogue.
      users: User rows, for models with a user token; None where not known.
    """
    k = min(k, self.dataset.num_items)
    batch = request_batch(histories, self._config.train.length_buckets)
    if users is not None:
      batch = batch._replace(user=np.asarray(users, np.int32))
    found = jax.device_get(self._retriever.recommend(self._params, batch, k))
    items = self.dataset.items
    return [
      [
        Recommendation(
          items.ids[row],
          items.title(row),
          score,
          tuple(map(int, self._ids.codes[row])),
        )
        for row, score, valid in zip(*entry, strict=True)
        if valid
      ]
      # As Python's own numbers.
      for entry in zip(*(x.tolist() for x in found), strict=True)
    ]


def _finished(workdir: Path, name: str) -> Artefact:
  artefact = read_artefact(workdir, name)
  if artefact is None:
    raise CheckpointError(
      f'{workdir} has no finished stage {name!r}: run --mode=train there first'
    )
  return artefact
