"""The shipped configs with sizes so small that a run takes seconds.

The commands of a page run in a folder with its own `configs/`. Each file there
loads the shipped config of the same name and reduces its sizes. The commands of
a page therefore run unchanged, and their overrides apply after the reduction.
"""

from collections.abc import Callable
import functools
import gzip
import importlib.util
from pathlib import Path
from typing import Any

from tests import small
from tests.small import ROOT

_WRAPPER = """from tests.docs.reduced import shipped

get_config = shipped({name!r})
"""
_TRAIN = {
  'steps': 20,
  'steps_per_call': 5,
  'length_buckets': (4,),
  'log_every': 5,
  'evaluate_every': 10,
  'evaluate_users': 32,
}


def write_configs(folder: Path) -> None:
  """Writes the folder `configs/` with the reduced configs."""
  for path in (ROOT / 'configs').rglob('*.py'):
    name = str(path.relative_to(ROOT))
    text = path.read_text(encoding='utf-8')
    if 'def get_config' in text:
      text = _WRAPPER.format(name=name)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding='utf-8')


def write_amazon(folder: Path, category: str = 'Beauty') -> None:
  """Writes an invented shop in the format of the Amazon files of 2014."""
  folder.mkdir(parents=True)
  items = small.items()
  reviews = [
    {'reviewerID': x['user'], 'asin': x['item'],
     'unixReviewTime': x['timestamp']}
    for x in small.events(items)
  ]  # fmt: skip
  metadata = [
    {'asin': x['item'], 'title': x['title'], 'categories': [['Beauty']]}
    for x in items
  ]
  for name, rows in (
    (f'reviews_{category}_5', reviews), (f'meta_{category}', metadata),
  ):  # fmt: skip
    text = small.as_jsonl(rows).encode()
    (folder / f'{name}.json.gz').write_bytes(gzip.compress(text))


def shipped(name: str) -> Callable[..., Any]:
  """Returns a `get_config` that reduces the sizes of a shipped config."""
  spec = importlib.util.spec_from_file_location('shipped', ROOT / name)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)

  @functools.wraps(module.get_config)
  def get_config(*variant: str) -> Any:
    config = module.get_config(*variant)
    reduce(config.base if 'base' in config else config)
    return config

  return get_config


def reduce(config: Any) -> None:
  """Reduces the sizes in a config, but keeps its data and its model."""
  with config.unlocked():
    config.dataset.synthetic_users = 60
    config.embedding.encoder = 'tfidf-svd'
    config.embedding.dim = 8
    if config.dataset.name != 'synthetic':
      config.semantic_ids.codebook_sizes = (8, 8, 8)
    if config.dataset.name.startswith('amazon2014/'):
      config.dataset.source_dir = 'amazon2014_beauty'
    config.semantic_ids.epochs = 2
    config.semantic_ids.restart_epochs = 1
    config.model.max_history = 4
    config.model.update(small.MODEL)
    config.train.update(_TRAIN)
    config.train.batch_size = 8
    config.train.optimizer.warmup_steps = 5
    config.evaluation.num_beams = 10
    config.evaluation.batch_size = 32
