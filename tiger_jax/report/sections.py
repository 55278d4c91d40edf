"""The content of the report's sections about the run, its data and its IDs."""

from typing import Any

import numpy as np

from tiger_jax.config import Config
from tiger_jax.config.commands import quote
from tiger_jax.config.config_dict import holds_path
from tiger_jax.data import counts
from tiger_jax.data.item_text import plain
from tiger_jax.report import charts
from tiger_jax.report.finished_run import FinishedRun, flat
from tiger_jax.semantic_ids.categories import UNKNOWN, coarse_categories
from tiger_jax.semantic_ids.ids import group_rows

_MAX_TITLE = 120
_NUM_GROUPS = 4
_NUM_MEMBERS = 5
_METRICS = ('recall@10', 'ndcg@10')
# The phases of `goodput.jsonl`, in words.
_PHASES = {
  'step': 'training steps',
  'compile': 'compilation',
  'data': 'waiting for data',
  'evaluate': 'validation',
  'save': 'saving checkpoints',
  'restore': 'restoring a checkpoint',
  'other': 'other work',
}


def settings(run: FinishedRun) -> dict[str, Any]:
  """Returns the command and the settings that differ from the defaults."""
  changed = [
    (name, _shown(name, value))
    for name, value in flat(run.config).items()
    if value != flat(Config())[name]
  ]
  # The page breaks lines only between flags.
  words = run.command.replace(' --', '\n--').splitlines()
  return {'words': words, 'changed': changed}


def funnel(run: FinishedRun) -> dict[str, Any]:
  """Returns how many events, users and items were read, dropped and used."""
  counted = run.results['dataset'].get('counts') or {}
  rows = []
  for name, label in (('events', 'purchases'), ('users', 'users')):
    if flow := counted.get(name):
      dropped = [f'{n:,} {plain(why)}' for why, n in flow['dropped'].items()]
      rows.append((label, flow['read'], dropped, flow['used']))
  if items := counted.get('items'):
    extra = items['used'] - items['read']
    notes = [f'{extra:,} more known from purchases only'] if extra > 0 else []
    if number := items.get('repeated'):
      notes.append(f'{number:,} were repeated: only the last copy is kept')
    if number := items.get('never_bought'):
      notes.append(f'{number:,} of the used items were never bought')
    rows.append(('items', items['read'], notes, items['used']))
  shown_above = ('events', 'users', 'items')
  others = {k: v for k, v in counted.items() if k not in shown_above}
  dataset = run.dataset
  lengths = np.diff(dataset.offsets)
  return {
    'rows': rows,
    'notes': counts.lines(others),
    'num_users': dataset.num_users,
    'num_items': dataset.num_items,
    'num_events': dataset.num_interactions,
    'mean_length': float(lengths.mean()),
    'median_length': float(np.median(lengths)),
    'figure': charts.history_lengths(lengths),
  }


def semantic_ids(run: FinishedRun) -> dict[str, Any] | None:
  """Returns the quality of the IDs; None for a model without IDs."""
  measured = run.results.get('semantic_ids')
  if run.ids is None or not measured:
    return None
  names = [plain(x) for x in coarse_categories(run.dataset.items)]
  levels = [
    (
      level + 1,
      measured['level_sizes'][level],
      measured['usage'][level],
      measured['perplexity'][level],
      measured['collision_rate'][level],
    )
    for level in range(len(measured['usage']))
  ]
  plots = [charts.code_use(run.ids)]
  for title, label, lines in (
    (
      'Items that share their first codes',
      'share of items that collide',
      {'items': 'collision_rate'},
    ),
    (
      'Lost variance of the item vectors',
      'share of the variance',
      {'variance': 'reconstruction_error'},
    ),
    (
      'Do similar items share codes?',
      'share with the same first codes',
      {
        '10 nearest neighbors': 'neighbor_agreement',
        'two random items': 'neighbor_agreement_by_chance',
      },
    ),
  ):
    values = {name: measured.get(key) for name, key in lines.items()}
    if all(values.values()):
      plots.append(charts.level_shares(title, label, values))
  figure, legend = None, []
  if set(names) != {UNKNOWN}:
    figure, legend = charts.categories(run.ids, names)
  return {
    'quantizer': run.config.semantic_ids.quantizer,
    'encoder': run.results.get('embedding', {}).get('encoder', ''),
    'levels': levels,
    'has_extra': len(run.ids.level_sizes) > run.ids.num_meaning_levels,
    'worst': measured['worst_collision'],
    'duplicates': measured['duplicate_items'],
    'collision_rate': measured['collision_rate'][-1],
    'plots': plots,
    'categories': figure,
    'legend': legend,
    'groups': _prefix_groups(run),
  }


