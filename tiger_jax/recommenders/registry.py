"""The registry of models.

A model consists of a network and one entry in `MODELS`. To add a baseline,
write the network as a subclass of `ItemModel` and add an entry.

An entry names its classes and functions as `'module:name'`. They are imported
only when the model is used, so that the command line and the configs can read
the registry without importing JAX.
"""

from collections.abc import Mapping
import dataclasses
import pkgutil
from typing import Any

from tiger_jax.config import ModelConfig
from tiger_jax.config.checks import choose

_BASELINES = 'tiger_jax.models.baselines'
_HERE = 'tiger_jax.recommenders'


@dataclasses.dataclass(frozen=True)
class Entry:
  """A model, selected by `config.model.name`.

  Attributes:
    title: The display name.
    network: The class of the network, a `Tiger` or an `ItemModel`.
    needs: The inputs that the model needs in addition to histories:
      `embeddings`, `semantic_ids`, both or neither.
    features: A function of `Inputs` that returns the item features of the
      network, a pytree of arrays. None for a network without features.
    task: A function of a `Session` that returns the training task.
    is_generative: Whether the model generates Semantic IDs. If False, it scores
      every item.
    is_trained: Whether the network has parameters to train.
    settings: The values of the fields that differ from the defaults of
      `configs/baselines.py`.
  """

  title: str
  network: str
  needs: tuple[str, ...] = ()
  features: str | None = None
  task: str = f'{_HERE}.item_task:make'
  is_generative: bool = False
  is_trained: bool = True
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def trains_every_prefix(self, config: ModelConfig) -> bool:
    """Returns whether one forward pass trains on all items of a history."""
    return config.causal_encoder or not self.is_generative


MODELS: dict[str, Entry] = {
  'tiger': Entry(
    'TIGER',
    'tiger_jax.models.tiger:Tiger',
    ('semantic_ids',),
    task=f'{_HERE}.tiger_task:make',
    is_generative=True,
  ),
  'dsi': Entry(
    'DSI',
    'tiger_jax.models.dsi:Dsi',
    ('embeddings', 'semantic_ids'),
    f'{_HERE}.inputs:standardized_vectors',
    f'{_HERE}.dsi_task:make',
    is_generative=True,
    settings={'semantic_ids.quantizer': 'hierarchical_kmeans'},
  ),
  'sasrec': Entry(
    'SASRec',
    f'{_BASELINES}.sasrec:SasRec',
    settings={'model.dropout': 0.4, 'train.optimizer.learning_rate': 2e-3},
  ),
  'bert4rec': Entry('BERT4Rec', f'{_BASELINES}.bert4rec:Bert4Rec'),
  'gru4rec': Entry(
    'GRU4Rec',
    f'{_BASELINES}.gru4rec:Gru4Rec',
    settings={'model.num_encoder_layers': 1},
  ),
  'matrix_factorization': Entry(
    'MF', f'{_BASELINES}.matrix_factorization:MatrixFactorization'
  ),
  'two_tower': Entry(
    'two towers',
    f'{_BASELINES}.two_tower:TwoTower',
    ('embeddings',),
    f'{_HERE}.inputs:standardized_vectors',
  ),
  'vq_rec': Entry(
    'VQ-Rec',
    f'{_BASELINES}.vq_rec:VqRec',
    ('semantic_ids',),
    f'{_HERE}.inputs:prefixes',
    settings={
      'model.loss': 'sampled_softmax',
      'semantic_ids.quantizer': 'opq',
      'semantic_ids.codebook_sizes': (256,) * 32,
    },
  ),
  'item_knn': Entry(
    'Semantic-KNN',
    f'{_BASELINES}.item_knn:ItemKnn',
    ('embeddings',),
    f'{_HERE}.inputs:vectors',
    is_trained=False,
    settings={'model.max_history': 5, 'train.length_buckets': (5,)},
  ),
  'transitions': Entry(
    'transitions',
    f'{_BASELINES}.transitions:TransitionModel',
    features=f'{_HERE}.inputs:training_transitions',
    is_trained=False,
    settings={'model.max_history': 5, 'train.length_buckets': (5,)},
  ),
  'popularity': Entry(
    'popularity',
    f'{_BASELINES}.popularity:Popularity',
    features=f'{_HERE}.inputs:training_counts',
    is_trained=False,
  ),
}

# The models that `configs/baselines.py` offers.
BASELINES = tuple(name for name in MODELS if name != 'tiger')


def load(name: str) -> Any:
  """Imports a class or function, given as `'module:name'`."""
  return pkgutil.resolve_name(name)


def entry(config: ModelConfig) -> Entry:
  """Returns the entry of a configured model.

  Raises:
    UsageError: There is no such model.
  """
  return choose(MODELS, config.name, 'config.model.name')


def title(name: str) -> str:
  """Returns the display name of a model, or `name` if it is not registered."""
  return MODELS[name].title if name in MODELS else name
