"""Entry point: flags and dispatch.

python -m tiger_jax.main --config=configs/beauty.py --workdir=runs/beauty
"""

import contextlib
import os
from pathlib import Path
import shlex
import sys
import traceback
from typing import Any

from absl import app, flags, logging
import jax
from ml_collections import config_flags

from tiger_jax import throughput
from tiger_jax.config_dict import parse
from tiger_jax.errors import (
  DataError,
  PeerError,
  Preempted,
  TigerError,
  UsageError,
)
from tiger_jax.experiments import runs, spec
from tiger_jax.pipeline import STAGES, Pipeline
from tiger_jax.serving.recommender import Options, Recommender
from tiger_jax.serving.terminal import (
  show_proof,
  show_recommendations,
  show_results,
  show_shoppers,
)
from tiger_jax.training import preemption, processes
from tiger_jax.workdir import locked

MODES = ('all', *STAGES, 'bench', 'recommend')

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file of configs/; --config.section.field=x overrides.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder; by default runs/<name of the config>."
)
_MODE = flags.DEFINE_enum(
  'mode', 'all', MODES, 'How far to go; what is done already is kept.'
)
_HISTORY = flags.DEFINE_list(
  'history', [], 'Item ids, oldest first, for --mode=recommend.'
)
_K = flags.DEFINE_integer('k', 10, 'How many, for --mode=recommend.')
_EXCLUDE_SEEN = flags.DEFINE_bool(
  'exclude_seen', False, 'Leave out items of the history, for recommend.'
)
_ALLOW = flags.DEFINE_list(
  'allow', None, 'Ids of the only items to recommend, for recommend.'
)
_DENY = flags.DEFINE_list(
  'deny', [], 'Ids of items not to recommend, for recommend.'
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', None, 'Draw varied items; 1 as probable as they are.'
)
_DRAWN_LEVELS = flags.DEFINE_integer(
  'drawn_levels', None, 'Draw only so many first codes of the Semantic IDs.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of what --temperature draws.')
_EXACT = flags.DEFINE_bool(
  'exact', False, 'Widen the search, to prove the k best, for recommend.'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'This is one of the processes of a run; see launch/.'
)
_PROFILE = flags.DEFINE_string(
  'profile', None, 'Folder for a profile of a few steps, for --mode=bench.'
)
app.define_help_flags()


def run(argv: list[str]) -> None:
  """Does what the command line asks for.

  Args:
    argv: As `sys.argv`.

  Raises:
    TigerError: Anything a user can mend.
  """
  _parse_flags(argv)
  if _DISTRIBUTED.value:
    processes.join()
    if not processes.is_main():
      sys.stdout = open(os.devnull, 'w')
  preemption.exit_on_signals()
  _run_here(_workdir())


def _run_here(workdir: Path) -> None:
  keep_programs(workdir)
  if _MODE.value == 'recommend':
    recommender = Recommender.from_workdir(workdir)
    options = Options(
      exclude_seen=_EXCLUDE_SEEN.value,
      deny=_DENY.value,
      allow=_ALLOW.value,
      temperature=_TEMPERATURE.value,
      drawn_levels=_DRAWN_LEVELS.value,
      seed=_SEED.value,
      exact=_EXACT.value,
    )
    found = recommender.recommend(_HISTORY.value, _K.value, options)
    print(show_recommendations(found))
    drawn = options.temperature is not None
    if found and (options.exact or drawn):
      print(f'\n{show_proof(found, drawn)}')
    return
  if _CONFIG.value is None:
    raise UsageError('no --config given: try --config=configs/quickstart.py')
  work = _run_experiment if 'experiment' in _CONFIG.value else _run_pipeline
  work(workdir)
  print(f'\nEverything is in {workdir}')


def _run_experiment(workdir: Path) -> None:
  experiment = spec.parse(_CONFIG.value, _command())
  if _MODE.value != 'all':
    raise UsageError(
      f'--mode={_MODE.value} is of one run, and {experiment.name} has many: '
      'leave it out'
    )
  with _kept_for_us(workdir):
    table = runs.run(experiment, workdir)
  print(f'\n{table}\nCopy {workdir}/results to keep them in the project.')


def _run_pipeline(workdir: Path) -> None:
  config = parse(_CONFIG.value)
  with _kept_for_us(workdir):
    pipeline = Pipeline(config, workdir)
    try:
      if _MODE.value == 'bench':
        profile = Path(_PROFILE.value) if _PROFILE.value else None
        speed = throughput.measure(config, pipeline.material, profile)
        print('\n' + throughput.format_table(speed))
      else:
        pipeline.run('evaluate' if _MODE.value == 'all' else _MODE.value)
    finally:
      pipeline.writer.close()
  if _MODE.value in ('all', 'evaluate'):
    print('\n' + show_results(pipeline.results))
  shows = config.model.is_generative and not _DISTRIBUTED.value
  if _MODE.value == 'all' and shows:
    recommender = Recommender.from_workdir(workdir)
    print(show_shoppers(recommender, config.seed))


