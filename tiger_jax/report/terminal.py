"""The table of a run's results for a terminal."""

import textwrap
from typing import Any

_SHORT = {'validation': 'val.', 'test': 'test', 'test_masked': 'test masked'}
_NAMES = {
  'tiger': 'TIGER', 'dsi': 'DSI', 'sasrec': 'SASRec', 'bert4rec': 'BERT4Rec',
  'gru4rec': 'GRU4Rec', 'matrix_factorization': 'MF', 'two_tower': 'two towers',
  'vq_rec': 'VQ-Rec', 'item_knn': 'Semantic-KNN',
}  # fmt: skip


def show_results(results: dict[str, Any]) -> str:
  """Returns the table of metrics, the baseline's and the bound's beside it."""
  test = results['metrics']['test']
  model = results['model']
  names = [n for n in test if n != 'invalid@20']
  rows = [
    (f'{model} {_SHORT[name]}', values)
    for model, splits in (
      (_NAMES.get(model, model), results['metrics']),
      ('popularity', results['baselines']['popularity']),
    )
    for name, values in splits.items()
  ]
  best = results.get('best_possible')
  if best:
    rows.append(('best possible test', best))
  widths = [len(name) + 1 for name in names]
  labels = max(18, *(len(label) + 1 for label, _ in rows))
  cells = [f'{name:>{w}}' for name, w in zip(names, widths, strict=True)]
  lines = [' ' * labels + ''.join(cells)]
  for label, values in rows:
    cells = (f'{values[n]:.4f}' if n in values else '' for n in names)
    padded = (f'{c:>{w}}' for c, w in zip(cells, widths, strict=True))
    lines.append(f'{label:<{labels}}' + ''.join(padded).rstrip())
  notes = []
  if best:
    share = test['recall@10'] / best['recall@10']
    notes.append(
      f'{_NAMES.get(model, model)} reaches {share:.0%} of the best recall@10 '
      'that the law behind the synthetic shop allows.'
    )
  note = (
    'Hits are items, of the whole catalogue; items that a user has already are '
    'left out in the line "masked", and only there.'
  )
  if 'semantic_ids' in results:
    collisions = results['semantic_ids']['collision_rate'][-1]
    note += (
      " A sid_recall hit only shares the target's meaning codes, as "
      f'{collisions:.1%} of the items do with another.'
    )
  if 'invalid@20' in test:
    note += (
      ' An invalid ID is one that no item has, in a search that is free to '
      f'generate it; invalid@20 is {test["invalid@20"]:.4f}.'
    )
  if 'embedding' in results:
    note += f' Item vectors: {results["embedding"]["encoder"]}.'
  notes.append(note)
  return '\n'.join([*lines, *(textwrap.fill(note, 79) for note in notes)])
