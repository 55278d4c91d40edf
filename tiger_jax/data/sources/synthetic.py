"""A shop whose shoppers follow a known law, so that the best score is known.

The next item depends on the last one and on what was bought already. With
probability `STAY` it is from the same aisle, with `MOVE_ON` from the aisle's
companion, otherwise from anywhere. Among those, an item is as likely as its
model line is popular, `LOYALTY` times more so if it has the last item's brand
(except when it is from anywhere). Nothing is bought twice: what was bought is
struck out and the rest scaled up.
"""

from collections.abc import Iterator, Sequence

from jaxtyping import Float64, Int, Int32
import numpy as np

from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.sources import synthetic_items
from tiger_jax.data.splits import Examples
from tiger_jax.errors import UsageError

STAY = 0.5
MOVE_ON = 0.35
LOYALTY = 6.0
MIN_EVENTS = 5
MAX_EVENTS = 20
_START = 1_704_067_200  # 2024-01-01, in seconds since 1970.
_HOUR = 3600
# So many users at a time keep the table of probabilities in the cache.
_CHUNK = 512


def make(num_users: int, seed: int) -> Dataset:
  """Draws a shop of one or more shoppers, each with 5 to 20 events."""
  if num_users < 1:
    raise UsageError(
      f'config.dataset.synthetic_users is {num_users}: it must be positive'
    )
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
    history=_shop(items, draws)[happened],
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
  return _next(_transitions(dataset.items), histories)


def best_possible_recall(dataset: Dataset, examples: Examples, k: int) -> float:
  """Returns the expected recall@k of a ranking that knows the law."""
  transitions = _transitions(dataset.items)
  total = 0.0
  for rows in _chunks(len(examples.user)):
    histories = [
      dataset.history[start:end]
      for start, end in zip(
        examples.start[rows], examples.end[rows], strict=True
      )
    ]
    best = np.sort(_next(transitions, histories), axis=1)[:, -k:]
    total += float(best.sum())
  return total / len(examples.user)


def _transitions(items: Items) -> Float64[np.ndarray, 'last items']:
  """Returns the law before anything is struck out.

  Row `i` is for shoppers whose last item was `i`; one more row at the end is
  for those who have bought nothing.
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
  here = _normalised(loyal * (aisle[:, None] == aisle))
  there = _normalised(loyal * (companion[:, None] == aisle))
  table = STAY * here + MOVE_ON * there + (1 - STAY - MOVE_ON) * anywhere
  return np.concatenate([table, anywhere[None]])


def _companions() -> dict[str, str]:
  """Returns the aisle that each aisle, as a category path, leads to."""
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


def _shop(
  items: Items, draws: Float64[np.ndarray, 'users events']
) -> Int32[np.ndarray, 'users events']:
  """Turns uniform draws into purchases."""
  transitions = _transitions(items)
  bought = np.empty(draws.shape, np.int32)
  for rows in _chunks(len(draws)):
    for event in range(draws.shape[1]):
      cumulative = np.cumsum(_next(transitions, bought[rows, :event]), axis=1)
      total = cumulative[:, -1:]
      # Rounding must not carry a draw past the last item.
      draw = np.minimum(
        draws[rows, event, None] * total, np.nextafter(total, 0)
      )
      bought[rows, event] = (cumulative <= draw).sum(axis=1)
  return bought


def _next(
  transitions: Float64[np.ndarray, 'last items'],
  histories: Sequence[Int[np.ndarray, ' _']] | Int[np.ndarray, 'n _'],
) -> Float64[np.ndarray, 'n items']:
  last = [history[-1] if len(history) else -1 for history in histories]
  probabilities = transitions[last]
  for row, history in zip(probabilities, histories, strict=True):
    row[history] = 0
  return _normalised(probabilities)


def _normalised(
  weights: Float64[np.ndarray, 'n items'],
) -> Float64[np.ndarray, 'n items']:
  return weights / weights.sum(axis=1, keepdims=True)


def _chunks(num_rows: int) -> Iterator[slice]:
  for start in range(0, num_rows, _CHUNK):
    yield slice(start, start + _CHUNK)
