"""Formats recommendations as text for a terminal."""

import shutil

import numpy as np

from tiger_jax.data.item_text import plain
from tiger_jax.data.splits import split
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Recommendation
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.search import recommend_rows

_NUM_SHOPPERS = 5


def show_recommendations(
  recommendations: list[Recommendation], bought: int = -1
) -> str:
  """Returns one line for each recommended item.

  Args:
    recommendations: The items, best first.
    bought: The index of the item that the user bought next, which gets an
      asterisk; -1 for none.
  """
  if not recommendations:
    return '  No item can be recommended.'
  return '\n'.join(
    f'  {"*" if place == bought else " "}{place + 1:>3}  {entry.score:7.2f}  '
    f'{plain(entry.item_id):<12} {shorten(entry.title)}'
    for place, entry in enumerate(recommendations)
  )


def show_proof(
  recommendations: list[Recommendation], drawn: bool = False
) -> str:
  """Returns a line that says how many items are proven to be the best.

  Args:
    recommendations: The results of an exact or a sampling search.
    drawn: Whether the search sampled the items.
  """
  num_items = len(recommendations)
  proven = sum(entry.proven for entry in recommendations)
  limit = 'The search is limited to 4,096 beams.'
  if drawn:
    if proven == num_items:
      return f'Proven: a search with more beams draws the same {proven} items.'
    return (
      f'Proven for the first {proven} of {num_items}: with more beams, the '
      f'items after these may differ. {limit}'
    )
  if proven == num_items:
    return f'Proven: no other item ranks above any of these {proven}.'
  return (
    f'Proven for the first {proven} of {num_items}: other items may rank above '
    f'the remaining ones. {limit}'
  )


def show_shoppers(recommender: Recommender, seed: int) -> str:
  """Returns the purchases of five random shoppers, and suggested items."""
  snapshot, dataset = recommender.snapshot, recommender.dataset
  assert dataset is not None
  examples = split(dataset, 'test')
  rng = np.random.default_rng(seed)
  users = rng.permutation(dataset.num_users)[:_NUM_SHOPPERS]
  histories = [dataset.history_of(int(user))[:-1].tolist() for user in users]
  targets = dataset.history[examples.end[users]]
  blocks = []
  for user, history, target, recommendations in zip(
    users,
    histories,
    targets,
    recommend_rows(snapshot, histories, 10, Options(), users.tolist()),
    strict=True,
  ):
    titles = [f'      {shorten(dataset.items.title(r))}' for r in history[-5:]]
    num_earlier = len(history) - len(titles)
    if num_earlier:
      titles.insert(0, f'      ({num_earlier} earlier)')
    ids = [entry.item_id for entry in recommendations]
    target_id = dataset.items.ids[target]
    place = ids.index(target_id) if target_id in ids else -1
    blocks.append(
      f'\nShopper {plain(dataset.user_ids[user])} bought\n'
      + '\n'.join(titles)
      + '\n    and may like (score, item, title; * was bought next)\n'
      + show_recommendations(recommendations, place)
    )
  return '\n'.join(blocks)


def shorten(title: str) -> str:
  """Returns a printable title, shortened to fit a line of the terminal."""
  title = plain(title)
  width = max(20, shutil.get_terminal_size((100, 24)).columns - 32)
  if len(title) <= width:
    return title
  return title[: width - 1] + '\N{HORIZONTAL ELLIPSIS}'
