"""The Python API: maps histories of item ids to recommended items."""

from collections.abc import Iterable
import dataclasses
from pathlib import Path
from typing import Any
import zlib

import jax
import numpy as np

from tiger_jax.config.config_dict import as_path
from tiger_jax.config.recorded import config_of
from tiger_jax.data.batches import request_batch
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.interfaces import ItemLists
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.mixture import Gate
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.serving import arguments, one_process
from tiger_jax.serving.known_ids import KnownIds
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Recommendation, RecommendationList
from tiger_jax.stages import embedding, training
from tiger_jax.storage.artifacts import input_folder, read_artifact

# The number of histories in a search is padded to one of these sizes.
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
    """Takes a session and parameters; `from_workdir` loads them from a run.

    Args:
      session: A session of a model that generates Semantic IDs.
      params: The parameters of the model.

    Raises:
      UsageError: The Semantic IDs belong to a different catalog, or this
        process was forked from a process that had loaded a Recommender.
    """
    one_process.claim()
    dataset, ids = session.inputs.dataset, session.inputs.semantic_ids
    if len(ids.codes) != dataset.num_items:
      raise UsageError(
        f'{len(ids.codes)} Semantic IDs do not belong to a dataset of '
        f'{dataset.num_items} items: load both from one run'
      )
    self.dataset = dataset
    self._session = session
    self._ids = ids
    self._known = KnownIds(dataset.items.ids, 'item', 'the catalog')
    self._users = KnownIds(dataset.user_ids, 'user', 'the data of the run')
    self._params = params
    self._mesh = session.mesh
    self._retriever = self._mixed(_DEFAULTS)

  @classmethod
  def from_workdir(cls, workdir: str | Path) -> 'Recommender':
    """Loads a trained model from the folder of a run.

    The data and Semantic IDs are those that the model was trained with, even if
    the folder now has newer ones.

    Args:
      workdir: The folder of a run that finished training, on any number of
        devices.

    Raises:
      CheckpointError: A stage is missing, or does not belong to the model.
      UsageError: The model of the run does not generate Semantic IDs.
    """
    one_process.check()
    workdir = as_path(workdir, 'workdir')
    if not workdir.is_dir():
      raise CheckpointError(
        f'there is no folder {workdir}: name the folder of a finished run'
      )
    trained = read_artifact(workdir, 'train')
    if trained is None:
      raise CheckpointError(
        f"{workdir} has no finished stage 'train': repeat the command of the "
        f'run with --workdir={workdir} --mode=train first'
      )
    config = config_of(trained, lambda config: registry.entry(config.model))
    model = registry.entry(config.model)
    if not model.is_generative:
      raise UsageError(
        f'{workdir} holds a run of {config.model.name}, a baseline that can be '
        'evaluated but not served: choose a run of tiger or dsi'
      )
    dataset = Dataset.load(input_folder(trained, 'data'))
    ids = SemanticIds.load(input_folder(trained, 'semantic_ids'))
    embeddings = None
    if 'embeddings' in model.needs:
      embeddings = embedding.load(input_folder(trained, 'embedding'))
    session = Session.open(config, Inputs(dataset, ids, embeddings))
    return cls(session, training.load_best(session, trained.folder).params)

  def recommend(
    self,
    history: Iterable[Any],
    k: int = 10,
    options: Options = _DEFAULTS,
    strict: bool = True,
  ) -> RecommendationList:
    """Returns the k items most likely to be bought next, best first.

    Args:
      history: Item ids, oldest first, in a list, a column of an array or
        table, or any other ordered iterable. Integers are accepted if the ids
        of the shop are integers. The model reads the latest
        `model.max_history` items.
      k: The number of items. Fewer are returned only if fewer are allowed.
      options: Filters, sampling and search options.
      strict: Whether an id that is not in the catalog is an error. If False,
        such ids are ignored, and the attribute `unknown` of the result lists
        them.

    Raises:
      UsageError: The history is empty, an id is unknown (with `strict=False`:
        all ids are unknown), or an argument has a wrong type or is out of
        range. For an unknown id, the message suggests up to three similar ids.
    """
    unknown: list[str] = []
    if not arguments.switch(strict, 'strict'):
      history = arguments.item_ids(history, 'history')
      unknown = self._known.unknown(history)
      # If no id is known, `rows` below raises an error.
      if len(unknown) < len(history):
        ignored = set(unknown)
        history = [x for x in history if x not in ignored]
    rows = self._known.rows(history, 'history')
    if not rows:
      raise UsageError('the history is empty: name at least one item id')
    items = RecommendationList(self._recommend([rows], k, [-1], options)[0])
    items.unknown = tuple(unknown)
    return items

  def recommend_for_user(
    self, user: Any, k: int = 10, options: Options = _DEFAULTS
  ) -> RecommendationList:
    """Returns items for a user in the data of the run, see `recommend`.

    Args:
      user: The id of the user. The history includes the items held out for
        validation and test. A model with user tokens also reads the user id.
      k: The number of items.
      options: Filters, sampling and search options.

    Raises:
      UsageError: The data has no such user, or an argument has a wrong type or
        is out of range.
    """
    (row,) = self._users.rows([user], 'user')
    history = self.dataset.history_of(row).tolist()
    return RecommendationList(self._recommend([history], k, [row], options)[0])

  def recommend_rows(
    self,
    histories: Iterable[Any],
    k: int = 10,
    users: Iterable[Any] | None = None,
    options: Options = _DEFAULTS,
  ) -> list[list[Recommendation]]:
    """Returns items for several histories of item rows, see `recommend`.

    Args:
      histories: The item rows of each history, oldest first.
      k: The number of items for each history.
      users: The user row of each history, for models with user tokens; -1 for
        an unknown user. None if all users are unknown.
      options: Filters, sampling and search options, the same for all histories.

    Raises:
      UsageError: A history is empty, a row is out of range, or an argument has
        a wrong type.
    """
    num_items, num_users = self.dataset.num_items, self.dataset.num_users
    rows = [
      arguments.item_rows(history, f'histories[{place}]', num_items)
      for place, history in enumerate(
        arguments.listed(histories, 'histories', 'histories')
      )
    ]
    user_rows = [-1] * len(rows)
    if users is not None:
      user_rows = [
        arguments.whole_number(user, f'users[{place}]', -1, num_users - 1)
        for place, user in enumerate(
          arguments.listed(users, 'users', 'user rows')
        )
      ]
    if len(user_rows) != len(rows):
      raise UsageError(
        f'users has {len(user_rows)} entries for {len(rows)} histories: pass '
        'one for each history, -1 for an unknown user'
      )
    return self._recommend(rows, k, user_rows, options)

  def _recommend(
    self,
    histories: list[list[int]],
    k: Any,
    users: list[int],
    options: Any,
  ) -> list[list[Recommendation]]:
    """Recommends for validated histories, in batches that fit into memory."""
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
    max_requests = min(
      self._retriever.max_requests(k), ItemLists.max_requests(num_listed)
    )
    size = max(x for x in _BATCHES if x <= max_requests)
    recommendations: list[list[Recommendation]] = []
    for start in range(0, len(histories), size):
      part = slice(start, start + size)
      beams = self._search(
        histories[part], users[part], k, options, denied, allowed
      )
      num_requests = len(histories[part])
      # `tolist` converts the entries to Python numbers.
      columns = (x[:num_requests, :k].tolist() for x in beams[:-1])
      for *request, exact_k in zip(
        *columns, beams.exact_k[:num_requests].tolist(), strict=True
      ):
        entries = zip(*request, strict=True)
        recommendations.append([
          self._describe(row, codes, score, place < exact_k)
          for place, (row, codes, score, valid) in enumerate(entries)
          if valid
        ])  # fmt: skip
    return recommendations

  def _mixed(self, options: Options) -> TigerRetriever:
    """Returns the retriever with the mixture that the options choose."""
    config = self._session.config.evaluation
    weight, kappa = options.transition_weight, options.transition_kappa
    if weight is not None:
      config = dataclasses.replace(config, transition_weight=weight)
    if kappa is not None:
      if not config.transition_weight:
        raise UsageError(
          'transition_kappa has no effect, because transition_weight is 0: set '
          'a transition_weight too'
        )
      config = dataclasses.replace(config, transition_kappa=kappa)
    retriever = self._session.mixed(Gate.from_config(config))
    assert isinstance(retriever, TigerRetriever)
    return retriever

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
      histories, self._session.config.train.length_buckets, _BATCHES
    )
    batch.user[: len(users)] = users
    size = len(batch.user)
    lists = None
    if options.exclude_seen or denied or allowed is not None:
      seen = histories if options.exclude_seen else [[]] * len(histories)
      padding = [[]] * (size - len(histories))
      lists = ItemLists.of(
        [[*x, *denied] for x in (*seen, *padding)], [allowed] * size
      )
    sampler = None
    if options.temperature is not None:
      num_levels = self._ids.codes.shape[1]
      num_drawn = options.drawn_levels or num_levels
      if num_drawn > num_levels:
        raise UsageError(
          f'drawn_levels is {num_drawn}, but the Semantic IDs have '
          f'{num_levels} codes: choose at most {num_levels}'
        )
      # The seed depends on the history, so that different histories in a batch
      # get different draws, and the same history always gets the same draw.
      seeds = [
        zlib.crc32(np.asarray(history, np.int32).tobytes(), options.seed)
        for history in histories
      ]
      sampler = Sampler(
        np.resize(np.array(seeds, np.uint32), size),
        np.float32(options.temperature),
        np.int32(num_drawn),
      )
    retriever = self._retriever
    if (options.transition_weight, options.transition_kappa) != (None, None):
      retriever = self._mixed(options)
    search = retriever.search
    # At a high temperature, few beams would miss most of the drawn items.
    if options.exact or sampler:
      search = retriever.search_exact
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
