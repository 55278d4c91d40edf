"""Parses and runs the commands of `python -m tiger_jax.beam`."""

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import logging
from pathlib import Path
from typing import Any, NoReturn

from tiger_jax.config import (
  Config,
  DatasetConfig,
  command_line,
  commands,
  config_dict,
  config_file,
)
from tiger_jax.config.checks import did_you_mean, nearest_and_all
from tiger_jax.data import counts
from tiger_jax.data.events import filters
from tiger_jax.embedding import text
from tiger_jax.errors import UsageError

# Beam warns when it is imported without the libraries of Google Cloud.
logging.getLogger().setLevel(logging.ERROR)
try:
  from apache_beam.options.pipeline_options import PipelineOptions

  from tiger_jax.beam import prepare
except ModuleNotFoundError as error:
  raise UsageError(
    f'this command needs the package {error.name}: install the extra beam in '
    "a separate environment, with pip install 'tiger_jax[beam]'"
  ) from error

# The default runner of Beam downloads a program.
LOCAL_RUNNER = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'
_HELP = """python -m tiger_jax.beam COMMAND [FLAGS] [FLAGS OF THE BEAM RUNNER]

  prepare    Turns raw interactions into filtered histories.
    --config=FILE      The config. --config.dataset.source_dir=FOLDER is the
                       folder of the raw files.
    --out=FOLDER       The folder to write.
  shard      Turns prepared histories into shards for training.
    --config=FILE      The config. --config.dataset.source_dir=FOLDER is the
                       folder that prepare wrote, and --config.model.max_history
                       is the largest length of a history.
    --out=FOLDER       The folder to write.
    --users=N          About the number of users for validation and test. The
                       default is 10000.
  embed      Turns the items of a prepared folder into vectors.
    --config=FILE      The config. --config.dataset.source_dir=FOLDER is the
                       folder that prepare wrote.
    --out=FOLDER       The folder to write.
  assign     Turns vectors into Semantic IDs, with the tokenizer of a run.
    --workdir=FOLDER   The folder of the run.
    --vectors=FOLDER   The folder that embed wrote.
    --out=FOLDER       The folder to write.
  recommend  Recommends items to all users.
    --workdir=FOLDER   The folder of the run.
    --out=FOLDER       The folder to write.
    --histories=FILE, --k=N, --format=NAME, --batch_size=N
                       Optional flags, the same as for --mode=recommend_all.

All other flags must be flags of Beam or of its runners, and are passed to the
runner. Flags after -- are passed without a check. The default is
--runner={runner}. To start several
processes, add --direct_num_workers=2 --direct_running_mode=multi_processing.
docs/scale.md describes the commands.
"""


class _Parser(argparse.ArgumentParser):
  """An argument parser that raises `UsageError`."""

  def error(self, message: str) -> NoReturn:
    """Raises UsageError with the message of argparse."""
    raise UsageError(message)


def run(argv: Sequence[str]) -> None:
  """Runs a command.

  Args:
    argv: The arguments of the program.

  Raises:
    TigerError: The command failed, and the user can fix the reason.
  """
  own = argv[: argv.index('--')] if '--' in argv else argv
  if not argv or argv[0] == 'help' or {'-h', '--help'} & set(own):
    print(_HELP.format(runner=LOCAL_RUNNER), end='')
    return
  command, *arguments = argv
  if command not in _COMMANDS:
    raise UsageError(f'{command!r}: {nearest_and_all(command, (*_COMMANDS,))}')
  _COMMANDS[command](arguments)


def _prepare(arguments: list[str]) -> None:
  flags, overrides, runner = _parse(arguments, ('config', 'out'))
  config = _config(flags['config'], overrides)
  out = _path(flags['out'], '--out')
  columns = text.columns(config.embedding.template)
  found = prepare.prepare(config.dataset, columns, out, runner)
  for line in counts.lines(found):
    print(line)
  print(f'Prepared: {out}')
  train = _reads(config, overrides, out, ('exclude_users', 'exclude_items'))
  print(f'Train with: {commands.text(flags["config"], train)}')


def _reads(
  config: Config,
  overrides: dict[str, str | bool],
  out: Path,
  fields: Sequence[str],
) -> dict[str, str | bool]:
  """Returns the overrides of a run that reads a folder.

  Args:
    config: The config of the command.
    overrides: The overrides of the command.
    out: The folder.
    fields: The fields of `config.dataset` that get their default values.
  """
  c, default = config.dataset, DatasetConfig()
  named = dataclasses.asdict(c.columns)
  # The files have the columns `user`, `item` and so on.
  changed = [f'columns.{name}' for name, x in named.items() if x]
  values = {f'dataset.{name}': '' for name in changed}
  for name in fields:
    if getattr(c, name) != getattr(default, name):
      values[f'dataset.{name}'] = str(getattr(default, name))
  values['dataset.source_dir'] = str(out)
  return {
    name: value for name, value in overrides.items() if name not in values
  } | values


def _shard(arguments: list[str]) -> None:
  from tiger_jax.beam import shard

  flags, overrides, runner = _parse(arguments, ('config', 'out'), ('users',))
  config = _config(flags['config'], overrides)
  out = _path(flags['out'], '--out')
  num_users = _integer(flags['users'] or '10000', '--users')
  histories, num_shards, num_sampled = shard.shard(
    _prepared(config), config.model.max_history, num_users, out, runner
  )
  print(
    f'{histories:,} training histories in {num_shards:,} shards, and '
    f'{num_sampled:,} users for validation and test'
  )
  print(f'Shards: {out}')
  fields = [*filters.made_from(config.dataset)]
  fields += ['shuffle_ties', 'unseen_share']
  train = _reads(config, overrides, out, fields) | {'train.packed': True}
  print(f'Train with: {commands.text(flags["config"], train)}')


