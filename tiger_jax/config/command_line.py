"""Parses and checks the command line.

This module does not import JAX, because that import takes seconds.
"""

from collections.abc import Iterable, Mapping
import contextlib
import dataclasses
import difflib
import io
import logging
import os
from pathlib import Path
import re
from typing import Any

from absl import flags
from absl import logging as absl_logging
import ml_collections

from tiger_jax.config import (
  Config,
  commands,
  config_dict,
  config_file,
  flag_errors,
)
from tiger_jax.config.checks import nearest_and_all
from tiger_jax.config.flags import MODES, SHARED, TOPICS, names
from tiger_jax.errors import UsageError

# Maps a flag to the modes that use it, if other modes do not.
_MODES_OF = {
  name: SHARED.get(topic, (topic,))
  for topic in TOPICS
  if topic != 'run'
  for name in names(topic)
}
_FLAGS = tuple(name for topic in TOPICS for name in names(topic))
# The modes that read the settings of the run in --workdir.
_READS_RUN = ('recommend', 'recommend_all', 'serve', 'report', 'export')
# The modes that write nothing and run in one process.
_READ_ONLY = ('check_data', 'doctor')
_NOT_EMPTY = (
  'config', 'workdir', 'profile', 'user', 'host', 'token_file',
  'admin_token_file', 'models', 'export_dir', 'histories', 'out', 'format',
)  # fmt: skip
# All forms of --help that absl programs accept.
_HELP = re.compile(r'--?(h|help|helpfull|helpshort|\?)(=.*)?')
_OVERRIDE = re.compile(
  r'--?(?P<no>no)?config\.(?P<path>[^=]*)(=(?P<text>.*))?', re.S
)


@dataclasses.dataclass(frozen=True)
class Command:
  """A parsed command line.

  Attributes:
    mode: One of `MODES`.
    workdir: The folder of the run, as the user wrote it. It is '' for `doctor`
      with neither a config nor a folder.
    config: The settings of a single run; None for an experiment, or if no
      config is given.
    experiment: The settings of an experiment, see `experiments.spec`; None for
      a single run.
    repeat: The command that repeats the run, without overrides of paths.
    overrides: Maps each overridden field, such as `train.steps`, to its value.
    config_name: The value of --config.
    distributed: Whether this process is one of several.
    profile: For `bench`: the folder for a profile.
    history: For `recommend`: item ids.
    user: For `recommend`: the id of a user; None if a history is given.
    k: For `recommend` and `recommend_all`: the number of items.
    options: For `recommend` and `recommend_all`: the fields of `Options`.
    offline: For `recommend_all`: the flags of this mode.
    serving: For `serve`: the flags of this mode.
    export: For `export`: the flags of this mode that are given.
  """

  mode: str
  workdir: str
  config: Config | None
  experiment: ml_collections.ConfigDict | None
  repeat: str
  overrides: dict[str, str | bool]
  config_name: str | None
  distributed: bool
  profile: str | None
  history: tuple[str, ...]
  user: str | None
  k: int
  options: dict[str, Any]
  offline: dict[str, Any]
  serving: dict[str, Any]
  export: dict[str, Any]

  @property
  def folder(self) -> Path:
    """The folder of the run, with `~` expanded."""
    return Path(config_dict.expand(self.workdir, '--workdir'))

  def to_train(self, settings: Mapping[str, Any]) -> str:
    """Returns the command that trains with additional settings.

    Args:
      settings: Maps fields to values, which replace those of the user.
    """
    workdir: str | None = self.workdir
    if workdir == _default_workdir(self.config_name, 'all'):
      # Two shops with the same config need different folders.
      source = self.config.dataset.source_dir if self.config else ''
      is_own = self.config and self.config.dataset.name == 'files'
      workdir = f'runs/{Path(source).absolute().name}' if is_own else None
    return commands.text(
      self.config_name, self.overrides | dict(settings), workdir
    )


def parse(argv: list[str]) -> Command | None:
  """Reads the command line and the config file.

  Args:
    argv: The arguments of the program, as in `sys.argv`.

  Returns:
    The command; None if the user asked for help.

  Raises:
    UsageError: The command line or the config file is not valid.
  """
  if any(_HELP.fullmatch(argument) for argument in argv[1:]):
    return None
  values = flags.FLAGS
  # Hides the warnings of libraries; --verbosity=0 shows them again.
  values.set_default('verbosity', absl_logging.ERROR)
  try:
    argv = _read_flag_files(argv)
    argv, overrides = split_overrides(argv)
    positional = values(argv)[1:]
  except (flags.Error, ValueError) as error:
    raise UsageError(flag_errors.explain(error)) from error
  if values.help:  # The file of --flagfile may contain --help.
    return None
  if positional:
    raise UsageError(
      f'{positional[0]!r} is not a flag: flags begin with --, and a list of '
      'ids has no spaces'
    )
  level = absl_logging.converter.absl_to_standard(values.verbosity)
  logging.getLogger().setLevel(level)
  given_flags = [name for name in values if values[name].present]
  for name in given_flags:
    if name not in (*_FLAGS, 'verbosity', 'v', 'flagfile'):
      raise UsageError(flag_errors.unknown_flag(name))
  if values.mode not in MODES:
    raise UsageError(
      f'--mode is {values.mode!r}: {nearest_and_all(values.mode, MODES)}'
    )
  _refuse_unused(given_flags, overrides)
  if values.k < 1:
    raise UsageError(f'--k is {values.k}: choose at least 1')
  config = experiment = None
  if values.config is not None:
    settings = config_file.load(values.config)
    config_file.override(settings, overrides)
    if 'experiment' in settings:
      experiment = settings
      if values.mode != 'all':
        raise UsageError(
          f'--mode={values.mode} is for a single run, and '
          f'{settings.experiment} is an experiment of several runs: remove the '
          'flag'
        )
    else:
      config = config_dict.parse(settings)
  elif overrides or values.mode not in (*_READS_RUN, 'doctor'):
    raise UsageError(
      'no --config given: try --config=configs/quickstart.py, or --help'
    )
  command = Command(
    mode=values.mode,
    workdir=values.workdir or _default_workdir(values.config, values.mode),
    config=config,
    experiment=experiment,
    repeat=commands.repeat(values.config, overrides),
    overrides=overrides,
    config_name=values.config,
    distributed=values.distributed,
    profile=values.profile,
    history=tuple(values.history or ()),
    user=values.user,
    k=values.k,
    options={x: values[x].value for x in names('options') if x != 'k'},
    offline={x: values[x].value for x in names('recommend_all')},
    serving={x: values[x].value for x in names('serve')},
    export={x: values[x].value for x in names('export') if values[x].present},
  )
  if command.mode != 'doctor':  # `doctor` reports a missing folder itself.
    _check_folder(command)
  return command