def _kept_for_us(workdir: Path) -> contextlib.AbstractContextManager[Any]:
  """Makes the folder of a run, and keeps other processes out of it."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(
      f'{workdir} cannot be made ({error.strerror}): choose another --workdir'
    ) from error
  # The main process keeps others out for all of them.
  return locked(workdir) if processes.is_main() else contextlib.nullcontext()


def main() -> None:
  """Runs and exits; an expected error becomes one line and its exit code."""
  try:
    run(sys.argv)
    return
  except TigerError as error:
    message, code = ' '.join(f'error: {error}'.split()), error.exit_code
  except OSError as error:
    message = f'error: {error}; free or mend that and run again'
    code = DataError.exit_code
  except KeyboardInterrupt:
    message, code = 'stopped; run the same command to go on', 130
  except jax.errors.JaxRuntimeError as error:
    if not _DISTRIBUTED.value:
      raise
    first = str(error).splitlines()[0]
    message = (
      f'error: another process is gone, or the devices failed ({first}); '
      'start all processes again to go on'
    )
    code = PeerError.exit_code
  except Exception:
    if not _DISTRIBUTED.value:
      raise
    message, code = traceback.format_exc(), 1
  print(message, file=sys.stderr, flush=True)
  if _DISTRIBUTED.value and code != Preempted.exit_code:
    # A proper exit would wait for the others, who may wait for this one.
    os._exit(code)
  sys.exit(code)


def keep_programs(workdir: Path) -> None:
  """Lets later runs in the folder load what this one compiles.

  Args:
    workdir: The run's folder. Another place that JAX was told of is kept.
  """
  # pyrefly: ignore[missing-attribute]
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update('jax_compilation_cache_dir', str(workdir / 'compiled'))


def _parse_flags(argv: list[str]) -> None:
  """Parses; whatever is wrong with the command line is a UsageError."""
  # What libraries warn of is not for users; --verbosity=0 brings it back.
  flags.FLAGS.set_default('verbosity', logging.ERROR)
  try:
    rest = flags.FLAGS(argv)
    if _CONFIG.value is not None:
      _CONFIG.value.to_dict()  # A file that cannot be read says so only now.
  # A config file may raise anything, and so may an override of its fields.
  except Exception as error:
    raise UsageError(_explain(error, argv)) from error
  if len(rest) > 1:
    raise UsageError(f'what is {rest[1]!r}? Flags begin with --')


def _explain(error: Exception, argv: list[str]) -> str:
  """Says in a line what is wrong with the command line or the config."""
  # ml_collections wraps the text of a KeyError, which is a repr.
  text = str(error).replace('\\n', ' ').replace("\\'", "'").strip()
  if text[:1] == text[-1:] == "'":
    text = text[1:-1]
  if isinstance(error, (flags.Error, AttributeError, KeyError)) and text:
    return ' '.join(text.split())
  given = next((x for x in argv if x.startswith('--config=')), '')
  last = (text.splitlines() or [''])[-1]
  return f'{given.removeprefix("--config=")}: {type(error).__name__}: {last}'


def _command() -> str:
  """Returns what repeats this: overrides too, but for where files lie."""
  places = ('dir=', 'path=')
  name = config_flags.get_config_filename(flags.FLAGS['config'])
  changes = [
    x
    for x in sys.argv[1:]
    if x.startswith('--config.') and not any(place in x for place in places)
  ]
  given = ' '.join(map(_quoted, [f'--config={name}', *changes]))
  return f'python -m tiger_jax.main {given}'


def _quoted(argument: str) -> str:
  """Quotes for a shell, so that a person can still read a tuple of names."""
  if shlex.quote(argument) == argument or set('"$`\\!') & set(argument):
    return shlex.quote(argument)
  return f'"{argument}"'


def _workdir() -> Path:
  if _WORKDIR.value:
    workdir = Path(_WORKDIR.value)
  elif _CONFIG.value is not None:
    name = config_flags.get_config_filename(flags.FLAGS['config'])
    file, _, variant = os.path.basename(name).partition('.py')
    workdir = Path('runs') / f'{file}{variant.replace(":", "_")}'
  elif _MODE.value == 'recommend':
    raise UsageError('no --workdir given: name the folder of a finished run')
  else:
    raise UsageError('no --config given: try --config=configs/quickstart.py')
  existing = next(
    x for x in (workdir, *workdir.absolute().parents) if x.exists()
  )
  if not existing.is_dir():
    raise UsageError(f'{existing} is not a folder: choose another --workdir')
  return workdir


if __name__ == '__main__':
  main()
