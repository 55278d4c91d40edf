"""A bundle: one folder with everything that a Recommender needs.

The folder has the layout of a Hugging Face Hub repository:

`README.md`: the model card
`config.json`: the settings, the metrics, and the sizes of the arrays
`model.safetensors`: the parameters
`tokenizer.safetensors`: the quantizer, which gives IDs to new items
`catalog.safetensors`: the Semantic ID of every row, and the rows to recommend
`items.jsonl`: the id, the title and the number of events of every row
`item_vectors.safetensors`: the vector of every row
`transitions.safetensors`: the transition counts of the training data
`manifest.json`: the size and the sha256 of every other file

A bundle contains no histories and no user ids.
"""

from collections.abc import Collection
import json
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Int
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.data import item_text
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.embedding.encoders import USES_TEXT_MODEL
from tiger_jax.errors import DataError, UsageError
from tiger_jax.models.baselines.transitions import Transitions
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.runtime import sharding
from tiger_jax.runtime.environment import environment
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.serving import (
  arguments,
  bundle_config,
  bundle_files,
  model_card,
  one_process,
)
from tiger_jax.serving.bundle_files import damage
from tiger_jax.serving.model import Model, named_arrays
from tiger_jax.serving.snapshot import Snapshot
from tiger_jax.training.step import init_params

CONFIG, ITEMS, CARD = 'config.json', 'items.jsonl', 'README.md'
PARAMS, CATALOG = 'model.safetensors', 'catalog.safetensors'
TOKENIZER = 'tokenizer.safetensors'
VECTORS, TRANSITIONS = 'item_vectors.safetensors', 'transitions.safetensors'
_REQUIRED = (CONFIG, ITEMS, PARAMS, CATALOG)
_OPTIONAL = (TOKENIZER, VECTORS, TRANSITIONS)
FILES = (CARD, bundle_files.MANIFEST, *_REQUIRED, *_OPTIONAL)
# The fields of `results.json` that a bundle keeps.
_RESULTS = ('dataset', 'embedding', 'metrics', 'baselines', 'environment')
# The fields of the provenance of the IDs that a bundle keeps. Other fields may
# name folders.
_PROVENANCE = ('quantizer', 'embedding')
MAX_TITLE = 1024


def save(snapshot: Snapshot, folder: Path, license_name: str | None) -> None:
  """Writes a bundle, see `Recommender.save_bundle`."""
  bundle_files.write(folder, contents(snapshot, license_name))


def contents(snapshot: Snapshot, license_name: str | None) -> dict[str, bytes]:
  """Returns the content of every file of a bundle, except the manifest."""
  one_process.check()
  model, catalog = snapshot.model, snapshot.catalog
  session, rows = model.session, np.arange(len(snapshot.ids))
  ids = session.inputs.semantic_ids
  results = model.read_results()
  config = {
    'name': session.inputs.dataset.name,
    'model_version': model.version,
    'config': bundle_config.recorded(session.config),
    'semantic_ids': {
      'level_sizes': ids.level_sizes,
      'num_meaning_levels': ids.num_meaning_levels,
      'provenance': {
        x: ids.provenance[x] for x in _PROVENANCE if x in ids.provenance
      },
    },
    'capacity': catalog.capacity,
    'results': {x: results[x] for x in _RESULTS if x in results},
    'environment': environment(),
  }
  arrays = {
    PARAMS: named_arrays(model.params),
    CATALOG: {'codes': snapshot.codes, 'rows': snapshot.rows},
  }
  if model.tokenizer is not None:
    arrays[TOKENIZER], config['tokenizer'] = model.tokenizer.to_arrays()
  if model.vectors is not None:
    arrays[VECTORS] = {'vectors': snapshot.vectors(rows)}
  if (transitions := model.transitions) is not None:
    arrays[TRANSITIONS] = transitions._asdict()
  items = (
    {
      'id': item,
      'title': item_text.plain(title)[:MAX_TITLE],
      'popularity': int(count),
    }
    for item, title, count in zip(
      snapshot.ids, snapshot.titles, snapshot.counts, strict=True
    )
  )
  lines = ''.join(json.dumps(item) + '\n' for item in items)
  packed = {name: bundle_files.pack(x) for name, x in arrays.items()}
  example = snapshot.ids[snapshot.rows[0]]
  card = model_card.write(config, snapshot.num_items, example, license_name)
  return {
    CARD: card.encode(),
    CONFIG: (json.dumps(config, indent=2) + '\n').encode(),
    ITEMS: lines.encode(),
    **packed,
  }


