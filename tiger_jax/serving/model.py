"""The parts of a Recommender that do not change with the catalog."""

from collections.abc import Callable
import dataclasses
import functools
import hashlib
import json
import threading
from typing import Any

import jax
from jaxtyping import Float
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import EmbeddingConfig
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.embedding.encoders import (
  USES_TEXT_MODEL,
  can_encode_new_text,
  text_encoder,
)
from tiger_jax.embedding.text import columns
from tiger_jax.errors import DataError, UsageError
from tiger_jax.evaluation.measure import measure
from tiger_jax.evaluation.ranking import Search, Trained, split_users
from tiger_jax.models.baselines.transitions import Transitions
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.mixture import Gate, Mixture
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.serving import one_process
from tiger_jax.serving.arguments import shown
from tiger_jax.serving.known_ids import KnownIds
from tiger_jax.serving.options import Options

Vectors = Float[np.ndarray, 'items dim']


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
  """A trained model and the data needed to change its catalog.

  Attributes:
    session: The session of the run or of the bundle.
    params: The parameters.
    dataset: The data of the run; None if the model was loaded from a bundle.
    read_vectors: A function that returns the item vectors of the run, or None
      if there are none.
    read_tokenizer: A function that returns the tokenizer, or None.
    read_results: A function that returns the content of `results.json`.
    text_model: The text model that the caller passed when loading a bundle;
      None if it was omitted, or if the model was loaded from a run.
  """

  session: Session
  params: Any
  dataset: Dataset | None
  read_vectors: Callable[[], Vectors | None] = lambda: None
  read_tokenizer: Callable[[], Tokenizer | None] = lambda: None
  read_results: Callable[[], dict[str, Any]] = lambda: {}
  text_model: str | None = None

  @functools.cached_property
  def version(self) -> str:
    """A digest of the parameters and of the settings of the search."""
    c = self.session.config
    settings = {
      'model': dataclasses.asdict(c.model),
      'evaluation': dataclasses.asdict(c.evaluation),
      'length_buckets': c.train.length_buckets,
      'level_sizes': self.session.inputs.semantic_ids.level_sizes,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in sorted(named_arrays(self.params).items()):
      digest.update(f'{name} {array.dtype} {array.shape} '.encode())
      digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]

  @property
  def num_items(self) -> int:
    """The number of items in the run or in the bundle."""
    return self.session.inputs.dataset.num_items

  @functools.cached_property
  def vectors(self) -> Vectors | None:
    """The vectors of the first `num_items` rows; None if there are none."""
    return self.read_vectors()

  @functools.cached_property
  def tokenizer(self) -> Tokenizer | None:
    """The tokenizer that gives IDs to new items; None if there is none."""
    return self.read_tokenizer()

  @functools.cached_property
  def encode(self) -> Callable[[Items], Vectors]:
    """The encoder of the text of new items.

    Raises:
      UsageError: The run's encoder cannot encode new text, or is not installed.
    """
    recorded = self.session.config.embedding
    if recorded.encoder == USES_TEXT_MODEL and not self._embedding.model:
      name = shown(recorded.model or 'FOLDER')
      raise UsageError(
        'a bundle does not choose which text model is loaded: load the '
        f'bundle with from_bundle(folder, text_model={name}), or pass the '
        'vector of each item as vector='
      )
    return text_encoder(self._embedding, self._items)

  @property
  def can_encode_text(self) -> bool:
    """Whether `encode` can encode the text of new items."""
    return can_encode_new_text(self._embedding, self._items)

  @property
  def text_columns(self) -> tuple[str, ...]:
    """The columns that the text of a new item may have, besides its title."""
    names = (*FIELDS, *columns(self._embedding.template))
    return tuple(dict.fromkeys(name for name in names if name != 'title'))

  @property
  def _embedding(self) -> EmbeddingConfig:
    """The encoder config. A text model named by a bundle is never loaded."""
    recorded = self.session.config.embedding
    if self.dataset is not None:
      return recorded
    return dataclasses.replace(recorded, model=self.text_model or '')

  @property
  def _items(self) -> Items | None:
    return self.dataset.items if self.dataset is not None else None

  @property
  def transitions(self) -> Transitions | None:
    """The transitions of the training data; None if there are none."""
    try:
      return self.mixtures.transitions
    except DataError:
      return None

  def retriever(self, catalog: Catalog) -> TigerRetriever:
    """Returns the retriever over a catalog, with the mixture of the run."""
    retriever = self.session.retriever
    assert isinstance(retriever, TigerRetriever)
    mixture = self.mixtures.of(Options())
    return retriever.with_catalog(catalog).with_mixture(mixture)

  def require_dataset(self, method: str) -> Dataset:
    """Returns the data of the run; raises UsageError if there are none.

    Args:
      method: The method that needs the data, for the error message.
    """
    if self.dataset is None:
      raise UsageError(
        f'{method} needs the histories of the run, and a bundle has none: load '
        'the run with from_workdir'
      )
    return self.dataset

  @functools.cached_property
  def users(self) -> KnownIds:
    """The ids of the users of the run."""
    ids = self.require_dataset('this method').user_ids
    return KnownIds(ids, 'user', 'the data of the run')

  def evaluate(self) -> dict[str, float]:
    """Returns the test metrics, see `Recommender.evaluate`."""
    one_process.check()
    self.require_dataset('evaluate')
    values, _ = measure(
      Trained(self.session, self.params),
      split_users(self.session, 'test'),
      Search.from_config(self.session.config.evaluation),
    )
    return values

  @functools.cached_property
  def mixtures(self) -> 'Mixtures':
    """The mixtures of the model with transition counts, by options."""
    return Mixtures(self.session)


class Mixtures:
  """Makes the mixture of the model with transition counts for a request."""

  def __init__(self, session: Session):
    """Takes the session, whose config has the default values."""
    self._session = session
    self._lock = threading.Lock()

  def of(self, options: Options) -> Mixture | None:
    """Returns the mixture of a request; None if only the model ranks items.

    Raises:
      UsageError: `transition_kappa` is set without a `transition_weight`, or
        `transition_weight` is set and there are no transitions.
      DataError: The run sets a weight, and there are no transitions.
    """
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
    gate = Gate.from_config(config)
    if gate is None:
      return None
    try:
      transitions = self.transitions
    except DataError as error:
      if weight is None:  # The run sets the weight.
        raise
      raise UsageError(
        f'transition_weight is {weight:g}, but the model has no transitions of '
        'training data: leave out transition_weight, or set it to 0'
      ) from error
    mixture = Mixture.of(transitions, gate)
    return sharding.replicate(self._session.mesh, mixture)

  @property
  def transitions(self) -> Transitions:
    """The transitions of the training data, counted on first access.

    Raises:
      DataError: The training data have no transitions.
    """
    with self._lock:
      return self._session.transitions


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
  """Returns the arrays of a pytree on the host, by their paths."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(
      jax.device_get(array)
    )
    for path, array in leaves
  }
