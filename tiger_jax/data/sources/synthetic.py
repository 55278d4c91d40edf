"""A synthetic shop with a known distribution of the next item.

The distribution determines the best possible recall. The next item is from the
aisle of the last item with probability `STAY`, from the companion of this aisle
with probability `MOVE_ON`, and otherwise from any aisle. `synthetic_items`
defines the companions. Within each of these sets of items, the probability of
an item is proportional to the popularity of its model line. Within the aisle
and its companion, items with the brand of the last item have `LOYALTY` times
this probability. Items already bought have probability zero, and the other
probabilities are scaled up.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float64, Int, Int32
import numpy as np

from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.sources import synthetic_items
from tiger_jax.data.splits import Examples

STAY = 0.5
MOVE_ON = 0.35
LOYALTY = 6.0
MIN_EVENTS = 5
MAX_EVENTS = 20
_START = 1_704_067_200  # 2024-01-01, in seconds since 1970.
_HOUR = 3600
# Users per chunk. The probabilities of one chunk fit into the cache of a CPU.
_CHUNK = 512


def make(num_users: int, seed: int) -> Dataset:
  """Draws a shop whose users have 5 to 20 events each."""
  rng = np.random.default_rng(seed)
  items = synthetic_items.stock(rng)
  lengths = rng.integers(MIN_EVENTS, MAX_EVENTS + 1, num_users)
  draws = rng.random((num_users, MAX_EVENTS))
  gaps = rng.integers(_HOUR, 24 * 14 * _HOUR, (num_users, MAX_EVENTS))
  happened = np.arange(MAX_EVENTS) < lengths[:, None]
  return Dataset(
    name='synthetic',
    items=items,
    user_ids=tuple(f'shopper-{user:06d}' for user in range(num_users)),
    history=_purchases(items, draws)[happened],
    offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    timestamps=(_START + np.cumsum(gaps, axis=1))[happened],
  )


def next_item_probabilities(
  dataset: Dataset,
  histories: Sequence[Int[np.ndarray, ' _']] | Int[np.ndarray, 'n _'],
) -> Float64[np.ndarray, 'n items']:
  """Returns the exact distribution of the next item for each history.

  A history has the item rows of all purchases, oldest first; it may be empty.
  """
  return _next_probabilities(_transitions(dataset.items), histories)


def best_possible_recall(dataset: Dataset, examples: Examples, k: int) -> float:
  """Returns the expected recall@k of a ranking by the true probabilities."""
  transitions = _transitions(dataset.items)
  total = 0.0
  for rows in _chunks(len(examples.user)):
    histories = [
      dataset.history[start:end]
      for start, end in zip(
        examples.start[rows], examples.end[rows], strict=True
      )
    ]
    probabilities = _next_probabilities(transitions, histories)
    total += float(np.sort(probabilities, axis=1)[:, -k:].sum())
  return total / len(examples.user)


def _transitions(items: Items) -> Float64[np.ndarray, 'last items']:
  """Returns the probabilities before bought items are excluded.

  Row `i` is for histories whose last item is `i`; the last row is for an empty
  history.
  """
  aisles = items.fields['categories']
  companions = _companions()
  aisle = np.unique(aisles, return_inverse=True)[1]
  brand = np.unique(items.fields['brand'], return_inverse=True)[1]
  names = items.fields['title'], items.fields['brand']
  popularity = np.asarray(list(map(_popularity, *names)))
  companion = np.asarray(
    [aisle[aisles.index(companions[name])] for name in aisles]
  )
  loyal = np.where(brand[:, None] == brand, LOYALTY, 1.0) * popularity
  anywhere = popularity / popularity.sum()
  stay = _normalized(loyal * (aisle[:, None] == aisle))
  move_on = _normalized(loyal * (companion[:, None] == aisle))
  table = STAY * stay + MOVE_ON * move_on + (1 - STAY - MOVE_ON) * anywhere
  return np.concatenate([table, anywhere[None]])


def _companions() -> dict[str, str]:
  """Maps the category path of each aisle to that of its companion."""
  companions: dict[str, str] = {}
  for department, categories in synthetic_items.DEPARTMENTS.items():
    paths = [
      f'{department} > {category} > {aisle.name}'
      for category, aisles in categories.items()
      for aisle in aisles
    ]
    companions.update(zip(paths, [*paths[1:], paths[0]], strict=True))
  return companions


def _popularity(title: str, brand: str) -> float:
  line = title.removeprefix(brand).split()[0]
  return synthetic_items.LINES[line][1]


def _purchases(
  items: Items, draws: Float64[np.ndarray, 'users events']
) -> Int32[np.ndarray, 'users events']:
  """Returns the item rows that uniform draws between 0 and 1 select."""
  transitions = _transitions(items)
  bought = np.empty(draws.shape, np.int32)
  for rows in _chunks(len(draws)):
    for event in range(draws.shape[1]):
      probabilities = _next_probabilities(transitions, bought[rows, :event])
      cumulative = np.cumsum(probabilities, axis=1)
      total = cumulative[:, -1:]
      # Rounding must not move a draw past the last item.
      draw = np.minimum(
        draws[rows, event, None] * total, np.nextafter(total, 0)
      )
      bought[rows, event] = (cumulative <= draw).sum(axis=1)
  return bought


def _next_probabilities(
  transitions: Float64[np.ndarray, 'last items'],
  histories: Sequence[Int[np.ndarray, ' _']] | Int[np.ndarray, 'n _'],
) -> Float64[np.ndarray, 'n items']:
  last = [history[-1] if len(history) else -1 for history in histories]
  probabilities = transitions[last]
  for row, history in zip(probabilities, histories, strict=True):
    row[history] = 0
  return _normalized(probabilities)


def _normalized(
  weights: Float64[np.ndarray, 'n items'],
) -> Float64[np.ndarray, 'n items']:
  return weights / weights.sum(axis=1, keepdims=True)


def _chunks(num_rows: int) -> Iterator[slice]:
  for start in range(0, num_rows, _CHUNK):
    yield slice(start, start + _CHUNK)
