"""The Python API: raw item ids in, titles out."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple
import zlib

import jax
import numpy as np

from tiger_jax import learning, recommenders
from tiger_jax.config import Config
from tiger_jax.data.batches import request_batch
from tiger_jax.data.dataset import Dataset
from tiger_jax.decoding.beam_search import Beams
from tiger_jax.decoding.filters import ItemLists
from tiger_jax.decoding.sampling import Sampler
from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.recommenders import Material
from tiger_jax.recorded_config import config_of
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.tokenization import read_embeddings
from tiger_jax.training import sharding
from tiger_jax.workdir import Artefact, read_artefact

# Requests are searched for so many at once, filled up to one of these.
_BATCHES = (1, 8, 32, 128)


class Recommendation(NamedTuple):
  """One recommended item.

  Attributes:
    item_id: The shop's own id.
    title: What a person calls it.
    score: Log-probability of the item as the next one.
    semantic_id: Its codes.
    proven: Whether this and those before it are what a search of any width
      would return: no other item ranks as high.
  """

  item_id: str
  title: str
  score: float
  semantic_id: tuple[int, ...]
  proven: bool


@dataclasses.dataclass(frozen=True)
class Options:
  """What is asked of a recommendation besides the history.

  Attributes:
    exclude_seen: Leave out the items of the history, all of it.
    deny: Ids of items to leave out.
    allow: Ids of the only items to recommend; None for all.
    temperature: Draw the items at random, the more varied the higher this is;
      None recommends the most probable ones. Where items are drawn, they come
      in the order of the draw.
    drawn_levels: Draw only so many first codes of the Semantic IDs; None for
      all.
    seed: Of the draw: the same items for the same history, k and seed.
    exact: Widen the search, to 4,096 beams at most, until it is proven that no
      other item ranks above those returned.
  """

  exclude_seen: bool = False
  deny: Sequence[str] = ()
  allow: Sequence[str] | None = None
  temperature: float | None = None
  drawn_levels: int | None = None
  seed: int = 0
  exact: bool = False

  def __post_init__(self):
    """Checks the values."""
    if self.temperature is None:
      if self.drawn_levels is not None or self.seed:
        raise UsageError(
          'drawn_levels and seed are of a draw: set a temperature too'
        )
    elif not 1e-3 <= self.temperature <= 1e3:
      raise UsageError(
        f'temperature is {self.temperature}: choose from 0.001 to 1000'
      )
    if self.drawn_levels is not None and self.drawn_levels < 1:
      raise UsageError(
        f'drawn_levels is {self.drawn_levels}: draw at least the first'
      )
    if not 0 <= self.seed < 2**32:
      raise UsageError(f'seed is {self.seed}: choose from [0, 2**32)')


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
    self._mesh = learning.make_mesh(config)
    self._retriever = recommenders.make_tiger(
      config, ids, self._mesh, config.evaluation.num_beams
    )

  @classmethod
  def from_workdir(cls, workdir: str | Path) -> 'Recommender':
    """Reads what a run left.

    Args:
      workdir: Of a run that finished training.

    Raises:
      CheckpointError: A stage is missing, or does not belong to the others.
      UsageError: The run is of a model that generates no Semantic IDs.
    """
    workdir = Path(workdir)
    trained = _finished(workdir, 'train')
    config = config_of(trained)
    if not config.model.is_generative:
      raise UsageError(
        f'{workdir} holds {config.model.name}, which is a baseline to measure: '
        'name a run of tiger or dsi'
      )
    for name in ('data', 'semantic_ids', 'embedding'):
      if name == 'embedding' and 'embeddings' not in config.model.needs:
        continue
      if _finished(workdir, name).fingerprint != trained.about.get(name):
        raise CheckpointError(
          f'{workdir / name} is not what the model in {trained.folder} was '
          'trained with: run --mode=all'
        )
    dataset = Dataset.load(workdir / 'data')
    ids = SemanticIds.load(workdir / 'semantic_ids')
    embeddings = None
    if 'embeddings' in config.model.needs:
      embeddings = read_embeddings(workdir / 'embedding')
    material = Material(dataset, ids, embeddings)
    params, best = learning.restore_params(config, material, trained.folder)
    num_replicas = len(learning.replicas(config))
    return cls(
      config,
      dataset,
      ids,
      learning.one_replica(params, num_replicas, best),
    )

  def recommend(
    self,
    history: Sequence[str],
    k: int = 10,
    options: Options = Options(),
  ) -> list[Recommendation]:
    """Returns the k items most likely to be bought next, best first.

    Args:
      history: Item ids, oldest first. The latest `model.max_history` count.
      k: How many; fewer come back only where there are no more that may be
        recommended.
      options: What else is asked for.

    Raises:
      UsageError: The history is empty, the catalogue does not have an item
        that is named, or k is not positive.
    """
    if not history:
      raise UsageError('the history is empty: name at least one item id')
    if k < 1:
      raise UsageError(f'k is {k}: ask for at least 1')
    rows = self._rows(history, 'the history')
    return self.recommend_rows([rows], k, options=options)[0]

  def recommend_rows(
    self,
    histories: Sequence[Sequence[int]],
    k: int = 10,
    users: Sequence[int] | None = None,
    options: Options = Options(),
  ) -> list[list[Recommendation]]:
    """Like `recommend`, for several histories of item rows at once.

    Args:
      histories: Item rows, oldest first.
      k: How many; at most the whole catalogue.
      users: User rows, for models with a user token; None where not known.
      options: What else is asked for, the same for all.
    """
    k = min(k, self.dataset.num_items)
    users = [-1] * len(histories) if users is None else users
    found: list[list[Recommendation]] = []
    for start in range(0, len(histories), _BATCHES[-1]):
      part = slice(start, start + _BATCHES[-1])
      beams = self._search(histories[part], users[part], k, options)
      # As Python's own numbers.
      columns = (x[: len(histories[part])].tolist() for x in beams)
      for *request, exact_k in zip(*columns, strict=True):
        entries = list(zip(*request, strict=True))[:k]
        found.append([
          self._describe(row, codes, score, place < exact_k)
          for place, (row, codes, score, valid) in enumerate(entries)
          if valid
        ])  # fmt: skip
    return found

  def _search(
    self,
    histories: Sequence[Sequence[int]],
    users: Sequence[int],
    k: int,
    options: Options,
  ) -> Beams:
    batch = request_batch(
      histories, self._config.train.length_buckets, _BATCHES
    )
    batch.user[: len(users)] = users
    size = len(batch.user)
    lists = None
    if options.exclude_seen or options.deny or options.allow is not None:
      denied = self._rows(options.deny, 'deny')
      seen = histories if options.exclude_seen else [[]] * len(histories)
      unused = [[]] * (size - len(histories))
      allowed = None
      if options.allow is not None:
        allowed = [self._rows(options.allow, 'allow')] * size
      lists = ItemLists.of([[*x, *denied] for x in (*seen, *unused)], allowed)
    sampler = None
    if options.temperature is not None:
      levels = options.drawn_levels or self._ids.codes.shape[1]
      # Another draw for every history, and the same one whenever it comes.
      seeds = [
        zlib.crc32(np.asarray(history, np.int32).tobytes(), options.seed)
        for history in histories
      ]
      sampler = Sampler(
        np.resize(np.array(seeds, np.uint32), size),
        np.float32(options.temperature),
        np.int32(levels),
      )
    search = self._retriever.search
    if options.exact:
      search = self._retriever.search_exact
    batch = sharding.shard_batch(self._mesh, batch)
    return jax.device_get(
      search(self._params, batch, k, lists=lists, sampler=sampler)
    )

  def _rows(self, ids: Sequence[str], where: str) -> list[int]:
    rows = self.dataset.items.rows
    unknown = [item for item in ids if item not in rows]
    if unknown:
      raise UsageError(
        f'no item {unknown[0]!r} in {self.dataset.name} ({len(unknown)} of '
        f'{len(ids)} in {where} are unknown): ids look like '
        f'{self.dataset.items.ids[0]!r}'
      )
    return [rows[item] for item in ids]

  def _describe(
    self, row: int, codes: list[int], score: float, proven: bool
  ) -> Recommendation:
    items = self.dataset.items
    return Recommendation(
      items.ids[row], items.title(row), score, tuple(codes), proven
    )


def _finished(workdir: Path, name: str) -> Artefact:
  artefact = read_artefact(workdir, name)
  if artefact is None:
    raise CheckpointError(
      f'{workdir} has no finished stage {name!r}: run --mode=train there first'
    )
  return artefact
