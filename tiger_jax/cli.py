"""Runs each mode and prints its results."""

import contextlib
import os
from pathlib import Path
import re
import sys
from typing import Any

from tiger_jax.errors import PeerError, UsageError

try:
  import jax
except ValueError as error:
  raise UsageError(
    f'JAX cannot be imported ({error}): unset the environment variable, or '
    'correct it'
  ) from error

from tiger_jax.config import Config
from tiger_jax.config.checks import nearest_and_all
from tiger_jax.config.command_line import Command
from tiger_jax.config.commands import quote
from tiger_jax.config.config_dict import expand
from tiger_jax.experiments import runs, spec
from tiger_jax.pipeline import open_run
from tiger_jax.recommenders import checks, registry, throughput
from tiger_jax.report.terminal import show_results
from tiger_jax.runtime import compile_cache, preemption, processes
from tiger_jax.serving.export import export_programs
from tiger_jax.serving.loading import load
from tiger_jax.serving.offline.job import recommend_all
from tiger_jax.serving.offline.tables import FORMATS
from tiger_jax.serving.recommender import Options, Recommender
from tiger_jax.serving.terminal import (
  show_proof,
  show_recommendations,
  show_shoppers,
)
from tiger_jax.stages import check_data, doctor, training
from tiger_jax.stages.report import write_report
from tiger_jax.storage.artifacts import REPORT, locked

# The modes that train a model if it is not trained yet.
_TRAINING = ('all', 'train', 'evaluate', 'bench')

# XLA, CUDA and TPU runtimes word the error differently.
_OUT_OF_MEMORY = re.compile('RESOURCE_EXHAUSTED|out of memory', re.IGNORECASE)

# JAX's advice at the end of its error messages, which may not apply.
_JAX_ADVICE = re.compile(r' \((?:set JAX_PLATFORMS|you may need)')


def run(command: Command) -> None:
  """Runs a parsed command line.

  Args:
    command: The result of `command_line.parse`.

  Raises:
    TigerError: Any error that the user can fix.
  """
  try:
    _run(command)
  except MemoryError as error:
    raise _out_of_memory(command, error) from error
  except jax.errors.JaxRuntimeError as error:
    if _OUT_OF_MEMORY.search(str(error)):
      raise _out_of_memory(command, error) from error
    if not command.distributed:
      raise
    raise PeerError(
      'another process is gone, or the devices failed '
      f'({_first_line(error)}); start all processes again to resume'
    ) from error


def _run(command: Command) -> None:
  experiment = _experiment(command)
  if command.distributed:
    processes.join()
    if not processes.is_main():
      sys.stdout = open(os.devnull, 'w')
  preemption.exit_on_signals()
  # These modes write nothing, not even to the compilation cache.
  if command.mode == 'doctor':
    doctor.run(command.folder if command.workdir else None, command.config)
    return
  _refuse_missing_platform()
  if command.mode == 'check_data' and command.config:
    check_data.run(command.config, command.overrides, command.to_train)
    return
  compile_cache.use()
  if command.mode == 'recommend':
    _recommend(command)
    return
  if command.mode == 'recommend_all':
    _recommend_all(command)
    return
  if command.mode == 'serve':
    _serve(command)
    return
  if command.mode == 'report':
    print(f'Report: {write_report(command.folder)}')
    return
  if command.mode == 'export':
    _export(command)
    return
  if experiment:
    _run_experiment(command, experiment)
  elif command.config:
    _run_pipeline(command, command.config)
  print(f'\nEverything is in {command.workdir}')
  if command.config and command.mode in ('all', 'evaluate'):
    print(f'Report: {command.folder / REPORT}')
  if command.config and command.mode == 'all' and _is_served(command.config):
    print(
      'Serve the model, with a page to try it: python -m tiger_jax.main '
      f'--mode=serve --workdir={quote(command.workdir)}'
    )


def _is_served(config: Config) -> bool:
  return registry.entry(config.model).is_generative


def _experiment(command: Command) -> spec.Experiment | None:
  """Parses the experiment of a command, and checks each of its runs."""
  if command.experiment is None:
    return None
  experiment = spec.parse(command.experiment, command.repeat)
  for run in experiment.runs:
    try:
      checks.check(run.config)
    except UsageError as error:
      raise UsageError(f'{run.dataset}, {run.name}: {error}') from error
  return experiment


def _recommend(command: Command) -> None:
  options = Options(**command.options)
  recommender = Recommender.from_workdir(command.folder)
  if command.user is None:
    recommendations = recommender.recommend(command.history, command.k, options)
  else:
    (recommendations,) = recommender.recommend_users(
      [command.user], command.k, options
    )
  print(show_recommendations(recommendations))
  is_sampled = options.temperature is not None
  if recommendations and (options.exact or is_sampled):
    print(f'\n{show_proof(recommendations, is_sampled)}')


