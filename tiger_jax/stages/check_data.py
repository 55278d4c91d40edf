"""Checks the data of a run before it starts, and writes nothing."""

from collections.abc import Callable, Collection
from typing import Any

from tiger_jax.config import Config
from tiger_jax.data import loading
from tiger_jax.data.checking import report
from tiger_jax.embedding.text import columns, item_sentences
from tiger_jax.errors import DataError, UsageError, one_line
from tiger_jax.recommenders import checks
from tiger_jax.stages.stage import say
from tiger_jax.stages.verdict import Verdict, judge, lenient


def run(
  config: Config,
  chosen: Collection[str],
  command: Callable[[dict[str, Any]], str],
) -> None:
  """Reads the data of a config, and prints measurements and a verdict.

  Args:
    config: The settings of the run.
    chosen: The fields that the user has set, such as `train.steps`.
    command: A function that returns the command with additional settings.

  Raises:
    UsageError: The settings contradict each other.
    DataError: The data cannot be read, or the config cannot train on them.
  """
  checks.check(config)
  if problems := checks.missing_paths(config):
    raise UsageError('; '.join(problems))
  for path in loading.existing_files(config.dataset):
    say('file', f'{path} ({path.stat().st_size:,} bytes)')
  template = config.embedding.template
  try:
    dataset = loading.load_dataset(
      lenient(config).dataset, config.seed, columns(template)
    )
  except DataError as error:
    raise DataError(f'cannot train: {error}') from error
  measured = report.measure(
    dataset,
    item_sentences(dataset.items, template),
    config.dataset.shuffle_ties,
  )
  say('data', f'{dataset.name}, read completely; nothing was written')
  for line in report.lines(measured):
    say('', line)
  warnings = report.warnings(measured)
  for warning in warnings:
    say('warning', f'{warning.finding}: {warning.remedy}')
  verdict = judge(config, dataset, measured, chosen)
  for reason in verdict.reasons:
    say('problem', one_line(reason))
  _conclude(verdict, bool(warnings), command)


def _conclude(
  verdict: Verdict, is_warned: bool, command: Callable[[dict[str, Any]], str]
) -> None:
  if verdict.unsolved:
    raise DataError(f'cannot train: {verdict.unsolved}')
  if not verdict.reasons:
    say('verdict', 'will train, but see the warnings' if is_warned else 'fine')
  else:
    say('verdict', 'cannot train with this config')
  say('command', command(verdict.settings))
  if verdict.reasons:
    others = len(verdict.reasons) - 1
    raise DataError(
      f'cannot train with this config: {verdict.reasons[0]}'
      f'{f" (and {others} more)" if others else ""}; the command '
      'above will train'
    )
