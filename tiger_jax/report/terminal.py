"""The table of a run's results for a terminal."""

import textwrap
from typing import Any

from tiger_jax.recommenders import registry

_SHORT = {'validation': 'val.', 'test': 'test', 'test_masked': 'test masked'}


def show_results(results: dict[str, Any]) -> str:
  """Returns the table of a `results.json`, and notes on how to read it."""
  test = results['metrics']['test']
  model = registry.title(results['model'])
  rows = [
    (f'{name} {_SHORT[part]}', values)
    for name, parts in (
      (model, results['metrics']),
      *results['baselines'].items(),
    )
    for part, values in parts.items()
  ]
  best = results.get('best_possible')
  if best:
    rows.append(('best possible test', best))
  names = [name for name in test if name != 'invalid@20']
  width = max(18, *(len(label) + 1 for label, _ in rows))
  lines = [' ' * width + ''.join(f' {name}' for name in names)]
  for label, values in rows:
    cells = (f'{values[n]:.4f}' if n in values else '' for n in names)
    padded = (f' {c:>{len(n)}}' for c, n in zip(cells, names, strict=True))
    lines.append(f'{label:<{width}}{"".join(padded).rstrip()}')
  notes = []
  if best:
    share = test['recall@10'] / best['recall@10']
    notes.append(
      f'{model} reaches {share:.0%} of the best recall@10 that any model can '
      'reach on this synthetic shop.'
    )
  note = (
    'All items of the catalog are ranked. Only the line "test masked" excludes '
    'items of the history.'
  )
  if 'transitions' in results['baselines']:
    note += (
      ' The baseline transitions ranks items by how often they followed the '
      'last items of the history in the training data.'
    )
  if 'semantic_ids' in results:
    collisions = results['semantic_ids']['collision_rate'][-1]
    note += (
      ' sid_recall counts any item with the semantic prefix of the target as a '
      f'hit; {collisions:.1%} of the items share their prefix with another '
      'item.'
    )
  if 'invalid@20' in test:
    note += (
      ' invalid is the share of generated IDs that no item has, in a search '
      f'that is not limited to valid IDs; invalid@20 is '
      f'{test["invalid@20"]:.4f}.'
    )
  if 'embedding' in results:
    note += f' Item vectors: {results["embedding"]["encoder"]}.'
  notes.append(note)
  return '\n'.join([*lines, *(textwrap.fill(note, 79) for note in notes)])
