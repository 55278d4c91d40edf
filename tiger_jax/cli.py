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

from tiger_jax.checkpoints import checkpoint_folder
from tiger_jax.config import Config
from tiger_jax.config.command_line import Command
from tiger_jax.config.config_dict import expand
from tiger_jax.experiments import runs, spec
from tiger_jax.pipeline import Pipeline
from tiger_jax.recommenders import checks, registry, throughput
from tiger_jax.recommenders.session import training_batches, training_examples
from tiger_jax.report.terminal import show_results
from tiger_jax.runtime import compile_cache, preemption, processes
from tiger_jax.serving.recommender import Options, Recommender
from tiger_jax.serving.terminal import (
  show_proof,
  show_recommendations,
  show_shoppers,
)
from tiger_jax.stages import semantic_ids, training
from tiger_jax.stages.report import write_report
from tiger_jax.storage.artifacts import REPORT, locked

# The modes that train a model if it is not trained yet.
_TRAINING = ('all', 'train', 'evaluate', 'bench')

# XLA, CUDA and TPU runtimes word the error differently.
_OUT_OF_MEMORY = re.compile('RESOURCE_EXHAUSTED|out of memory', re.IGNORECASE)


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
  if command.config:
    checks.check(command.config)
    if problems := checks.missing_paths(command.config):
      raise UsageError('; '.join(problems))
  if command.distributed:
    processes.join()
    if not processes.is_main():
      sys.stdout = open(os.devnull, 'w')
  preemption.exit_on_signals()
  _refuse_missing_platform()
  compile_cache.use()
  if command.mode == 'recommend':
    _recommend(command)
    return
  if command.mode == 'report':
    print(f'Report: {write_report(command.folder)}')
    return
  # Otherwise a bad path would raise an error only after hours of training.
  checkpoint_folder.check_path(command.folder.absolute())
  # Shows whether JAX has found the GPU: training on a CPU takes days.
  devices = jax.devices()
  print(f'{"devices":>12}: {len(devices)} x {devices[0].device_kind}')
  if experiment:
    _run_experiment(command, experiment)
  elif command.config:
    _run_pipeline(command, command.config)
  print(f'\nEverything is in {command.workdir}')
  if command.config and command.mode in ('all', 'evaluate'):
    print(f'Report: {command.folder / REPORT}')


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
    recommendations = recommender.recommend_for_user(
      command.user, command.k, options
    )
  print(show_recommendations(recommendations))
  is_sampled = options.temperature is not None
  if recommendations and (options.exact or is_sampled):
    print(f'\n{show_proof(recommendations, is_sampled)}')


def _run_experiment(command: Command, experiment: spec.Experiment) -> None:
  with _lock_in_main(command.folder):
    table = runs.run(experiment, command.folder)
  print(
    f'\n{table}\nTo keep the results, copy the content of '
    f'{command.workdir}/results to results/ of the repository.'
  )


def _run_pipeline(command: Command, config: Config) -> None:
  mode, workdir = command.mode, command.folder
  if mode in _TRAINING:
    for warning in checks.unread(config, command.overridden):
      print(f'warning: {warning}', file=sys.stderr)
  profile = _profile_folder(command)
  model = registry.entry(config.model)
  trains = model.is_trained and (
    mode == 'bench'
    or (mode in _TRAINING and not training.is_finished(config, [workdir]))
  )
  if trains:
    checks.check_devices(config)
  with _lock_in_main(workdir):
    pipeline = Pipeline(config, workdir, command=command.repeat)
    try:
      if mode not in ('data', 'embed'):
        _refuse_too_little_data(config, mode, pipeline, trains)
      if mode == 'bench':
        speed = throughput.measure(pipeline.session, profile)
        print('\n' + throughput.format_table(speed))
      else:
        pipeline.run('evaluate' if mode == 'all' else mode)
    finally:
      pipeline.writer.close()
    if mode in ('all', 'evaluate'):
      print('\n' + show_results(pipeline.results))
      if processes.is_main():
        write_report(workdir)
  shows_examples = model.is_generative and not command.distributed
  if mode == 'all' and shows_examples:
    trained = training.load_best(pipeline.session, pipeline.train_stage.folder)
    recommender = Recommender(trained.session, trained.params)
    print(show_shoppers(recommender, config.seed))


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


def _refuse_too_little_data(
  config: Config, mode: str, pipeline: Pipeline, trains: bool
) -> None:
  """Raises TigerError if there are too few items or training examples.

  This is checked first, because embedding the items takes a long time.
  """
  dataset, model = pipeline.dataset, registry.entry(config.model)
  makes_ids = 'semantic_ids' in model.needs or mode == 'semantic_ids'
  if makes_ids and not config.semantic_ids.shared_with:
    num_items = dataset.num_items - len(dataset.unseen)
    semantic_ids.refuse_sizes(config.semantic_ids, num_items)
  if trains:
    examples = training_examples(config, dataset)
    training_batches(config, dataset, examples)


def _lock_in_main(workdir: Path) -> contextlib.AbstractContextManager[Any]:
  """Locks the folder in the main process; does nothing in the others."""
  return locked(workdir) if processes.is_main() else contextlib.nullcontext()


def _refuse_missing_platform() -> None:
  """Raises UsageError if the requested JAX platform is not available."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    # pyrefly: ignore[missing-attribute]
    platforms = jax.config.jax_platforms
    name = os.environ.get('JAX_PLATFORM_NAME')
    if not platforms and not name:
      raise
    variable = 'JAX_PLATFORMS' if platforms else 'JAX_PLATFORM_NAME'
    requested = platforms or name
    reason = str(error).partition(' (set JAX_PLATFORMS')[0]
    jax.config.update('jax_platforms', '')
    jax.config.update('jax_platform_name', '')
    available = sorted({'cpu', jax.devices()[0].platform})
    raise UsageError(
      f'{variable} is {requested!r}, but JAX finds only '
      f'{", ".join(available)} on this machine'
      f'{f" ({reason})" if reason else ""}: unset the variable, or set it to '
      f'{" or ".join(available)}'
    ) from error


def _out_of_memory(command: Command, error: Exception) -> UsageError:
  reason = f'out of memory ({_first_line(error)})'
  if command.mode == 'recommend':
    return UsageError(f'{reason}: lower --k, or use a machine with more memory')
  return UsageError(
    f'{reason}: in training, lower config.train.batch_size; in evaluation, '
    'lower config.evaluation.batch_size or config.evaluation.num_beams; in an '
    'earlier stage, use a machine with more memory'
  )


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
