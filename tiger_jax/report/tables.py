"""RESULTS.md, made from the records of experiments.

python -m tiger_jax.report.tables results RESULTS.md
"""

from collections.abc import Sequence
import itertools
import math
from pathlib import Path
import sys
import textwrap
from typing import Any

from tiger_jax.errors import DataError, TigerError
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.report import records
from tiger_jax.report.notes import NOTES, PROVEN
from tiger_jax.report.paper import PAPER, kind

_SCALES = ('recall', 'ndcg', 'sid_recall', 'invalid')

_INTRODUCTION = """# Results

Made by `make results` from the files below `results/`; not written by hand.

Hits are items, of the whole catalogue; every user's last item is the test, the
one before it validation, which alone picks the checkpoint. Ties of the time
stamp keep the order of the file, but for runs that are called shuffled. Items
that a user has already may be recommended, and are misses, where nothing else
is said; the columns called masked leave them out. Tables without a column
"proven" use the serving search: it has `evaluation.num_beams` beams, or as many
as the items asked for where these are more, and is not widened.
"collide" is the share of items whose codes of meaning another item has too.
Seconds are of training, beside whatever else the machine did. After ± stands
the standard error over seeds.

Rows in italics are the paper's own numbers. Its baselines but P5 are of the
S3-Rec study, which leaves out what a user has: compare them with our masked
columns. Whether TIGER's do, the paper does not say.

Experiments whose name ends in _cpu are of a reduced size, to see them work: the
paper's numbers are not to be expected of them. They ask 4,096 users (but
cold_start: all whose next item is unseen), mostly of one seed: of so many, the
standard error of a recall of .03 is .003, and of one of .01 it is .002. Those
that end in _cpu_long have SASRec at full size, and TIGER as two cores train it
in an hour and a half ("TIGER, two cores" of table1).

The file of a row has the config that it was made with; not all were made on one
day, nor by one version of the code. Where a TIGER table has no column "proven",
the collision codes follow the order of the events; in newer runs, that of a
hash of the ids. A command names the run; where files are
already on disk, add the flags that tell where (see README.md).
"""


def make_results(folder: Path) -> str:
  """Returns RESULTS.md, made from the records of a folder."""
  found = records.read_all(folder)
  parts = [_INTRODUCTION]
  for experiment, group in itertools.groupby(
    found, key=lambda record: record['experiment']
  ):
    parts.append(f'## {experiment}\n')
    of_group = list(group)
    note = NOTES.get(kind(experiment), '')
    if any('proven' in record['metrics']['test'] for record in of_group):
      note += PROVEN
    if note:
      parts.append(textwrap.fill(' '.join(note.split()), 80) + '\n')
    for dataset, of_dataset in itertools.groupby(
      of_group, key=lambda record: record['dataset']
    ):
      parts.append(f'### {dataset}\n')
      parts.append(make_table(experiment, dataset, list(of_dataset)))
  return '\n'.join(parts)


def make_table(
  experiment: str, dataset: str, found: Sequence[dict[str, Any]]
) -> str:
  """Returns a table in Markdown, and below it where each row comes from."""
  found = sorted(found, key=lambda record: record['order'])
  # Older records may lack a column.
  columns = list(
    dict.fromkeys(name for x in found for name in x['columns'] or RANKING)
  )
  extra = _extras(found)
  header = ['', *columns, *extra]
  rows = [
    [
      f'*{name}*',
      *(
        f'*{_number(column, value)}*'
        for column, value in zip(columns, values, strict=False)
      ),
      *[''] * (len(header) - 1 - len(values)),
    ]
    for name, values in PAPER.get(kind(experiment), {}).get(dataset, {}).items()
  ]
  for record in found:
    rows.append([
      # A bar would start another cell of the table.
      record['run'].replace('|', r'\|'),
      *(_cell(record, name) for name in columns),
      *(_extra_cell(record, name) for name in extra),
    ])  # fmt: skip
  lines = [
    '| ' + ' | '.join(header) + ' |',
    '|---|' + '---:|' * (len(header) - 1),
    *('| ' + ' | '.join(row) + ' |' for row in rows),
    '',
  ]
  origins: dict[str, list[str]] = {}
  for record in found:
    origins.setdefault(_origin(record), []).append(record['run'])
  for origin, names in origins.items():
    # Where all rows are of one origin, it need not name them.
    whose = '' if len(origins) == 1 else f'{"; ".join(names)}: '
    lines.append(f'- {whose}{origin}')
  return '\n'.join([*lines, ''])


def _extras(found: Sequence[dict[str, Any]]) -> list[str]:
  """Returns the columns after the metrics that any of the rows has."""
  extra = []
  if any('sid_recall@10' in x['metrics']['test'] for x in found):
    extra += ['sid_recall@10', 'collide']
  if any('test_masked' in x['metrics'] for x in found):
    extra += ['masked recall@10', 'masked ndcg@10']
  if any(x['seconds'] for x in found):
    extra.append('seconds')
  return extra


def _cell(record: dict[str, Any], name: str, split: str = 'test') -> str:
  value = record['metrics'].get(split, {}).get(name)
  if value is None:
    return ''
  text = _number(name, value)
  error = (record['standard_error'] or {}).get(split, {}).get(name)
  return text if error is None else f'{text} ± {error:.4f}'.replace('± 0', '± ')


def _number(name: str, value: float) -> str:
  if name == 'proven':  # Rounded down: 1.000 means that all are proven.
    value = math.floor(1000 * value + 1e-9) / 1000
  if not name.startswith(_SCALES):
    return f'{value:.3f}'
  return f'{value:.4f}'.removeprefix('0')


def _extra_cell(record: dict[str, Any], name: str) -> str:
  if name == 'collide':
    rate = record['collision_rate']
    return '' if rate is None else f'{rate:.1%}'
  if name == 'seconds':
    seconds = record['seconds'].get('train')
    return '' if seconds is None else f'{seconds:,.0f}'
  if name.startswith('masked '):
    return _cell(record, name.split()[1], 'test_masked')
  return _cell(record, name)


def _origin(record: dict[str, Any]) -> str:
  vectors = f', vectors {record["embedding"]}' if record['embedding'] else ''
  seeds = ', '.join(map(str, record['seeds']))
  return f'{record["device"]}, seeds {seeds}{vectors}; `{record["command"]}`'


def main() -> None:
  """Writes RESULTS.md; an expected error becomes one line."""
  if len(sys.argv) != 3:
    sys.exit('usage: python -m tiger_jax.report.tables results RESULTS.md')
  folder, path = map(Path, sys.argv[1:])
  try:
    path.write_text(make_results(folder), encoding='utf-8')
  except TigerError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(error.exit_code)
  except OSError as error:
    print(
      f'error: {path} cannot be written ({error.strerror}): name a file',
      file=sys.stderr,
    )
    sys.exit(DataError.exit_code)


if __name__ == '__main__':
  main()
