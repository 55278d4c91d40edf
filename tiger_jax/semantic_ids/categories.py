"""Assigns a category to each item, for the quality measures of IDs."""

import collections

from tiger_jax.data.dataset import Items

UNKNOWN = 'Unknown'

# A leading name is dropped if more than this share of the paths have it.
_NEARLY_ALL = 0.9


def coarse_categories(items: Items, depth: int = 1) -> list[str]:
  """Returns a coarse category for each item.

  Leading names that nearly all paths share are dropped, such as `Beauty` in a
  shop that sells nothing else. The category is the next `depth` names of the
  path, such as `Hair Care > Shampoos` for depth 2, or fewer if the path is
  shorter. It is `UNKNOWN` if no name remains. Only the first path of an item
  counts.
  """
  paths = [_first_path(text) for text in items.fields['categories']]
  shared = _shared_names(paths)
  names = []
  for path in paths:
    for name in shared:
      if path[:1] != [name]:
        break
      path = path[1:]
    names.append(' > '.join(path[:depth]) or UNKNOWN)
  return names


def _first_path(text: str) -> list[str]:
  names = text.split(';')[0].split('>')
  return [name.strip() for name in names if name.strip()]


def _shared_names(paths: list[list[str]]) -> list[str]:
  """Returns the longest proper prefix that nearly all paths have."""
  num_paths = sum(bool(path) for path in paths)
  shared: list[str] = []
  while True:
    level = len(shared)
    paths = [path for path in paths if path[:level] == shared]
    names = collections.Counter(
      path[level] for path in paths if len(path) > level + 1
    )
    name, count = max(names.items(), key=lambda n: n[1], default=('', 0))
    if count <= _NEARLY_ALL * num_paths:
      return shared
    shared.append(name)