def load(folder: Path, text_model: str | None = None) -> Snapshot:
  """Loads a bundle, see `Recommender.from_bundle`."""
  if text_model is not None:
    text_model = arguments.text(text_model, 'text_model')
  files = bundle_files.read(folder, (*_REQUIRED, *_OPTIONAL))
  _require_files(folder, files, _REQUIRED)
  with damage(folder / CONFIG):
    values = json.loads(files[CONFIG])
    config = bundle_config.parse(values['config'])
    name = values['name']
    if not isinstance(name, str) or not item_text.is_unicode(name):
      raise ValueError('the name is not text')
    # Raises an error if a value for the model card is missing.
    model_card.write(values, 0, '', None)
  if text_model is not None and config.embedding.encoder != USES_TEXT_MODEL:
    raise UsageError(
      f'text_model has no effect, because the item vectors of {folder} come '
      f'from {config.embedding.encoder}: leave it out'
    )
  with damage(folder / ITEMS):
    item_ids, titles, counts = _items(files[ITEMS])
  with damage(folder / CATALOG):
    arrays = bundle_files.unpack(files[CATALOG])
    ids, catalog = _catalog(arrays, values, len(item_ids))
  with damage(folder / ITEMS):
    rows = arrays['rows'].tolist()
    if len({item_ids[row] for row in rows}) < len(rows):
      raise ValueError('an id occurs twice')
  if 'embeddings' in registry.entry(config.model).needs:
    _require_files(folder, files, (VECTORS,))
  vectors = tokenizer = transitions = None
  if VECTORS in files:
    with damage(folder / VECTORS):
      vectors = bundle_files.unpack(files[VECTORS])['vectors']
      _require(vectors, 'vectors', np.float32, (len(item_ids), None))
  if TOKENIZER in files:
    with damage(folder / TOKENIZER):
      tokenizer = Tokenizer.from_arrays(
        bundle_files.unpack(files[TOKENIZER]), values['tokenizer']
      )
  if TRANSITIONS in files:
    with damage(folder / TRANSITIONS):
      transitions = _transitions(bundle_files.unpack(files[TRANSITIONS]))
  items = Items(item_ids, dict.fromkeys(FIELDS, titles))
  no_events = np.zeros(0, np.int32)
  dataset = Dataset(name, items, (), no_events, np.zeros(1, np.int64))
  session = Session.open(
    config, Inputs(dataset, ids, vectors), devices=sharding.local_devices()
  )
  catalog = sharding.replicate(session.mesh, catalog)
  session = session.with_catalog(catalog)
  if transitions is not None:
    table = sharding.replicate(session.mesh, transitions)
    session.__dict__['transitions'] = table
  with damage(folder / PARAMS):
    params = _params(session, bundle_files.unpack(files[PARAMS]))
  model = Model(
    session,
    params,
    None,
    lambda: vectors,
    lambda: tokenizer,
    lambda: values['results'],
    text_model,
  )
  return Snapshot(
    model, 1, item_ids, titles, counts, None, model.retriever(catalog)
  )


def _require_files(
  folder: Path, files: Collection[str], names: tuple[str, ...]
) -> None:
  """Raises DataError unless the manifest lists all of the names."""
  for name in names:
    if name not in files:
      raise DataError(
        f'{folder / bundle_files.MANIFEST} does not list {name}, which the '
        'model needs: save or download the bundle again'
      )


