"""Makes RESULTS.md from the records of experiments.

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
from tiger_jax.report.claims import make_claims
from tiger_jax.report.notes import NOTES, PROVEN
from tiger_jax.report.paper import PAPER, without_variant

_SCALES = ('recall', 'ndcg', 'masked_', 'sid_recall', 'invalid')

_INTRODUCTION = """# Results

`make results` writes this page from the files in `results/`.

**Protocol.** The last item of each user is the test target, and the item before
it is the validation target. The checkpoint is selected on the validation
targets. Every item of the catalog is ranked, and only the target item itself is
a hit. Events with equal timestamps keep the order of the file, except in runs
called "shuffled". A model may recommend items that a user already has; they
count as misses. The "masked" columns exclude these items.

**Search.** Tables without the column "proven" use the same search as requests
to a `Recommender`. It has `evaluation.num_beams` beams, doubled until there is
one for each requested item.

**Columns.** "collide" is the share of items that have the same semantic prefix
as another item. "sid_recall" counts any item with the semantic prefix of the
target as a hit. "seconds" is the time of training, on machines that may have
run other programs too. The number after ± is the standard error over seeds.

**The paper.** Rows in italics are the numbers of the paper. Its baselines,
except P5, are from the S3-Rec study, which excludes items that a user already
has. Compare these baselines with our masked columns. The paper does not say
whether the numbers of TIGER exclude these items.

**Reduced experiments.** Experiments whose name ends in _cpu are small. They
only show that the code works: do not compare them with the paper's numbers.
Most of them have one seed and evaluate 4,096 users. For 4,096 users, the
standard error of a recall of .03 is .003, and that of a recall of .01 is .002.
Experiments whose name ends in _cpu_long evaluate all users, except that
diversity_cpu_long evaluates 4,096. In both variants, cold_start evaluates all
users whose target is unseen. In _cpu_long, TIGER has the model and the training
of configs/beauty.py:cpu, and SASRec has its full size.

**Origin.** The file of a row in `results/` contains the config of the row. The
rows were not all made with the same version of the code. Older versions
assigned collision codes in the order of the events. This version assigns them
in the order of a hash of the item ids. The files do not record which of the two
a row used. With RQ-KMeans, 23.8% of the items of Beauty collide in older rows,
and 22.2% in newer ones. The command below a table repeats its runs.
docs/experiments.md names the flags for data files on disk.
"""


def make_results(folder: Path) -> str:
  """Returns RESULTS.md, made from the records of a folder."""
  all_records = records.read_all(folder)
  parts = [_INTRODUCTION]
  if claims := make_claims(all_records):
    parts.append(claims)
  for experiment, group in itertools.groupby(
    all_records, key=lambda record: record['experiment']
  ):
    parts.append(f'## {experiment}\n')
    experiment_records = list(group)
    note = NOTES.get(without_variant(experiment), '')
    if any('proven' in x['metrics']['test'] for x in experiment_records):
      note += PROVEN
    if note:
      parts.append(textwrap.fill(' '.join(note.split()), 80) + '\n')
    for dataset, dataset_records in itertools.groupby(
      experiment_records, key=lambda record: record['dataset']
    ):
      parts.append(f'### {dataset}\n')
      parts.append(make_table(experiment, dataset, list(dataset_records)))
  return '\n'.join(parts)


def make_table(
  experiment: str, dataset: str, run_records: Sequence[dict[str, Any]]
) -> str:
  """Returns a table in Markdown, and below it the origin of each row."""
  run_records = sorted(run_records, key=lambda record: record['order'])
  # Older records may lack a column.
  columns = list(
    dict.fromkeys(name for x in run_records for name in x['columns'] or RANKING)
  )
  extra = _extras(run_records)
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
    for name, values in PAPER.get(without_variant(experiment), {})
    .get(dataset, {})
    .items()
  ]
  for record in run_records:
    rows.append([
      # A bar would start a new cell of the table.
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
  for record in run_records:
    origins.setdefault(_origin(record), []).append(record['run'])
  for origin, names in origins.items():
    # If all rows have one origin, the line does not name them.
    label = '' if len(origins) == 1 else f'{"; ".join(names)}: '
    lines.append(f'- {label}{origin}')
  return '\n'.join([*lines, ''])


def _extras(run_records: Sequence[dict[str, Any]]) -> list[str]:
  """Returns the additional columns for which at least one row has a value."""
  extra = []
  if any('sid_recall@10' in x['metrics']['test'] for x in run_records):
    extra += ['sid_recall@10', 'collide']
  if any('test_masked' in x['metrics'] for x in run_records):
    extra += ['masked recall@10', 'masked ndcg@10']
  if any(x['seconds'] for x in run_records):
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
