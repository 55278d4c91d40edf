"""Changes to the catalog. Each change returns a new snapshot."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from jaxtyping import Float32, Int
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config.checks import did_you_mean
from tiger_jax.data import item_text
from tiger_jax.data.dataset import Items
from tiger_jax.errors import DataError, UsageError
from tiger_jax.semantic_ids import new_ids
from tiger_jax.serving.arguments import item_ids, listed, shown
from tiger_jax.serving.recommendation import NewItem
from tiger_jax.serving.snapshot import Snapshot


def add_items(snapshot: Snapshot, items: Any) -> Snapshot:
  """Returns a snapshot with additional items.

  Raises:
    UsageError: An item is not valid (see `Recommender.add_items`).
  """
  entries = listed(items, 'items', 'NewItem objects')
  for place, entry in enumerate(entries):
    if not isinstance(entry, NewItem):
      raise UsageError(f'items[{place}] is {shown(entry)}: pass a NewItem(...)')
  if not entries:
    return snapshot
  ids = _new_ids(snapshot, entries)
  titles = tuple(
    _title(x.title, item) for item, x in zip(ids, entries, strict=True)
  )
  vectors = _vectors(snapshot, entries, ids, titles)
  tokenizer = snapshot.model.tokenizer
  assert tokenizer is not None
  codes = new_ids.assign(
    tokenizer,
    vectors,
    snapshot.codes[snapshot.rows],
    snapshot.catalog.level_sizes,
  )
  added = snapshot.added
  changed = _changed(
    snapshot,
    _with_codes(snapshot.catalog, codes),
    ids=snapshot.ids + ids,
    titles=snapshot.titles + titles,
    counts=np.pad(snapshot.counts, (0, len(ids))),
    added=vectors if added is None else np.concatenate([added, vectors]),
  )
  # This is faster than building the index from all titles again.
  changed.__dict__['searchable'] = snapshot.searchable.extended(ids, titles)
  return changed


def remove_items(snapshot: Snapshot, ids: Any) -> Snapshot:
  """Returns a snapshot that does not recommend the given items.

  Raises:
    UsageError: An item is unknown or was removed before, or no item would be
      left.
  """
  known = snapshot.known.rows(ids, 'ids', ordered=False)
  rows = [snapshot.row(snapshot.ids[x]) for x in dict.fromkeys(known)]
  if not rows:
    return snapshot
  if len(rows) == snapshot.num_items:
    raise UsageError('ids contains all items of the catalog: keep at least one')
  return _changed(snapshot, snapshot.catalog.remove(np.array(rows)))


def update_titles(snapshot: Snapshot, titles: Any) -> Snapshot:
  """Returns a snapshot with new titles for some items.

  Raises:
    UsageError: An item is unknown or was removed, or a title is empty.
  """
  if not isinstance(titles, Mapping):
    raise UsageError(
      f'titles is {shown(titles)}: pass a mapping of ids to titles'
    )
  if not titles:
    return snapshot
  changed = list(snapshot.titles)
  for item, title in titles.items():
    row = snapshot.row(item)
    changed[row] = _title(title, item)
  return _changed(snapshot, snapshot.catalog, titles=tuple(changed))


def _changed(snapshot: Snapshot, catalog: Catalog, **fields: Any) -> Snapshot:
  changed = dataclasses.replace(
    snapshot,
    catalog_version=snapshot.catalog_version + 1,
    retriever=snapshot.retriever.with_catalog(catalog),
    **fields,
  )
  # Keeps the lookup tables whose inputs did not change.
  if 'ids' not in fields:
    changed.__dict__['known'] = snapshot.known
  if 'titles' not in fields:
    changed.__dict__['searchable'] = snapshot.searchable
  return changed


def _with_codes(catalog: Catalog, codes: Int[np.ndarray, 'n l']) -> Catalog:
  """Adds items, and enlarges the catalog if it is full."""
  try:
    return catalog.add(codes)
  except DataError:
    return catalog.grown(codes)


def _new_ids(snapshot: Snapshot, entries: list[NewItem]) -> tuple[str, ...]:
  """Returns the ids of new items.

  Raises:
    UsageError: An id is not valid, is repeated, or is in use.
  """
  ids = item_ids([x.id for x in entries], 'ids of the new items')
  free = set(snapshot.known.unknown(ids))
  free |= {snapshot.ids[x] for x in np.flatnonzero(~snapshot.is_listed)}
  seen: set[str] = set()
  for item in ids:
    if not item_text.is_clean(item):
      raise UsageError(
        f'the id {shown(item)} is empty or has control characters: choose '
        'another id'
      )
    if item in seen:
      raise UsageError(f'the id {shown(item)} occurs twice: pass it once')
    seen.add(item)
    if item not in free:
      raise UsageError(
        f'item {shown(item)} exists already: choose another id, or remove the '
        'item first'
      )
  return tuple(ids)


def _title(title: Any, item: Any) -> str:
  text, _ = item_text.field('title', title)
  if not isinstance(title, str) or not text:
    raise UsageError(
      f'the title of item {shown(item)} is {shown(title)}: pass a text that is '
      'not empty'
    )
  return text


def _vectors(
  snapshot: Snapshot,
  entries: list[NewItem],
  ids: tuple[str, ...],
  titles: tuple[str, ...],
) -> Float32[np.ndarray, 'n dim']:
  """Returns the vectors of new items; encodes text if there is no vector.

  Raises:
    UsageError: A vector or a text is not valid, or the text cannot be encoded.
  """
  tokenizer = snapshot.model.tokenizer
  if tokenizer is None:
    raise UsageError(
      'this Recommender has no tokenizer for new items: load it with '
      'from_workdir or from_bundle'
    )
  vectors = np.empty((len(entries), tokenizer.dim), np.float32)
  columns = snapshot.model.text_columns
  records = {
    place: _record(x, titles[place], ids[place], columns)
    for place, x in enumerate(entries)
    if x.vector is None
  }
  for place, x in enumerate(entries):
    if x.vector is not None:
      if x.text is not None:
        raise UsageError(
          f'item {shown(ids[place])} has a text and a vector: pass one of them'
        )
      vectors[place] = _vector(x.vector, 'vector', ids[place], tokenizer.dim)
  if records:
    encoded = snapshot.model.encode(
      Items(
        tuple(ids[place] for place in records),
        {x: tuple(r[x] for r in records.values()) for x in ('title', *columns)},
      )
    )
    for place, vector in zip(records, encoded, strict=True):
      vectors[place] = _vector(
        vector, 'vector of the text', ids[place], tokenizer.dim
      )
  return vectors


def _record(
  entry: NewItem, title: str, item: str, columns: Sequence[str]
) -> dict[str, str]:
  """Returns the text of an item for each field; '' for a missing one."""
  text = {} if entry.text is None else entry.text
  if not isinstance(text, Mapping):
    raise UsageError(
      f'the text of item {shown(item)} is {shown(text)}: pass a mapping of '
      'columns to values'
    )
  for column in text:
    if column not in columns:
      hint = did_you_mean(str(column), columns)
      if column == 'title':
        hint = 'pass it as title='
      raise UsageError(
        f'the text of item {shown(item)} has the column {shown(column)}: {hint}'
      )
  fields = {x: item_text.field(x, text.get(x))[0] for x in columns}
  return {'title': title} | fields


def _vector(
  vector: Any, what: str, item: str, dim: int
) -> Float32[np.ndarray, ' dim']:
  """Checks the vector of an item and converts it to float32."""
  try:
    array = np.asarray(vector)
    if array.dtype.kind not in 'fiu':
      raise ValueError
    with np.errstate(over='ignore'):  # Infinity is checked below.
      array = array.astype(np.float32)
  except (TypeError, ValueError) as error:
    raise UsageError(
      f'the {what} of item {shown(item)} is {shown(vector)}: pass {dim} numbers'
    ) from error
  if array.shape != (dim,):
    raise UsageError(
      f'the {what} of item {shown(item)} has shape {list(array.shape)}: pass '
      f'{dim} numbers, from the encoder of the run'
    )
  if not np.isfinite(array).all():
    raise UsageError(
      f'the {what} of item {shown(item)} is not finite: embed the item again'
    )
  return array
