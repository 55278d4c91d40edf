"""The Python API: maps histories of item ids to recommended items."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
import threading
from typing import Any

from tiger_jax.config.config_dict import as_path
from tiger_jax.data.dataset import Dataset
from tiger_jax.recommenders.session import Session
from tiger_jax.serving import (
  browse,
  bundle,
  changes,
  hub,
  one_process,
  run,
  search,
)
from tiger_jax.serving.model import Model
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import (
  Item,
  NewItem,
  RecommendationList,
  SimilarItem,
)
from tiger_jax.serving.snapshot import Snapshot

_DEFAULTS = Options()


class Recommender:
  """A trained model and its catalog.

  Several threads may use one Recommender. Each request reads one snapshot of
  the catalog, so a change never mixes two catalogs in one answer. A change that
  raises an error leaves the catalog unchanged.

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
    self._start(Snapshot.of(Model(session, params, session.inputs.dataset)))

  def _start(self, snapshot: Snapshot) -> None:
    one_process.claim()
    snapshot.prepare()
    self._snapshot = snapshot
    self._lock = threading.Lock()

  @classmethod
  def _of(cls, snapshot: Snapshot) -> 'Recommender':
    shop = cls.__new__(cls)
    shop._start(snapshot)
    return shop

  @classmethod
  def from_workdir(cls, workdir: str | Path) -> 'Recommender':
    """Loads a trained model from the folder of a run.

    The data and Semantic IDs are those that the model was trained with, even if
    the folder now has newer ones.

    Raises:
      CheckpointError: A stage is missing, or does not belong to the model.
      UsageError: The model of the run does not generate Semantic IDs.
    """
    one_process.check()
    return cls._of(Snapshot.of(run.load(as_path(workdir, 'workdir'))))

  @classmethod
  def from_bundle(
    cls, folder: str | Path, text_model: str | None = None
  ) -> 'Recommender':
    """Loads a model from a folder that `save_bundle` wrote.

    The workdir of the run is not needed. Each file is compared with its sha256
    before it is used. No file of the folder is executed.

    A bundle does not choose which text model is loaded. If the run used a text
    model, pass its Hub name or its folder as `text_model`. Otherwise,
    `add_items` needs vectors.

    Raises:
      DataError: A file is missing, damaged or a link, or another version wrote
        the bundle. The message names the file.
      UsageError: `text_model` is set, but the run used no text model.
    """
    one_process.check()
    return cls._of(bundle.load(as_path(folder, 'folder'), text_model))

  @classmethod
  def from_hub(
    cls, repo: str, revision: str | None = None, text_model: str | None = None
  ) -> 'Recommender':
    """Loads a model that `push_to_hub` uploaded to the Hugging Face Hub.

    This method needs the library `huggingface_hub`, and uses the login and the
    cache of that library. The `revision` is a branch, a tag or a commit.

    Raises:
      DataError: A file is missing or damaged, see `from_bundle`.
      UsageError: The library is not installed, or the download failed.
    """
    one_process.check()
    return cls._of(hub.load(repo, revision, text_model))

  @property
  def snapshot(self) -> Snapshot:
    """The current model and catalog, as one immutable value."""
    return self._snapshot

  @property
  def dataset(self) -> Dataset | None:
    """The data of the run; None if the model was loaded from a bundle."""
    return self._snapshot.model.dataset

  @property
  def model_version(self) -> str:
    """A digest of the parameters and of the settings of the search."""
    return self._snapshot.model.version

  @property
  def catalog_version(self) -> int:
    """The version of the catalog: 1 after loading, plus 1 for every change."""
    return self._snapshot.catalog_version

  @property
  def num_items(self) -> int:
    """The number of items that can be recommended now."""
    return self._snapshot.num_items

  def recommend(
    self,
    history: Iterable[Any],
    k: int = 10,
    options: Options = _DEFAULTS,
    strict: bool = True,
  ) -> RecommendationList:
    """Returns the k items most likely to be bought next, best first.

    For an empty history, the method returns the items with the most events in
    the data of the run, and the result's `fallback` is 'popular'. The score of
    a popular item is the logarithm of its share of the events.

    Args:
      history: Item ids, oldest first, in a list, a column of an array or
        table, or any other ordered iterable. Integers are accepted if the ids
        of the shop are integers. The model reads the latest
        `model.max_history` items. Removed items may be in a history.
      k: The number of items. Fewer are returned only if no others are allowed.
      options: Filters, sampling and search options.
      strict: Whether an id that was never in the catalog is an error. If False,
        such ids are ignored, and the attribute `unknown` of the result lists
        them. If no id is known, the history counts as empty.

    Raises:
      UsageError: An id is unknown, or an argument has a wrong type or is out of
        range. For an unknown id, the message suggests up to three similar ids.
    """
    return search.recommend(self._snapshot, history, k, options, strict)

  def recommend_batch(
    self,
    histories: Iterable[Any],
    k: int = 10,
    options: Options = _DEFAULTS,
    strict: bool = True,
  ) -> list[RecommendationList]:
    """Returns items for several histories, see `recommend`.

    Each list equals that of `recommend`, up to float32 rounding of scores.

    Raises:
      UsageError: An id is unknown, or an argument has a wrong type or is out of
        range. The message names the history.
    """
    return search.recommend_batch(self._snapshot, histories, k, options, strict)

  def recommend_users(
    self, users: Iterable[Any], k: int = 10, options: Options = _DEFAULTS
  ) -> list[RecommendationList]:
    """Returns items for users of the run's data, given the user ids.

    The histories include the items held out for validation and test. A model
    with user tokens also reads the user ids. See also `recommend`.

    Raises:
      UsageError: The data has no such user, the model was loaded from a bundle,
        or an argument has a wrong type or is out of range.
    """
    snapshot = self._snapshot
    rows, histories = snapshot.user_histories(users)
    return search.recommend_rows(snapshot, histories, k, options, rows)

  def semantic_id(self, item: Any) -> tuple[int, ...]:
    """Returns the Semantic ID of an item.

    Raises:
      UsageError: There is no such item, or it was removed.
    """
    return self.item(item).semantic_id

  def item_of(self, semantic_id: Iterable[Any]) -> str | None:
    """Returns the id of the item with a Semantic ID; None if there is none.

    Raises:
      UsageError: The Semantic ID is not a list of integers.
    """
    return browse.item_of(self._snapshot, semantic_id)

  def item(self, item: Any) -> Item:
    """Returns the title and the Semantic ID of an item.

    Raises:
      UsageError: There is no such item, or it was removed.
    """
    snapshot = self._snapshot
    return snapshot.item(snapshot.row(item))

  def similar_items(self, item: Any, k: int = 10) -> list[SimilarItem]:
    """Returns the k items most similar to an item, most similar first.

    Items are ordered by the length of the Semantic ID prefix that they share
    with the given item, and then by the cosine similarity of the item vectors.
    With k=0, the list is empty.

    Raises:
      UsageError: There is no such item, it was removed, or `k` is out of range.
    """
    return browse.similar_items(self._snapshot, item, k)

  def search_titles(self, text: str, k: int = 20) -> list[Item]:
    """Returns up to k items whose title or id matches a text, best first.

    An item matches if each word of the text is the beginning of a word of its
    title, or if its id begins with the text. Case is ignored.
    Items whose id matches come first, then the most popular items. An empty
    text matches no item.

    Raises:
      UsageError: An argument has a wrong type or is out of range.
    """
    return browse.search_titles(self._snapshot, text, k)

  def add_items(self, items: Iterable[NewItem]) -> list[Item]:
    """Adds items to the catalog, and returns them with their Semantic IDs.

    The model recommends the new items without training. Existing IDs do not
    change. The programs are compiled again only if the catalog has no spare
    capacity. New items have no transitions and no popularity.

    An item needs a vector, unless the encoder of the run can encode its text.
    To encode text, a bundle may need a `text_model`, see `from_bundle`. The id
    of a removed item may be used again.

    Raises:
      UsageError: An id exists already or is repeated, a title is missing, a
        vector has a wrong length or is not finite, a text column is unknown,
        the text cannot be encoded, or too few Semantic IDs are free.
    """
    old, new = self._change(lambda x: changes.add_items(x, items))
    return [new.item(row) for row in range(len(old.ids), len(new.ids))]

  def remove_items(self, ids: Iterable[Any]) -> None:
    """Removes items from the catalog, so that they are not recommended.

    Histories may still contain removed items, but `item` raises an error.

    Raises:
      UsageError: An item is unknown or was removed before, or no item would be
        left.
    """
    self._change(lambda x: changes.remove_items(x, ids))

  def update_titles(self, titles: Mapping[Any, str]) -> None:
    """Changes the titles of items.

    Raises:
      UsageError: An item is unknown or was removed, or a title is empty.
    """
    self._change(lambda x: changes.update_titles(x, titles))

  def evaluate(self) -> dict[str, float]:
    """Returns the test metrics of the run, such as `recall@10`.

    The metrics are measured on the catalog of the run. Items that were added or
    removed later have no effect.

    Raises:
      UsageError: The model was loaded from a bundle, which has no histories.
    """
    return self._snapshot.model.evaluate()

  def save_bundle(self, folder: str | Path, license: str | None = None) -> None:
    """Writes the model and its catalog to a new folder, see `from_bundle`.

    The folder has the layout of a Hugging Face Hub repository, and contains no
    histories. The model card names the `license`, such as 'apache-2.0'.

    Raises:
      UsageError: The folder is not empty or cannot be written, or the license
        is not a short name.
    """
    bundle.save(self._snapshot, as_path(folder, 'folder'), license)

  def push_to_hub(
    self, repo: str, license: str | None = None, private: bool = True
  ) -> str:
    """Uploads a bundle to the Hugging Face Hub, and returns its URL.

    This method needs the library `huggingface_hub`, and uses its login. The
    repository, such as 'name/model', is created if it does not exist. A new
    repository is `private` by default. See `save_bundle` for the license.

    Raises:
      UsageError: The library is not installed, or the upload failed.
    """
    return hub.push(self._snapshot, repo, license, private)

  def _change(
    self, change: Callable[[Snapshot], Snapshot]
  ) -> tuple[Snapshot, Snapshot]:
    """Applies a change, and returns the old and the new snapshot."""
    one_process.check()
    with self._lock:
      old = self._snapshot
      new = change(old)
      if new is not old:
        new.prepare()
        self._snapshot = new
      return old, new