def _check_folder(command: Command) -> None:
  """Raises UsageError if the workdir cannot be used or has no run to read."""
  folder = command.folder
  try:
    candidates = (folder, *folder.absolute().parents)
    existing = next(x for x in candidates if x.exists())
  except OSError as error:  # The path is too long, for example.
    raise UsageError(
      f'--workdir is {config_dict.SHOWN.repr(command.workdir)}, which cannot '
      f'be used ({error.strerror}): choose another'
    ) from error
  if not existing.is_dir():
    raise UsageError(f'{existing} is not a folder: choose another --workdir')
  if command.mode in _READS_RUN and not folder.exists():
    names = [str(x) for x in folder.parent.glob('*/')]
    near = difflib.get_close_matches(str(folder), names, n=1)
    hint = 'name the folder of a finished run'
    if near:
      hint = f'did you mean {near[0]}?'
    raise UsageError(f'there is no folder {folder}: {hint}')


def _read_flag_files(argv: list[str]) -> list[str]:
  """Returns the arguments with the content of --flagfile in its place."""
  # absl ignores a file that names itself, and prints only a warning.
  with contextlib.redirect_stderr(io.StringIO()) as warnings:
    argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=True)
  if text := warnings.getvalue():
    name = text.splitlines()[0].partition('Ignoring flagfile: ')[2]
    raise UsageError(
      f'the file {name} names itself with --flagfile: remove that line'
    )
  return argv


def split_overrides(
  argv: list[str],
) -> tuple[list[str], dict[str, str | bool]]:
  """Separates the overrides `--config.section.field=value` from the rest.

  If a field is overridden twice, the last value counts.

  Raises:
    UsageError: An override has both `no` and a value.
  """
  other: list[str] = []
  overrides: dict[str, str | bool] = {}
  remaining = argv[::-1]
  while remaining:
    argument = remaining.pop()
    match = _OVERRIDE.fullmatch(argument)
    if not match or '--' in other:
      other.append(argument)
      continue
    value: str | bool = match['text']
    if match['no'] and value is None:
      value = False
    elif match['no']:
      raise UsageError(f'{argument}: remove either the "no" or the value')
    elif value is None:  # The value is the next argument, or True for a switch.
      has_value = remaining and remaining[-1][:1] != '-'
      value = remaining.pop() if has_value else True
    overrides[match['path']] = value
  return other, overrides


def _refuse_unused(given_flags: list[str], overrides: Iterable[str]) -> None:
  """Raises UsageError for empty flags and flags that the mode does not use."""
  values = flags.FLAGS
  mode = values.mode
  # `--workdir=$DIR` is an empty flag if the shell variable DIR is not set.
  problems = [f'--{x} is empty' for x in _NOT_EMPTY if values[x].value == '']
  problems += [
    f'--{name} is for --mode={" and --mode=".join(modes)}, not for '
    f'--mode={mode}'
    for name, modes in _MODES_OF.items()
    if name in given_flags and mode not in modes
  ]
  if mode in _READS_RUN:
    reason = f'is not used by --mode={mode}, which reads the settings of the'
    for name in overrides:
      problems.append(f'--config.{name} {reason} trained run')
    if values.distributed and mode != 'recommend_all':
      problems.append(f'--distributed is not for --mode={mode}')
    if values.config is not None and values.workdir:
      problems.append(f'--config {reason} run in --workdir')
  if mode in _READ_ONLY and values.distributed:
    problems.append(f'--distributed is not for --mode={mode}')
  if mode in SHARED['options']:
    problems += _id_problems(mode)
  if problems:
    raise UsageError('; '.join(problems))


def _id_problems(mode: str) -> list[str]:
  """Returns a message for each error in the ids given to a mode."""
  values = flags.FLAGS
  problems = []
  if mode == 'recommend' and values.user is None and not values.history:
    problems.append(
      'the history is empty: give --history=ID,ID,... oldest first, or '
      '--user=ID'
    )
  if values.user is not None and values.history:
    problems.append('--history and --user are both given: remove one of them')
  if values.allow == []:
    problems.append('--allow is empty: name items, or remove the flag')
  for name in ('history', 'allow', 'deny'):
    ids = values[name].value or []
    if '' in ids:
      problems.append(
        f"--{name} is {','.join(ids)!r}: remove the empty id ('')"
      )
  return problems


def _default_workdir(config: str | None, mode: str) -> str:
  if config is None:
    if mode == 'doctor':
      return ''
    raise UsageError('no --workdir given: name the folder of a finished run')
  path, variant = config_file.split(config)
  name = os.path.basename(path).removesuffix('.py')
  return os.path.join('runs', f'{name}_{variant}' if variant else name)
