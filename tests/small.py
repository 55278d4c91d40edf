"""A small shop as files, and settings that train on it in seconds."""

import csv
import io
import json
from pathlib import Path
import random
from typing import Any

ROOT = Path(__file__).parents[1]
_KINDS = ('Bowl', 'Ladder', 'Torch', 'Blanket', 'Hammock', 'Teapot', 'Clock')
_MAKERS = ('Arden', 'Brook', 'Corvid', 'Dunlin')
# The sizes of a small model.
MODEL = {
  'd_model': 8,
  'num_heads': 2,
  'head_dim': 4,
  'mlp_dim': 8,
  'num_encoder_layers': 1,
  'num_decoder_layers': 1,
}
# The flags of a run on the shop, without --config.dataset.source_dir.
FLAGS = (
  f'--config={ROOT}/configs/own_data.py',
  '--config.embedding.dim=8',
  '--config.semantic_ids.codebook_sizes=(8,8,8)',
  '--config.model.max_history=4',
  *(f'--config.model.{name}={size}' for name, size in MODEL.items()),
  '--config.train.batch_size=8',
  '--config.train.steps=20',
  '--config.train.steps_per_call=5',
  '--config.train.length_buckets=(4,)',
  '--config.train.log_every=5',
  '--config.train.evaluate_every=10',
  '--config.train.evaluate_users=32',
  '--config.train.optimizer.warmup_steps=5',
  '--config.evaluation.num_beams=10',
  '--config.evaluation.batch_size=32',
)
Row = dict[str, Any]


def items(num: int = 40, form: str = 'A{:03d}') -> list[Row]:
  """Returns the rows of a catalog. `form` is the format of the ids."""
  return [
    {
      'item': form.format(i),
      'title': f'{_MAKERS[i % 4]} {_KINDS[i % 7]} {i}',
      'price': f'{5 + i}.50',
      'brand': _MAKERS[i % 4],
      'categories': f'Home > {_KINDS[i % 7]}',
      'description': f'A {_KINDS[i % 7].lower()}, well made.',
    }
    for i in range(num)
  ]


def events(
  catalog: list[Row], num_users: int = 50, shortest: int = 5, longest: int = 9
) -> list[Row]:
  """Returns the rows of a log. Each item has two possible successors."""
  rng = random.Random(7)
  rows = []
  for user in range(num_users):
    index, time = rng.randrange(len(catalog)), 1_500_000_000 + 1000 * user
    for _ in range(rng.randint(shortest, longest)):
      item = catalog[index]['item']
      rows.append({'user': f'u{user}', 'item': item, 'timestamp': time})
      index = (index + rng.choice((1, 7))) % len(catalog)
      time += rng.randrange(60, 90_000)
  return rows


def as_csv(
  rows: list[Row], columns: list[str] | None = None, **options: Any
) -> str:
  """Returns rows as CSV. `options` are those of `csv.DictWriter`."""
  text = io.StringIO(newline='')
  columns = columns or list(rows[0])
  options = {'lineterminator': '\n', 'extrasaction': 'ignore'} | options
  writer = csv.DictWriter(text, columns, **options)
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def as_jsonl(rows: list[Row]) -> str:
  """Returns rows as lines of JSON."""
  return ''.join(json.dumps(row) + '\n' for row in rows)


def make(
  folder: Path, log: list[Row] | None = None, catalog: list[Row] | None = None
) -> Path:
  """Writes a shop as two CSV files, and returns the folder.

  The default catalog and log are `items()` and `events()`.
  """
  folder.mkdir(parents=True, exist_ok=True)
  catalog = items() if catalog is None else catalog
  log = events(catalog) if log is None else log
  (folder / 'interactions.csv').write_text(as_csv(log), encoding='utf-8')
  (folder / 'items.csv').write_text(as_csv(catalog), encoding='utf-8')
  return folder