def _embed(arguments: list[str]) -> None:
  from tiger_jax.beam import embed

  flags, overrides, runner = _parse(arguments, ('config', 'out'))
  config = _config(flags['config'], overrides)
  out = _path(flags['out'], '--out')
  num, dim = embed.embed(config.embedding, _prepared(config), out, runner)
  print(f'{num:,} vectors of {dim} numbers\nVectors: {out}')


def _assign(arguments: list[str]) -> None:
  from tiger_jax.beam import assign  # Imports JAX, which takes seconds.

  flags, _, runner = _parse(arguments, ('workdir', 'vectors', 'out'))
  workdir, vectors, out = (_path(flags[x], f'--{x}') for x in flags)
  num, num_new = assign.assign(workdir, vectors, out, runner)
  print(f'{num:,} Semantic IDs, {num_new:,} of them new\nSemantic IDs: {out}')


def _recommend(arguments: list[str]) -> None:
  from tiger_jax.beam import recommend  # Imports JAX, which takes seconds.
  from tiger_jax.serving.offline.tables import FORMATS

  optional = 'histories', 'k', 'format', 'batch_size'
  flags, _, runner = _parse(arguments, ('workdir', 'out'), optional)
  file_format = flags['format'] or 'parquet'
  if file_format not in FORMATS:
    hint = nearest_and_all(file_format, tuple(FORMATS))
    raise UsageError(f'--format is {file_format!r}: {hint}')
  histories = flags['histories']
  out = _path(flags['out'], '--out')
  batch_size = flags['batch_size']
  recommend.recommend(
    _path(flags['workdir'], '--workdir'), out, runner,
    histories=histories and _path(histories, '--histories'),
    k=_integer(flags['k'] or '10', '--k'),
    file_format=file_format,
    batch_size=batch_size and _integer(batch_size, '--batch_size'),
  )  # fmt: skip
  print(f'Recommendations: {out}')


def _integer(text: str, flag: str) -> int:
  if not text.isdecimal() or not 0 < int(text) < 2**31:
    raise UsageError(f'{flag} is {text!r}: choose an integer of at least 1')
  return int(text)


def _prepared(config: Config) -> Path:
  if not config.dataset.source_dir:
    raise UsageError(
      'config.dataset.source_dir is empty: name the folder that prepare wrote'
    )
  return Path(config.dataset.source_dir)


def _config(name: str, overrides: dict[str, str | bool]) -> Config:
  settings = config_file.load(name)
  config_file.override(settings, overrides)
  if 'experiment' in settings:
    raise UsageError(
      f'--config={name} is an experiment of several runs: name the config of a '
      'single run'
    )
  return config_dict.parse(settings)


def _path(text: str, flag: str) -> Path:
  # `Path` removes a final slash.
  return Path(config_dict.expand(text, flag))


def _parse(
  arguments: list[str], names: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str | bool], list[str]]:
  """Returns the flags of a command, the overrides, and the flags of Beam.

  Args:
    arguments: The arguments after the command.
    names: The flags that the command needs.
    optional: Further flags of the command.

  Raises:
    UsageError: A flag is missing, empty or unknown.
  """
  unchecked: list[str] = []
  if '--' in arguments:
    end = arguments.index('--')
    arguments, unchecked = arguments[:end], arguments[end + 1 :]
  overrides: dict[str, str | bool] = {}
  if 'config' in names:
    arguments, overrides = command_line.split_overrides(arguments)
  parser = _Parser(add_help=False, allow_abbrev=False)
  for name in (*names, *optional):
    parser.add_argument(f'--{name}')
  parsed, runner = parser.parse_known_args(arguments)
  values = vars(parsed)
  _check_runner_flags(runner, [f'--{x}' for x in values])
  for name, value in values.items():
    if value == '' or (value is None and name in names):
      raise UsageError(f'--{name} is {"missing" if value is None else "empty"}')
  if not any(x.split('=')[0] == '--runner' for x in (*runner, *unchecked)):
    runner.append(f'--runner={LOCAL_RUNNER}')
  return values, overrides, [*runner, *unchecked]


def _check_runner_flags(runner: Sequence[str], own: Sequence[str]) -> None:
  """Raises UsageError for a flag that Beam does not know, or a wrong value."""
  parser = _Parser(add_help=False)
  for options in PipelineOptions.__subclasses__():
    # pyrefly: ignore[missing-attribute]
    if add := options.__dict__.get('_add_argparse_args'):
      add.__get__(None, options)(parser)
  known = sorted(x for action in parser._actions for x in action.option_strings)
  for flag in runner:
    name = flag.split('=')[0]
    if name.startswith('-') and name not in known:
      hint = did_you_mean(name, (*own, *known))
      raise UsageError(
        f'no flag {name} (write it after -- if the runner knows it): {hint}'
      )
  values, words = parser.parse_known_args(list(runner))
  if words:
    raise UsageError(f'unexpected argument {words[0]!r}: flags begin with --')
  if (values.direct_num_workers or 0) < 0:
    raise UsageError('--direct_num_workers is negative: choose 0 or more')


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
  'prepare': _prepare, 'shard': _shard, 'embed': _embed, 'assign': _assign,
  'recommend': _recommend,
}  # fmt: skip