def _items(
  data: bytes,
) -> tuple[tuple[str, ...], tuple[str, ...], Int[np.ndarray, ' rows']]:
  """Returns the ids, the titles and the numbers of events of all rows."""
  items = [json.loads(line) for line in data.splitlines()]
  for item in items:
    if not (isinstance(item['id'], str) and isinstance(item['title'], str)):
      raise ValueError('an id or a title is not text')
    if not item_text.is_clean(item['id']):
      raise ValueError('an id is empty, or has control or invalid characters')
    if item['title'] and not item_text.is_clean(item['title']):
      raise ValueError('a title has control or invalid characters')
    if len(item['title']) > MAX_TITLE:
      raise ValueError(f'a title is longer than {MAX_TITLE} characters')
    count = item['popularity']
    if type(count) is not int or not 0 <= count < 2**40:
      raise ValueError('the popularity of an item is not a number of events')
  return (
    tuple(item['id'] for item in items),
    tuple(item['title'] for item in items),
    np.array([item['popularity'] for item in items], np.int64),
  )


def _catalog(
  arrays: dict[str, np.ndarray], values: dict[str, Any], num_rows: int
) -> tuple[SemanticIds, Catalog]:
  """Returns the IDs of the items, and their index.

  The capacity of the index is bounded as in `Catalog.load`.
  """
  codes, rows = arrays['codes'], arrays['rows']
  sizes = tuple(values['semantic_ids']['level_sizes'])
  _require(codes, 'codes', np.int32, (num_rows, len(sizes)))
  _require(rows, 'rows', np.int32, (None,))
  if ((rows < 0) | (rows >= num_rows)).any():
    raise ValueError('a row is out of range')
  ids = SemanticIds(
    codes[rows],
    sizes,
    values['semantic_ids']['num_meaning_levels'],
    dict(values['semantic_ids']['provenance']),
  )
  # This also checks the codes of removed items.
  if ((codes < 0) | (codes >= np.array([sizes]))).any():
    raise ValueError('a code is outside of its level')
  capacity = min(values['capacity'], 2**20 + 64 * len(rows))
  return ids, Catalog.from_table(codes, sizes, rows, capacity)


def _transitions(arrays: dict[str, np.ndarray]) -> Transitions:
  """Checks the table of transitions."""
  table = Transitions(**arrays)
  for name, array in arrays.items():
    _require(array, name, np.int32, (None,))
  num_rows = len(table.num_left)
  if (
    len(table.start) != num_rows + 1
    or len(table.popularity) != num_rows
    or len(table.successor) != len(table.count)
    or (np.diff(table.start) < 0).any()
    or not 0 <= table.start[0] <= table.start[-1] <= len(table.count)
    or min(table.successor.min(), table.count.min(), table.num_left.min()) < 0
  ):
    raise ValueError('the arrays contradict each other')
  return table


def _params(session: Session, arrays: dict[str, np.ndarray]) -> Any:
  """Returns the parameters on the devices, after checking their shapes."""
  is_ensemble = session.config.evaluation.ensemble
  task = session.task
  seeds = session.seeds if is_ensemble else session.seeds[:1]
  like = jax.eval_shape(lambda: init_params(task, seeds))
  like = Ensemble(like) if is_ensemble else like
  paths, tree = jax.tree_util.tree_flatten_with_path(like)
  names = [
    jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths
  ]
  if sorted(names) != sorted(arrays):
    odd = sorted(set(names) ^ set(arrays))
    raise ValueError(f'the parameter {odd[0]} is missing or unknown')
  for name, (_, x) in zip(names, paths, strict=True):
    _require(arrays[name], name, x.dtype, x.shape)
  params = tree.unflatten([arrays[name] for name in names])
  shardings = sharding.state_shardings(
    session.mesh, params, num_leading=int(is_ensemble)
  )
  return sharding.put(params, shardings)


def _require(
  array: np.ndarray, name: str, dtype: Any, shape: tuple[int | None, ...]
) -> None:
  """Raises ValueError unless an array has a type, a shape and finite values.

  Args:
    array: The array.
    name: Its name, for the message.
    dtype: The type.
    shape: The length of each axis; None for any length.
  """
  fits = len(array.shape) == len(shape) and all(
    want in (None, have) for want, have in zip(shape, array.shape, strict=True)
  )
  if array.dtype != dtype or not fits:
    raise ValueError(f'{name} is {array.dtype}{list(array.shape)}')
  if array.dtype.kind == 'f' and not np.isfinite(array).all():
    raise ValueError(f'{name} is not finite')
