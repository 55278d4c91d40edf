"""Checks the files of a run for `--mode=doctor`, and changes nothing."""

from collections.abc import Callable, Iterator
import fcntl
import os
from pathlib import Path
import re
from typing import Any

from tiger_jax.checkpoints import checkpoint_folder
from tiger_jax.config import Config
from tiger_jax.config.recorded import config_of, parse_recorded
from tiger_jax.data import loading
from tiger_jax.errors import (
  CheckpointError,
  DataError,
  TigerError,
  UsageError,
  one_line,
)
from tiger_jax.recommenders import registry
from tiger_jax.runtime.findings import Finding, note, ok, problem
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.stages import data, embedding, evaluation, semantic_ids, training
from tiger_jax.storage import artifacts, claim, files, record
from tiger_jax.storage.fingerprints import fingerprint
from tiger_jax.storage.record import Artifact

# Maps the stages, in order, to functions that read all of their files.
_READERS: dict[str, Callable[[Path], Any]] = {
  'data': data.load,
  'embedding': embedding.load,
  'semantic_ids': lambda folder: (
    semantic_ids.load(folder), Tokenizer.load(folder)
  ),
  'train': lambda folder: None,  # It has only checkpoints.
  'evaluation': evaluation.load,
}  # fmt: skip
# The errors of damaged files.
_DAMAGE = (TigerError, OSError, *files.INVALID)


def check(workdir: Path, config: Config | None) -> Iterator[Finding]:
  """Yields the findings about the folder of a run.

  Args:
    workdir: The folder, which need not be the folder of a run.
    config: The config that the run should have; None for the recorded one.
  """
  name = 'workdir'
  try:
    if not workdir.exists():
      text = f'{workdir} does not exist'
      yield (
        note(name, f'{text} yet: the run will create it')
        if config
        else problem(name, f'{text}: name the folder of a run', UsageError)
      )
      return
    if not workdir.is_dir():
      text = f'{workdir} is not a folder: name the folder of a run'
      yield problem(name, text, UsageError)
      return
    if not any(workdir.iterdir()):
      yield note(name, f'{workdir} is empty: no run has started in it')
      return
    is_run = claim.is_run(workdir)
  except OSError as error:
    text = (
      f'{workdir} cannot be read ({error.strerror}): change its permissions'
    )
    yield problem(name, text, UsageError)
    return
  if not is_run:
    yield problem(
      name,
      f'{workdir} is not the folder of a run: name another folder, or see '
      'whether its config.json is damaged',
      UsageError,
    )
    return
  yield _lock(workdir)
  runs = sorted(x.parents[1] for x in workdir.glob(f'*/*/*/{record.NAME}'))
  if runs:
    yield note(
      name,
      f'{workdir} has the runs of an experiment: check each of them, as in '
      f'--workdir={runs[0]}',
    )
    return
  yield from _stages(workdir, config or _recorded(workdir))


def _lock(workdir: Path) -> Finding:
  """Reports whether a process uses the folder."""
  try:
    # A shared lock on a file that is open for reading changes nothing.
    number = os.open(workdir / claim.LOCK, os.O_RDONLY | os.O_NONBLOCK)
    try:
      fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
      os.close(number)
  except BlockingIOError:
    text = f'a process uses {workdir} now, so its files may still change'
    return note('workdir', text)
  except OSError:  # The file is missing, or the file system has no locks.
    return ok('workdir', f'{workdir}, without a lock')
  return ok('workdir', f'{workdir}, not in use')


def _recorded(workdir: Path) -> Config | None:
  """Returns the config of the run; None if it is missing or damaged."""
  try:
    config = parse_recorded(files.read_json(workdir / 'config.json'))
    registry.entry(config.model)  # Fails if the model is unknown.
    return config
  except _DAMAGE:
    return None


def _stages(workdir: Path, config: Config | None) -> Iterator[Finding]:
  found: dict[str, Artifact] = {}
  needs = registry.entry(config.model).needs if config else ()
  unused = set()
  if config and not needs:
    unused.add('embedding')
  if config and 'semantic_ids' not in needs:
    unused.add('semantic_ids')
  for name, read in _READERS.items():
    folder = workdir / name
    if folder.is_symlink():
      text = f'{folder} is a link, and a run does not read links: remove it'
      yield problem(name, text, DataError)
    elif not record.exists(folder):
      if folder.exists():
        text = f'{folder} has no {record.NAME}: remove or rename it'
        yield problem(name, text, DataError)
      elif name not in unused:
        yield note(name, 'not made yet')
    else:
      try:
        # The fingerprint is known even if a file is damaged.
        found[name] = record.read(folder)
        record.read(folder, thorough=True)
        read(folder)
      except _DAMAGE as error:
        yield problem(name, _reason(error, folder), DataError)
        continue
      yield _state(name, found, config)
      yield from _checkpoints(name, folder, is_finished=True)
  if 'evaluation' in found and not (workdir / artifacts.RESULTS).exists():
    text = f'{artifacts.RESULTS} is missing: the command of the run writes it'
    yield note('evaluation', text)
  for name in artifacts.superseded(workdir, tuple(_READERS)):
    if '.partial-' in name:
      yield note(name, 'interrupted: the command of the run resumes or repeats')
      yield from _checkpoints(name, workdir / name, is_finished=False)
    else:
      yield note(name, 'made with a different config: you may remove it')


