"""Makes tries that are stored in different ways."""

from tiger_jax.catalog import layout
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.catalog.trie import Trie

FORMS = ('bitmaps', 'lists')


def make_trie(monkeypatch, form, codes, level_sizes, absent):
  """Returns a trie of the IDs without those of the rows `absent`.

  In the form `bitmaps`, the first two levels are bitmaps. In the form `lists`,
  no level is.
  """
  if form == 'lists':
    for name in ('_BITMAP_BYTES', '_BITMAP_ITEM_BYTES', '_OFFSETS_BYTES'):
      monkeypatch.setattr(layout, name, -1)
  catalog = Catalog.from_codes(codes, level_sizes, capacity=len(codes))
  assert catalog.layout.num_bitmaps == (2 if form == 'bitmaps' else 0)
  catalog = catalog.remove(absent)
  return Trie(catalog.layout, catalog.arrays)
