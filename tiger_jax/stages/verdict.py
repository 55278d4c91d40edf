"""Decides whether a config can train on a dataset, and suggests settings."""

from collections.abc import Collection, Iterator
import contextlib
import dataclasses
import math
from typing import Any, NamedTuple

from tiger_jax.config import Config
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.checking.report import Report
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.events.filters import drops_short_users, min_user_events
from tiger_jax.embedding import encoders
from tiger_jax.errors import DataError, TigerError, UsageError
from tiger_jax.recommenders import checks, registry
from tiger_jax.recommenders.session import training_batches
from tiger_jax.semantic_ids.quantizers import registry as quantizers
from tiger_jax.stages import first_checks, semantic_ids

# docs/data.md: 0.7 steps for each user, in batches of 32.
_READS_OF_A_HISTORY = 0.7 * 32
_FEWEST_STEPS = 500
# The steps of these configs were measured.
_MEASURED = ('synthetic', 'amazon2014/')
# With these settings, rows are dropped and counted instead of refused.
_LENIENT = {
  'drop_short_users': True,
  'allow_missing_metadata': True,
  'max_bad_share': 1.0,
}


class Verdict(NamedTuple):
  """Whether a config can train on a dataset.

  Attributes:
    reasons: Why the config cannot train on the dataset; empty if it can.
    settings: Suggested settings, such as `{'train.steps': 500}`.
    unsolved: Why the config cannot train even with `settings`; '' if it can.
  """

  reasons: tuple[str, ...]
  settings: dict[str, Any]
  unsolved: str


def lenient(config: Config) -> Config:
  """Returns a config whose data stage drops rows instead of refusing them."""
  dataset = dataclasses.replace(config.dataset, **_LENIENT)
  return dataclasses.replace(config, dataset=dataset)


def judge(
  config: Config,
  dataset: Dataset,
  report: Report,
  chosen: Collection[str] = (),
) -> Verdict:
  """Returns the verdict about a config.

  Args:
    config: The settings of the run.
    dataset: The dataset, read with the settings of `lenient`.
    report: The measurements of the dataset.
    chosen: The fields that the user has set, such as `train.steps`. No other
      value is suggested for them unless it is required.
  """
  reasons: list[str] = []
  settings: dict[str, Any] = {}
  for reason, changes in _required(config, dataset, report):
    reasons.append(reason)
    settings |= changes
  if dataset.training_counts is None:
    settings |= _schedule(_with(config, settings), dataset.num_users, chosen)
  unsolved = ''
  try:
    changed = _with(config, settings)
    checks.check(changed)
    encoders.check_encoder(changed.embedding, dataset.items)
    first_checks.check_sizes(changed, dataset, 'evaluate', True)
  except TigerError as error:
    unsolved = str(error)
  return Verdict(tuple(reasons), settings, unsolved)


def _required(
  config: Config, dataset: Dataset, report: Report
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields each reason why a run would fail, and settings that avoid it."""
  c, counts = config, report.counts
  yield from _bad_rows(c.dataset.max_bad_share, counts.get('rows', {}))
  short = f'with fewer than {min_user_events(c.dataset)} events'
  if not drops_short_users(c.dataset) and (
    number := counts.get('users', {}).get('dropped', {}).get(short)
  ):
    yield f'{number:,} users {short}', {'dataset.drop_short_users': True}
  if (missing := counts.get('missing')) and not (
    c.dataset.allow_missing_metadata
  ):
    yield (
      f'{missing["items"]:,} bought items have no text',
      {'dataset.allow_missing_metadata': True},
    )
  model = registry.entry(c.model)
  if model.needs:
    try:
      encoders.check_encoder(c.embedding, dataset.items)
    except DataError as error:
      yield str(error), {}
    except UsageError as error:
      dim = {'embedding.dim': encoders.fitting_dim(c.embedding, dataset.items)}
      is_dim = c.embedding.encoder == 'tfidf-svd'
      yield str(error), dim if is_dim else {'embedding.encoder': 'tfidf-svd'}
  if 'semantic_ids' in model.needs:
    num_items = dataset.num_items - len(dataset.unseen)
    try:
      semantic_ids.refuse_sizes(c.semantic_ids, num_items)
    except UsageError as error:
      sizes = quantizers.with_sizes(c.semantic_ids).codebook_sizes
      size = semantic_ids.fitting_size(num_items)
      fitting = tuple(min(x, size) for x in sizes)
      yield str(error), {'semantic_ids.codebook_sizes': fitting}
  if model.is_trained:
    try:
      training_batches(c, dataset)
    except DataError as error:
      yield str(error), _fitting_batches(c, dataset)
    except UsageError as error:  # The training histories are in shards.
      yield str(error), {} if c.train.packed else {'train.packed': True}


def _bad_rows(
  max_share: float, rows: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields one reason if a table has more bad rows than the config allows."""
  bad = {
    name: sum(x['rows'] for x in table['dropped'].values()) / table['read']
    for name, table in rows.items()
    if table['dropped']
  }
  name = max(bad, key=lambda x: bad[x], default='')
  if not name or bad[name] <= max_share:
    return
  reason, worst = max(rows[name]['dropped'].items(), key=lambda x: x[1]['rows'])
  yield (
    f'{bad[name]:.3%} of the rows of {name} are bad, but '
    f'config.dataset.max_bad_share is {max_share:g}; most are {reason} '
    f'({worst["samples"][0]})',
    # Rounded up, so that the share is not above the setting.
    {'dataset.max_bad_share': math.ceil(bad[name] * 1000) / 1000},
  )


def _fitting_batches(config: Config, dataset: Dataset) -> dict[str, Any]:
  """Returns settings with the batch size halved until it fits, or {}."""
  size = config.train.batch_size
  while size > 1 and dataset.training_counts is None:
    size //= 2
    settings = {'train.batch_size': size}
    with contextlib.suppress(DataError):
      training_batches(_with(config, settings), dataset)
      return settings
  return {}


def _schedule(
  config: Config, num_users: int, chosen: Collection[str]
) -> dict[str, Any]:
  """Returns the settings for the number of users (docs/data.md)."""
  c = config.train
  is_measured = config.dataset.name.startswith(_MEASURED)
  if is_measured or not config.model.causal_encoder:
    return {}
  wanted = num_users * _READS_OF_A_HISTORY / c.batch_size
  steps = max(_FEWEST_STEPS, _rounded(wanted))
  settings: dict[str, Any] = {}
  if 'train.steps' not in chosen and not 0.5 <= c.steps / steps <= 2:
    settings['train.steps'] = steps
  steps = settings.get('train.steps', c.steps)
  every = 'train.evaluate_every'
  if steps < 2000 and c.evaluate_every > steps // 5 and every not in chosen:
    settings[every] = max(1, steps // 10)
  warmup = 'train.optimizer.warmup_steps'
  if 'train.steps' in settings and warmup not in chosen:
    if c.optimizer.warmup_steps > steps // 5:
      settings[warmup] = steps // 10
  return settings


def _rounded(value: float) -> int:
  """Returns a number rounded to two significant digits."""
  digits = max(0, math.floor(math.log10(max(value, 1))) - 1)
  return int(round(value, -digits))


def _with(config: Config, settings: dict[str, Any]) -> Config:
  """Returns a config with other values of some fields."""
  values = dataclasses.asdict(config)
  for path, value in settings.items():
    section: dict[str, Any] = values
    *sections, field = path.split('.')
    for name in sections:
      section = section[name]
    section[field] = value
  return from_json(values)
