"""The category that an item is counted under where IDs are judged."""

import collections

from tiger_jax.data.dataset import Items

UNKNOWN = 'Unknown'

# What this share of the items has in common tells no items apart.
_NEARLY_ALL = 0.9


def coarse_categories(items: Items, depth: int = 1) -> list[str]:
  """Returns the coarsest category of each item that tells items apart.

  That is the department of a general shop, and what comes below `Beauty` in a
  shop of nothing else: names that nearly all items begin with are left out. An
  item in several places of the category tree counts under the first. A category
  is `depth` names of the path, `Hair Care > Shampoos` at 2, or fewer if the
  path is shorter; `UNKNOWN` if nothing is left.
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
  """Finds the names that nearly all paths begin with and go on after."""
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