def _state(
  name: str, found: dict[str, Artifact], config: Config | None
) -> Finding:
  """Reports whether the next run would reuse an intact stage."""
  stage = found[name]
  intact = f'intact, made in {stage.seconds:,.0f} s'
  if config is None:
    return ok(name, f'{intact}; the config of the run is not known')
  try:
    wanted = _wanted(name, found, config)
  except _DAMAGE as error:
    return note(name, f'{intact}; cannot be compared: {one_line(str(error))}')
  if wanted == stage.fingerprint:
    return ok(name, f'{intact}, up to date')
  reason = 'settings or earlier stages differ'
  if name == 'data' and _same_dataset(stage, config):
    reason = 'the raw files have changed or are missing'
  return note(name, f'{intact}, but stale ({reason}): a run makes it again')


def _wanted(name: str, found: dict[str, Artifact], config: Config) -> str:
  """Returns the fingerprint that the next run would give to a stage."""
  if name == 'data':
    return fingerprint(name, *data.made_from(config))
  if name == 'embedding':
    items = fingerprint('data', *data.items_made_from(config))
    return fingerprint(name, *embedding.made_from(config, items))
  if name == 'semantic_ids':
    own = _of(found, 'embedding')
    others = semantic_ids.read_shared(config, own)
    unseen = [_of(found, 'data')] if config.dataset.unseen_share else []
    settings = semantic_ids.made_from(config.semantic_ids, others)
    return fingerprint(name, settings, config.seed, own, *unseen)
  if name == 'train':
    needs = registry.entry(config.model).needs
    inputs = {'data': _of(found, 'data')}
    if 'semantic_ids' in needs:
      inputs['semantic_ids'] = _of(found, 'semantic_ids')
    if 'embeddings' in needs:
      inputs['embedding'] = _of(found, 'embedding')
    return fingerprint(name, *training.made_from(config, inputs))
  trained = _of(found, 'train')
  return fingerprint(name, *evaluation.made_from(config, trained))


def _of(found: dict[str, Artifact], name: str) -> str:
  """Returns the fingerprint of a stage; '' if it is missing."""
  return found[name].fingerprint if name in found else ''


def _same_dataset(stage: Artifact, config: Config) -> bool:
  try:
    former = config_of(stage)
  except DataError:
    return False
  return (former.dataset, former.seed) == (config.dataset, config.seed)


def _checkpoints(
  name: str, stage: Path, *, is_finished: bool
) -> Iterator[Finding]:
  """Yields a finding per damaged checkpoint, and one for the intact ones."""
  folder = stage / 'checkpoints'
  if not folder.exists():
    return
  subject = f'{name} checkpoints'
  try:
    names = sorted(path.name for path in folder.iterdir())
  except OSError as error:
    text = f'{folder} cannot be read ({error.strerror}): remove it'
    yield problem(subject, text, CheckpointError)
    return
  steps = sorted(int(x) for x in names if re.fullmatch('0|[1-9][0-9]*', x))
  intact = []
  for step in steps:
    path = folder / str(step)
    try:
      if path.is_symlink():
        raise ValueError('it is a link')
      checkpoint_folder.read_contents(path, step)
      intact.append(f'{step:,}')
    except _DAMAGE as error:
      text = f'step {step:,} is damaged ({one_line(str(error))[:200]})'
      yield problem(subject, f'{text}: remove {path}', CheckpointError)
  if intact:
    yield ok(subject, f'intact at step {", ".join(intact)}')
  elif is_finished and not steps:
    yield problem(
      subject,
      f'{folder} has no checkpoint: remove {stage} and run again',
      CheckpointError,
    )


def raw_files(config: Config) -> Iterator[Finding]:
  """Yields the findings about the files that a config names."""
  c = config.dataset
  paths = loading.source_files(c)
  existing = loading.existing_files(c)
  if not paths:
    source = 'generated' if c.name == 'synthetic' else 'downloaded'
    yield ok('raw files', f'none: {c.name} is {source} by the run')
  elif not existing:
    names = ', '.join(path.name for path in paths[:3])
    yield problem(
      'raw files',
      f'{c.source_dir} has none of {names}, ...: set config.dataset.source_dir',
      DataError,
    )
  for path in existing + [
    Path(x) for x in (config.embedding.path, config.embedding.ids_path) if x
  ]:
    try:
      with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb') as file:
        file.read(1)
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
      text = f'{path} cannot be read ({error.strerror}): correct the path'
      yield problem('raw files', text, DataError)
      continue
    if size:
      yield ok('raw files', f'{path} ({size:,} bytes)')
    else:
      yield problem('raw files', f'{path} is empty: copy it again', DataError)


def _reason(error: Exception, folder: Path) -> str:
  text = isinstance(error, OSError) and error.strerror or str(error)
  text = one_line(text) or type(error).__name__
  if isinstance(error, TigerError):
    return text
  return f'{folder} is damaged ({text[:200]}): remove it and run again'