def _recommend_all(command: Command) -> None:
  flags, options = command.offline, Options(**command.options)
  if flags['format'] not in FORMATS:
    raise UsageError(
      f'--format is {flags["format"]!r}: '
      f'{nearest_and_all(flags["format"], tuple(FORMATS))}'
    )
  paths = {
    name: Path(expand(flags[name], f'--{name}'))
    for name in ('histories', 'out')
    if flags[name] is not None
  }
  folder = paths.get('out', command.folder / 'recommendations')
  recommend_all(
    load(command.folder).snapshot,
    folder,
    histories=paths.get('histories'),
    k=command.k,
    options=options,
    file_format=flags['format'],
    batch_size=flags['batch_size'],
  )
  print(f'Recommendations: {folder}')


def _serve(command: Command) -> None:
  try:
    # The packages of the extra `serve` are optional.
    from tiger_jax.serving.server.start import start
  except ModuleNotFoundError as error:
    raise UsageError(
      f'--mode=serve needs the package {error.name}: install the extra serve, '
      "with pip install 'tiger_jax[serve]'"
    ) from error
  start(command.folder, command.serving)


def _export(command: Command) -> None:
  flags = command.export
  folder = command.folder / 'export'
  if 'export_dir' in flags:
    folder = Path(expand(flags['export_dir'], '--export_dir'))
  options: dict[str, Any] = {
    name: _integers(flags[flag], flag)
    for name, flag in (
      ('batch_sizes', 'export_batch_sizes'),
      ('ks', 'export_k'),
    )
    if flag in flags
  }
  if 'export_platforms' in flags:
    options['platforms'] = flags['export_platforms']
  recommender = Recommender.from_workdir(command.folder)
  export_programs(recommender, folder, **options)
  print(f'Export: {folder}')


def _integers(values: list[str], flag: str) -> list[int]:
  try:
    return [int(value) for value in values]
  except ValueError as error:
    raise UsageError(
      f'--{flag} is {",".join(values)!r}: list integers, as in --{flag}=1,8'
    ) from error


def _run_experiment(command: Command, experiment: spec.Experiment) -> None:
  _show_devices()
  folder = command.folder
  is_main = processes.is_main()
  with locked(folder) if is_main else contextlib.nullcontext():
    table = runs.run(experiment, folder)
  print(
    f'\n{table}\nTo keep the results, copy the content of '
    f'{command.workdir}/results to results/ of the repository.'
  )


def _run_pipeline(command: Command, config: Config) -> None:
  mode = 'evaluate' if command.mode == 'all' else command.mode
  with open_run(config, command.folder, mode, command.repeat) as pipeline:
    if command.mode in _TRAINING:
      for warning in checks.unread(config, command.overrides):
        print(f'warning: {warning}', file=sys.stderr)
    _show_devices()
    if mode == 'bench':
      profile = _profile_folder(command)
      pipeline.check(mode)
      speed = throughput.measure(pipeline.session, profile)
      print('\n' + throughput.format_table(speed))
      return
    pipeline.run(mode)
    if mode == 'evaluate':
      print('\n' + show_results(pipeline.results))
    is_shown = command.mode == 'all' and not command.distributed
    if is_shown and _is_served(config):
      params, best = pipeline.trained
      params = training.served(pipeline.session, params, best)
      recommender = Recommender(pipeline.session, params)
      print(show_shoppers(recommender, config.seed))


def _show_devices() -> None:
  """Shows whether JAX has found the GPU: training on a CPU takes days."""
  devices = jax.devices()
  print(f'{"devices":>12}: {len(devices)} x {devices[0].device_kind}')


def _profile_folder(command: Command) -> Path | None:
  """Creates the folder of the profile, and returns its path."""
  if command.profile is None:
    return None
  folder = Path(expand(command.profile, '--profile'))
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(
      f'--profile is {command.profile!r}, which cannot be used '
      f'({error.strerror}): name another folder'
    ) from error
  return folder


def _refuse_missing_platform() -> None:
  """Raises UsageError if the requested JAX platform is not available."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    # pyrefly: ignore[missing-attribute]
    platforms = jax.config.jax_platforms
    name = os.environ.get('JAX_PLATFORM_NAME')
    variable = 'JAX_PLATFORMS' if platforms else 'JAX_PLATFORM_NAME'
    reason = _JAX_ADVICE.split(str(error))[0]
    jax.config.update('jax_platforms', '')
    jax.config.update('jax_platform_name', '')
    try:
      available = sorted({'cpu', jax.devices()[0].platform})
    except RuntimeError:
      raise UsageError(
        f"JAX finds no device ({reason}): unset JAX's environment variables, "
        'such as JAX_NUM_CPU_DEVICES, or correct them'
      ) from error
    raise UsageError(
      f'{variable} is {platforms or name!r}, but JAX finds only '
      f'{", ".join(available)} on this machine'
      f'{f" ({reason})" if reason else ""}: unset the variable, or set it to '
      f'{" or ".join(available)}'
    ) from error


def _out_of_memory(command: Command, error: Exception) -> UsageError:
  reason = f'out of memory ({_first_line(error)})'
  if command.mode == 'recommend_all':
    return UsageError(f'{reason}: lower --batch_size, and continue the run')
  if command.mode == 'recommend':
    return UsageError(f'{reason}: lower --k, or use a machine with more memory')
  return UsageError(
    f'{reason}: in training, lower config.train.batch_size; in evaluation, '
    'lower config.evaluation.batch_size or config.evaluation.num_beams; in an '
    'earlier stage, use a machine with more memory'
  )


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
