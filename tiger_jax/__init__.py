"""TIGER: recommender systems with generative retrieval, in JAX.

The names below are imported when they are first used. `import tiger_jax` alone
therefore does not import JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from tiger_jax.config import Config as Config
  from tiger_jax.config.config_file import load_config as load_config
  from tiger_jax.pipeline import run as run
  from tiger_jax.semantic_ids.ids import SemanticIds as SemanticIds
  from tiger_jax.semantic_ids.tokenizer import Tokenizer as Tokenizer
  from tiger_jax.serving.options import Options as Options
  from tiger_jax.serving.recommendation import Item as Item
  from tiger_jax.serving.recommendation import NewItem as NewItem
  from tiger_jax.serving.recommendation import Recommendation as Recommendation
  from tiger_jax.serving.recommendation import (
    RecommendationList as RecommendationList,
  )
  from tiger_jax.serving.recommendation import SimilarItem as SimilarItem
  from tiger_jax.serving.recommender import Recommender as Recommender

__version__ = '0.1.0'

# The public names, and the modules that define them.
_MODULES = {
  'Config': 'config',
  'Item': 'serving.recommendation',
  'NewItem': 'serving.recommendation',
  'Options': 'serving.options',
  'Recommendation': 'serving.recommendation',
  'RecommendationList': 'serving.recommendation',
  'Recommender': 'serving.recommender',
  'SemanticIds': 'semantic_ids.ids',
  'SimilarItem': 'serving.recommendation',
  'Tokenizer': 'semantic_ids.tokenizer',
  'load_config': 'config.config_file',
  'run': 'pipeline',
}
__all__ = [
  'Config',
  'Item',
  'NewItem',
  'Options',
  'Recommendation',
  'RecommendationList',
  'Recommender',
  'SemanticIds',
  'SimilarItem',
  'Tokenizer',
  'load_config',
  'run',
]


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  value = globals()[name] = getattr(module, name)
  return value


def __dir__() -> list[str]:
  return sorted([*globals(), *_MODULES])
