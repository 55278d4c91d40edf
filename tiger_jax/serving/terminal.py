"""Texts that show recommendations in a terminal."""

import shutil

import numpy as np

from tiger_jax.data.item_text import plain
from tiger_jax.data.splits import split
from tiger_jax.serving.recommendation import Recommendation
from tiger_jax.serving.recommender import Recommender

_NUM_SHOPPERS = 5


def show_recommendations(found: list[Recommendation], bought: int = -1) -> str:
  """Returns one line per recommended item.

  Args:
    found: Best first.
    bought: Position of the item that was bought next, marked; -1 for none.
  """
  if not found:
    return '  No item may be recommended.'
  return '\n'.join(
    f'  {"*" if place == bought else " "}{place + 1:>3}  {entry.score:7.2f}  '
    f'{plain(entry.item_id):<12} {shorten(entry.title)}'
    for place, entry in enumerate(found)
  )


def show_proof(found: list[Recommendation], drawn: bool = False) -> str:
  """Returns a line that says how many of the items are proven to be best.

  Args:
    found: The recommendations of a search that widens, in their order.
    drawn: Whether they were drawn, with noise on their ranks.
  """
  proven = sum(entry.proven for entry in found)
  limit = 'The search is limited to 4,096 beams.'
  if drawn:
    if proven == len(found):
      return f'Proven: a search of any width draws these {proven} items.'
    return (
      f'Proven for the first {proven} of {len(found)}: a wider search may draw '
      f'other items after them. {limit}'
    )
  if proven == len(found):
    return f'Proven: no other item ranks above any of these {proven}.'
  return (
    f'Proven for the first {proven} of {len(found)}: others may rank above the '
    f'rest. {limit}'
  )


def show_shoppers(recommender: Recommender, seed: int) -> str:
  """Returns the histories of five shoppers and ten titles for each.

  Args:
    recommender: The trained model.
    seed: Of the draw of shoppers.
  """
  dataset = recommender.dataset
  examples = split(dataset, 'test')
  rng = np.random.default_rng(seed)
  users = rng.permutation(dataset.num_users)[:_NUM_SHOPPERS]
  histories = [dataset.history_of(int(user))[:-1].tolist() for user in users]
  targets = dataset.history[examples.end[users]]
  blocks = []
  for user, history, target, found in zip(
    users,
    histories,
    targets,
    recommender.recommend_rows(histories, users=users.tolist()),
    strict=True,
  ):
    titles = [f'      {shorten(dataset.items.title(r))}' for r in history[-5:]]
    earlier = len(history) - len(titles)
    if earlier:
      titles.insert(0, f'      ({earlier} earlier)')
    ids = [entry.item_id for entry in found]
    target_id = dataset.items.ids[target]
    place = ids.index(target_id) if target_id in ids else -1
    blocks.append(
      f'\nShopper {plain(dataset.user_ids[user])} bought\n'
      + '\n'.join(titles)
      + '\n    and may like (score, item, title; * was bought next)\n'
      + show_recommendations(found, place)
    )
  return '\n'.join(blocks)


def shorten(title: str) -> str:
  """Returns a title that fits a line of the terminal, see `item_text.plain`."""
  title = plain(title)
  width = max(20, shutil.get_terminal_size((100, 24)).columns - 32)
  if len(title) <= width:
    return title
  return title[: width - 1] + '\N{HORIZONTAL ELLIPSIS}'