def _prefix_groups(run: FinishedRun) -> list[dict[str, Any]]:
  """Returns examples of items that share a long prefix."""
  assert run.ids is not None
  codes = run.ids.prefixes
  rng = np.random.default_rng(run.config.seed)
  for depth in range(codes.shape[1] - 1, 0, -1):
    group, sizes = group_rows(codes[:, :depth])
    candidates = np.flatnonzero(sizes >= 3)
    if len(candidates) >= _NUM_GROUPS or depth == 1:
      picked = rng.permutation(candidates)[:_NUM_GROUPS]
      break
  else:
    return []
  groups = []
  for number in np.sort(picked):
    members = np.flatnonzero(group == number)
    groups.append(
      {
        'prefix': codes[members[0], :depth].tolist(),
        'size': len(members),
        'titles': [item_title(run, x) for x in members[:_NUM_MEMBERS].tolist()],
      }
    )
  return groups


def training(run: FinishedRun) -> dict[str, Any]:
  """Returns the curves of the training, from `metrics.jsonl`."""
  lines = [
    x
    for x in run.log
    if x.get('stage') == 'train' and isinstance(x.get('step'), int)
  ]
  # A step may have several lines. If a resumed run repeats a step, its last
  # values are used.
  by_step: dict[int, dict[str, Any]] = {}
  for line in lines:
    by_step.setdefault(line['step'], {}).update(line)

  def points(name: str) -> list[tuple[int, float]]:
    return [
      (step, float(by_step[step][name]))
      for step in sorted(by_step)
      if isinstance(by_step[step].get(name), int | float)
    ]

  plots = []
  if loss := points('loss'):
    plots.append(charts.curve('Training loss', 'loss', {'loss': loss}))
  validation = {name: x for name in _METRICS if (x := points(name))}
  best = None
  if validation:
    plots.append(charts.curve('Validation', 'mean over users', validation))
    scores = validation.get('ndcg@10', [])
    best = max(scores, key=lambda x: x[1])[0] if scores else None
  return {
    'plots': plots,
    'best_step': best,
    'num_validated': run.config.train.evaluate_users,
  }


def time(run: FinishedRun) -> dict[str, Any]:
  """Returns the seconds of each stage, and of each phase of the training."""
  stages = {
    name.replace('_', ' '): float(value)
    for name, value in run.results['seconds'].items()
    if isinstance(value, int | float)
  }
  phases: dict[str, float] = {}
  for line in run.goodput:
    values = line.get('seconds')
    for name, value in (values if isinstance(values, dict) else {}).items():
      if name != 'wall' and isinstance(value, int | float):
        phases[name] = phases.get(name, 0.0) + value
  return {
    'stages': _shares(stages),
    'total': sum(stages.values()),
    'phases': _shares({_PHASES.get(k, k): v for k, v in phases.items()}),
    'goodput': phases.get('step', 0.0) / max(sum(phases.values()), 1e-9),
  }


def environment(run: FinishedRun) -> list[tuple[str, str]]:
  """Returns the versions, the devices and the seed."""
  values = dict(run.results['environment'])
  devices = [str(x) for x in values.pop('devices', [])]
  rows = [
    ('devices', f'{devices.count(x)} x {x}') for x in dict.fromkeys(devices)
  ]
  names = {'cpu_cores': 'CPU cores', 'python': 'Python', 'seed': 'random seed'}
  return rows + [
    (names.get(name, name), plain(str(value))) for name, value in values.items()
  ]


def item_title(run: FinishedRun, row: int) -> str:
  """Returns the title of an item on one line, cut to a readable length."""
  title = plain(run.dataset.items.title(row))
  if len(title) <= _MAX_TITLE:
    return title
  return title[: _MAX_TITLE - 1] + '\N{HORIZONTAL ELLIPSIS}'


def _shares(values: dict[str, float]) -> list[tuple[str, float, float]]:
  """Returns names, values and shares of the total, the largest first."""
  total = max(sum(values.values()), 1e-9)
  order = sorted(values.items(), key=lambda x: -x[1])
  return [(name, value, value / total) for name, value in order]


def _shown(name: str, value: Any) -> str:
  # A whole path would reveal details of the machine.
  if holds_path(name, value):
    paths = (value,) if isinstance(value, str) else value
    return ', '.join(f'.../{x.rstrip("/").rpartition("/")[2]}' for x in paths)
  return plain(quote(str(value))) if isinstance(value, str) else str(value)
