"""The table of models.

A model is a network and one entry of this table. To add a baseline, write the
network as a subclass of `ItemModel` and add its entry here.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from tiger_jax.config import ModelConfig
from tiger_jax.config.checks import choose
from tiger_jax.models.baselines.bert4rec import Bert4Rec
from tiger_jax.models.baselines.gru4rec import Gru4Rec
from tiger_jax.models.baselines.item_knn import ItemKnn
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.models.baselines.matrix_factorization import MatrixFactorization
from tiger_jax.models.baselines.popularity import Popularity
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.models.baselines.two_tower import TwoTower
from tiger_jax.models.baselines.vq_rec import VqRec
from tiger_jax.models.dsi import Dsi
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders import inputs
from tiger_jax.recommenders.dsi_task import DsiTask
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.item_task import ItemTask
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.training.step import Task


def _tiger_task(session: Any) -> TigerTask:
  return TigerTask(session.network, session.catalog.codes, session.mean_targets)


def _dsi_task(session: Any) -> Task:
  batch_size = session.config.train.batch_size
  return DsiTask(_tiger_task(session), session.features, batch_size)


@dataclasses.dataclass(frozen=True)
class Entry:
  """A model that `config.model.name` can name.

  Attributes:
    title: The display name.
    network: The class of the network.
    needs: The inputs besides the histories: `embeddings`, `semantic_ids`.
    features: Returns the item features of the network, a pytree of arrays.
    task: Makes the training task of a `Session`.
    is_trained: Whether the network has parameters to train.
    settings: The settings of `configs/baselines.py` for this model that differ
      from those of other baselines, by field.
  """

  title: str
  network: type[ItemModel] | type[Tiger]
  needs: tuple[str, ...] = ()
  features: Callable[[Inputs], Any] = lambda inputs: None
  task: Callable[[Any], Task] = lambda session: ItemTask(
    session.network, session.features
  )
  is_trained: bool = True
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def is_generative(self) -> bool:
    """Whether the model generates Semantic IDs; all others score items."""
    return issubclass(self.network, Tiger)

  @property
  def is_baseline(self) -> bool:
    """Whether `configs/baselines.py` offers the model."""
    return self.network is not Tiger

  def trains_every_prefix(self, config: ModelConfig) -> bool:
    """Returns whether one pass over a history trains every prefix of it."""
    return config.causal_encoder or not self.is_generative


MODELS: dict[str, Entry] = {
  'tiger': Entry('TIGER', Tiger, ('semantic_ids',), task=_tiger_task),
  'dsi': Entry(
    'DSI',
    Dsi,
    ('embeddings', 'semantic_ids'),
    inputs.standardized_vectors,
    _dsi_task,
    settings={'semantic_ids.quantizer': 'hierarchical_kmeans'},
  ),
  'sasrec': Entry(
    'SASRec',
    SasRec,
    settings={'model.dropout': 0.4, 'train.optimizer.learning_rate': 2e-3},
  ),
  'bert4rec': Entry('BERT4Rec', Bert4Rec),
  'gru4rec': Entry(
    'GRU4Rec', Gru4Rec, settings={'model.num_encoder_layers': 1}
  ),
  'matrix_factorization': Entry('MF', MatrixFactorization),
  'two_tower': Entry(
    'two towers', TwoTower, ('embeddings',), inputs.standardized_vectors
  ),
  'vq_rec': Entry(
    'VQ-Rec',
    VqRec,
    ('semantic_ids',),
    lambda inputs: inputs.semantic_ids.prefixes,
    settings={
      'model.loss': 'sampled_softmax',
      'semantic_ids.quantizer': 'opq',
      'semantic_ids.codebook_sizes': (256,) * 32,
    },
  ),
  'item_knn': Entry(
    'Semantic-KNN',
    ItemKnn,
    ('embeddings',),
    inputs.vectors,
    is_trained=False,
    settings={'model.max_history': 5, 'train.length_buckets': (5,)},
  ),
  'popularity': Entry(
    'popularity', Popularity, features=inputs.training_counts, is_trained=False
  ),
}


def entry(config: ModelConfig) -> Entry:
  """Returns the entry of the model that a config names.

  Raises:
    UsageError: There is no such model.
  """
  return choose(MODELS, config.name, 'config.model.name')


def title(name: str) -> str:
  """Returns the display name of a model, of any version of this table."""
  return MODELS[name].title if name in MODELS else name
