"""The Python API: raw item ids in, titles out."""

from collections.abc import Iterable
from pathlib import Path
import re
from typing import Any
import zlib

import jax
import numpy as np

from tiger_jax.config.recorded import config_of
from tiger_jax.data.batches import request_batch
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.serving import arguments, one_process
from tiger_jax.serving.known_ids import KnownIds
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Recommendation, Recommendations
from tiger_jax.stages import embedding, training
from tiger_jax.storage.artefacts import Artefact, find_artefact, read_artefact

# The number of histories in a search is padded to one of these.
_BATCHES = (1, 8, 32, 128)
_DEFAULTS = Options()


class Recommender:
  """A trained model and its catalog.

  Example:
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> items = shop.recommend(['P0012', 'P0345'], k=3)
    >>> len(items)
    3
    >>> shop.recommend(['P0012', 'lamp'], strict=False).unknown
    ('lamp',)
  """

  def __init__(self, session: Session, params: Any):
    """Takes the parts; `from_workdir` reads them from a run.

    Args:
      session: A run of a model that generates Semantic IDs.
      params: The parameters of the model.

    Raises:
      UsageError: The IDs belong to another catalogue; or this process is a
        fork of one that had loaded a Recommender.
    """
    one_process.claim()
    dataset, ids = session.inputs.dataset, session.inputs.semantic_ids
    if len(ids.codes) != dataset.num_items:
      raise UsageError(
        f'{len(ids.codes)} Semantic IDs do not belong to a dataset of '
        f'{dataset.num_items} items: load both from one run'
      )
    self.dataset = dataset
    self._config = session.config
    self._ids = ids
    self._known = KnownIds(dataset.items.ids, 'item', 'the catalogue')
    self._users = KnownIds(dataset.user_ids, 'user', 'the data of the run')
    self._params = params
    self._mesh = session.mesh
    assert isinstance(session.retriever, TigerRetriever)
    self._retriever = session.retriever

  @classmethod
  def from_workdir(cls, workdir: str | Path) -> 'Recommender':
    """Reads what a run left.

    Args:
      workdir: The folder of a run that finished training, with any number of
        devices. The stages that the model was trained with are read, even if
        the folder now has other ones.

    Raises:
      CheckpointError: A stage is missing, or does not belong to the others.
      UsageError: The run is of a model that generates no Semantic IDs.
    """
    one_process.check()
    workdir = Path(workdir).expanduser()
    trained = read_artefact(workdir, 'train')
    if trained is None:
      raise CheckpointError(
        f"{workdir} has no finished stage 'train': run --mode=train there first"
      )
    config = config_of(trained, lambda config: registry.entry(config.model))
    model = registry.entry(config.model)
    if not model.is_generative:
      raise UsageError(
        f'{workdir} holds {config.model.name}, which is a baseline to measure: '
        'name a run of tiger or dsi'
      )
    dataset = Dataset.load(_made_from(trained, 'data'))
    ids = SemanticIds.load(_made_from(trained, 'semantic_ids'))
    embeddings = None
    if 'embeddings' in model.needs:
      embeddings = embedding.load(_made_from(trained, 'embedding'))
    session = Session.open(config, Inputs(dataset, ids, embeddings))
    return cls(session, training.load_best(session, trained.folder).params)

  def recommend(
    self,
    history: Iterable[Any],
    k: int = 10,
    options: Options = _DEFAULTS,
    strict: bool = True,
  ) -> Recommendations:
    """Returns the k items most likely to be bought next, best first.

    Args:
      history: Item ids, oldest first, in a list, a column of an array or
        table, or any other ordered iterable. Integers are accepted if the ids
        of the shop are integers. The model reads the latest
        `model.max_history` items.
      k: The number of items. Fewer are returned only if fewer are allowed.
      options: Filters, sampling and search options.
      strict: Whether an id that the catalog does not have is an error. If
        False, such ids are ignored; the attribute `unknown` of the result lists
        them.

    Raises:
      UsageError: The history has no id, an unknown id, or only unknown ids; or
        an argument is of another type or out of range. The error names the
        three known ids that are nearest to an unknown one.
    """
    unknown: list[str] = []
    if not arguments.switch(strict, 'strict'):
      ids = arguments.item_ids(history, 'history')
      unknown = self._known.unknown(ids)
      # If no id is known, `rows` says so.
      if len(unknown) < len(ids):
        history = [x for x in ids if x not in set(unknown)]
    rows = self._known.rows(history, 'history')
    if not rows:
      raise UsageError('the history is empty: name at least one item id')
    answer = Recommendations(self._answers([rows], k, [-1], options)[0])
    answer.unknown = tuple(unknown)
    return answer

  def recommend_for_user(
    self, user: Any, k: int = 10, options: Options = _DEFAULTS
  ) -> list[Recommendation]:
    """Like `recommend`, for a user of the data that the run was trained on.

    Args:
      user: The id of the user. The history is the whole one in the data, with
        the items held out for validation and test. A model with a user token
        reads the user too.
      k: The number of items.
      options: Filters, sampling and search options.

    Raises:
      UsageError: The data have no such user, or an argument is of another type
        or out of range.
    """
    (row,) = self._users.rows([user], 'user')
    history = self.dataset.history_of(row).tolist()
    return self._answers([history], k, [row], options)[0]

  def recommend_rows(
    self,
    histories: Iterable[Any],
    k: int = 10,
    users: Iterable[Any] | None = None,
    options: Options = _DEFAULTS,
  ) -> list[list[Recommendation]]:
    """Like `recommend`, for several histories of item rows at once.

    Args:
      histories: Item rows, oldest first.
      k: How many; at most the whole catalogue.
      users: User rows, for models with a user token; -1 for an unknown user,
        None if all are unknown.
      options: Filters, sampling and search options, the same for all.

    Raises:
      UsageError: A history is empty, a row is out of range, or an argument is
        of another type.
    """
    num_items, num_users = self.dataset.num_items, self.dataset.num_users
    rows = [
      arguments.item_rows(history, f'histories[{place}]', num_items)
      for place, history in enumerate(
        arguments.listed(histories, 'histories', 'histories')
      )
    ]
    tokens = [-1] * len(rows)
    if users is not None:
      tokens = [
        arguments.whole_number(user, f'users[{place}]', -1, num_users - 1)
        for place, user in enumerate(
          arguments.listed(users, 'users', 'user rows')
        )
      ]
    if len(tokens) != len(rows):
      raise UsageError(
        f'users has {len(tokens)} entries for {len(rows)} histories: pass one '
        'for each, -1 where the user is not known'
      )
    return self._answers(rows, k, tokens, options)

  def _answers(
    self,
    histories: list[list[int]],
    k: Any,
    users: list[int],
    options: Any,
  ) -> list[list[Recommendation]]:
    """Recommends for checked histories, in batches that fit the memory."""
    one_process.check()
    k = min(arguments.whole_number(k, 'k', 1), self.dataset.num_items)
    if not isinstance(options, Options):
      raise UsageError(
        f'options is {arguments.shown(options)}: pass an Options(...)'
      )
    denied = self._known.rows(options.deny, 'deny')
    allowed, num_listed = None, len(denied)
    if options.allow is not None:
      allowed = self._known.rows(options.allow, 'allow')
      num_listed = len(allowed)
    elif options.exclude_seen:
      num_listed += max(map(len, histories), default=0)
    most = min(
      self._retriever.most_requests(k), ItemLists.most_requests(num_listed)
    )
    size = max(x for x in _BATCHES if x <= most)
    answers: list[list[Recommendation]] = []
    for start in range(0, len(histories), size):
      part = slice(start, start + size)
      beams = self._search(
        histories[part], users[part], k, options, denied, allowed
      )
      num = len(histories[part])
      # `tolist` converts them to Python numbers.
      columns = (x[:num, :k].tolist() for x in beams[:-1])
      for *request, exact_k in zip(
        *columns, beams.exact_k[:num].tolist(), strict=True
      ):
        entries = zip(*request, strict=True)
        answers.append([
          self._describe(row, codes, score, place < exact_k)
          for place, (row, codes, score, valid) in enumerate(entries)
          if valid
        ])  # fmt: skip
    return answers

  def _search(
    self,
    histories: list[list[int]],
    users: list[int],
    k: int,
    options: Options,
    denied: list[int],
    allowed: list[int] | None,
  ) -> Beams:
    batch = request_batch(
      histories, self._config.train.length_buckets, _BATCHES
    )
    batch.user[: len(users)] = users
    size = len(batch.user)
    lists = None
    if options.exclude_seen or denied or allowed is not None:
      seen = histories if options.exclude_seen else [[]] * len(histories)
      unused = [[]] * (size - len(histories))
      lists = ItemLists.of(
        [[*x, *denied] for x in (*seen, *unused)], [allowed] * size
      )
    sampler = None
    if options.temperature is not None:
      num_levels = self._ids.codes.shape[1]
      levels = options.drawn_levels or num_levels
      if levels > num_levels:
        raise UsageError(
          f'drawn_levels is {levels}: the Semantic IDs have {num_levels} codes'
        )
      # The seed depends on the history, so that its draw is reproducible.
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
    # A narrow search misses most of a draw at a high temperature.
    if options.exact or sampler:
      search = self._retriever.search_exact
    batch = sharding.shard_batch(self._mesh, batch)
    return jax.device_get(
      search(self._params, batch, k, lists=lists, sampler=sampler)
    )

  def _describe(
    self, row: int, codes: list[int], score: float, proven: bool
  ) -> Recommendation:
    items = self.dataset.items
    return Recommendation(
      items.ids[row], items.title(row), score, tuple(codes), proven
    )


def _made_from(trained: Artefact, name: str) -> Path:
  """Returns the folder of a stage that a model was trained with.

  Args:
    trained: The train stage.
    name: The other stage. Its folder may have been set aside since.
  """
  workdir, fingerprint = trained.folder.parent, str(trained.about.get(name))
  stage = None
  if re.fullmatch('[0-9a-f]{64}', fingerprint):  # It becomes part of a path.
    stage = find_artefact(workdir, name, fingerprint)
  if stage is None:
    raise CheckpointError(
      f'{workdir / name} is missing or is not what the model in '
      f'{trained.folder} was trained with: run --mode=all'
    )
  return stage.folder
