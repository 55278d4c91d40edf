"""What a run shows a person at its end."""

from typing import Any

import numpy as np

from tiger_jax.data.splits import split
from tiger_jax.serving.recommender import Recommendation, Recommender

_NUM_SHOPPERS = 5
_TITLE_WIDTH = 68


def show_recommendations(found: list[Recommendation], bought: int = -1) -> str:
  """Returns one line per recommended item.

  Args:
    found: Best first.
    bought: Position of the item that was bought next, marked; -1 for none.
  """
  return '\n'.join(
    f'  {"*" if place == bought else " "}{place + 1:>3}  {entry.score:7.2f}  '
    f'{entry.item_id:<12} {shorten(entry.title)}'
    for place, entry in enumerate(found)
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
    recommender.recommend_rows(histories),
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
      f'\nShopper {dataset.user_ids[user]} bought\n'
      + '\n'.join(titles)
      + '\n    and may like (score, item, title; * was bought next)\n'
      + show_recommendations(found, place)
    )
  return '\n'.join(blocks)


def show_results(results: dict[str, Any]) -> str:
  """Returns the table of metrics, the baseline's and the bound's beside it."""
  names = list(results['metrics']['test'])
  rows = [
    (f'{model}, {name}', values)
    for model, splits in (
      ('TIGER', results['metrics']),
      ('popularity', results['baselines']['popularity']),
    )
    for name, values in splits.items()
  ]
  best = results.get('best_possible')
  if best:
    rows.append(('best possible, test', best))
  lines = [' ' * 22 + ''.join(f'{name:>15}' for name in names)]
  for label, values in rows:
    cells = (f'{values[n]:.4f}' if n in values else '' for n in names)
    lines.append(f'{label:<22}' + ''.join(f'{cell:>15}' for cell in cells))
  if best:
    share = results['metrics']['test']['recall@10'] / best['recall@10']
    lines.append(
      f'TIGER reaches {share:.0%} of the best possible recall@10, which the '
      'process behind the synthetic shop allows.'
    )
  collisions = results['semantic_ids']['collision_rate']
  lines.append(
    'Hits are items of the whole catalogue, seen ones not masked; a sid_recall '
    f'hit shares the meaning codes, as {collisions:.1%} of the items do with '
    f'another. Item vectors: {results["embedding"]["encoder"]}.'
  )
  return '\n'.join(lines)


def shorten(title: str) -> str:
  """Returns a title that fits a line."""
  title = ' '.join(title.split())
  if len(title) <= _TITLE_WIDTH:
    return title
  return title[: _TITLE_WIDTH - 1] + '\N{HORIZONTAL ELLIPSIS}'
