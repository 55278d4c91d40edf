"""Damaged checkpoints are detected and never used for training."""

from collections import Counter
from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from tests.reliability import shop
from tests.reliability.faults import Trigger
from tests.reliability.forks import Forks
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config.config_dict import from_json
from tiger_jax.errors import DamagedError
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state


class Saved(NamedTuple):
  """Three checkpoints of the reference.

  Attributes:
    folder: The folder of the checkpoints. Tests must not change it.
    identity: The identity of the run, see `Checkpoints`.
    like: The shapes and types of the arrays.
    states: The state of each checkpoint, by step.
  """

  folder: Path
  identity: dict[str, Any]
  like: Any
  states: dict[int, Any]

  def open(self, folder: Path) -> Checkpoints:
    """Opens a copy of the checkpoints."""
    return Checkpoints(folder, self.identity, 'ndcg@10', writes=False)


@pytest.fixture(scope='module')
def saved(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  source = shop.checkpoints(reference, 'train')
  for step in shop.steps(source)[-3:]:
    shutil.copytree(source / str(step), folder / str(step))
  config = from_json(json.loads((reference / 'config.json').read_text()))
  ids = SemanticIds.load(reference / 'semantic_ids')
  task = TigerTask(Tiger(config.model, ids.level_sizes), ids.codes)
  optimizer = make_optimizer(config.train.optimizer, config.train.steps)
  like = jax.eval_shape(lambda: init_state(task, optimizer, [0])._asdict())
  identity = json.loads((folder / f'{step}' / 'meta.json').read_text())['about']
  states: dict[int, Any] = {}
  result = Saved(folder, identity, like, states)
  with result.open(folder) as checkpoints:
    for step in shop.steps(folder):
      states[step] = checkpoints.restore(step, like)[0]
  return result


# A function that damages a file and returns the steps of damaged checkpoints.
Damage = Callable[[np.random.Generator, Path, list[Path]], set[int]]


def flip(rng: np.random.Generator, path: Path, others: list[Path]) -> set[int]:
  """Flips one bit of a file."""
  data = bytearray(path.read_bytes())
  data[rng.integers(len(data))] ^= 1 << rng.integers(8)
  path.write_bytes(data)
  return {step_of(path)}


def truncate(
  rng: np.random.Generator, path: Path, others: list[Path]
) -> set[int]:
  """Truncates a file to a random length."""
  data = path.read_bytes()
  path.write_bytes(data[: rng.integers(len(data))])
  return {step_of(path)}


def zero(rng: np.random.Generator, path: Path, others: list[Path]) -> set[int]:
  """Sets a block of a file to zero."""
  data = bytearray(path.read_bytes())
  size = int(rng.integers(1, 4097))
  start = int(rng.choice(np.flatnonzero(np.frombuffer(data, np.uint8))))
  stop = min(len(data), start + size)
  data[start:stop] = bytes(stop - start)
  path.write_bytes(data)
  return {step_of(path)}


def delete(
  rng: np.random.Generator, path: Path, others: list[Path]
) -> set[int]:
  """Deletes a file."""
  path.unlink()
  return {step_of(path)}


def swap(rng: np.random.Generator, path: Path, others: list[Path]) -> set[int]:
  """Swaps the contents of two files of the same or different checkpoints."""
  data = path.read_bytes()
  other = rng.choice([x for x in others if x.read_bytes() != data])
  path.write_bytes(other.read_bytes())
  other.write_bytes(data)
  return {step_of(path), step_of(other)}


def step_of(path: Path) -> int:
  return int(path.parts[path.parts.index('checkpoints') + 1])


# The number of cases in a full run and in a short run.
KINDS = {
  flip: (80, 5),
  truncate: (40, 4),
  zero: (40, 4),
  delete: (40, 3),
  swap: (40, 4),
}
# Case n of a kind damages file n of a checkpoint.
CASES = [
  (kind, number)
  for kind, counts in KINDS.items()
  for number in range(counts[not shop.IS_FULL])
]


def files(folder: Path) -> list[Path]:
  return sorted(path for path in folder.rglob('*') if path.is_file())


@pytest.mark.parametrize(
  ('kind', 'number'), CASES, ids=lambda x: getattr(x, '__name__', x)
)
def test_damage_is_detected(
  kind: Damage,
  number: int,
  saved: Saved,
  tmp_path: Path,
  capfd: pytest.CaptureFixture[str],
  tally: Counter[str],
):
  rng = np.random.default_rng([number, list(KINDS).index(kind)])
  newest = max(saved.states)
  folder = shutil.copytree(saved.folder, tmp_path / 'checkpoints')
  # An empty file can only be deleted or swapped.
  targets = [
    path.relative_to(folder)
    for path in files(folder / str(newest))
    if path.stat().st_size or kind in (delete, swap)
  ]
  target = targets[number % len(targets)]
  before = {path: path.read_bytes() for path in files(folder)}
  damaged = kind(rng, folder / target, files(folder))
  after = {path: path.read_bytes() for path in files(folder)}
  assert after != before

  good = max(saved.states.keys() - damaged)
  with saved.open(folder) as checkpoints:
    with pytest.raises(DamagedError) as error:
      checkpoints.restore(newest, saved.like)
    message = str(error.value)
    assert '\n' not in message
    assert f'{folder}: step {newest} is damaged' in message
    restored = checkpoints.restore_first(
      checkpoints.steps()[::-1], saved.like, make_mesh()
    )
  assert restored is not None
  step, state, _ = restored
  assert step == good
  jax.tree.map(np.testing.assert_array_equal, state, saved.states[good])
  warnings = capfd.readouterr().err
  assert_serves(saved, folder, {x for x in before if before[x] != after.get(x)})
  assert f'WARNING: step {newest} is skipped: {message}\n' in warnings
  tally['corruptions of a checkpoint'] += 1
  tally['corruptions detected, with an earlier checkpoint restored'] += 1


def assert_serves(saved: Saved, folder: Path, changed: set[Path]):
  """Checks that serving ignores damage to the optimizer state."""
  names = {'params', 'meta.json', 'manifest.json'}
  parts = {path.relative_to(folder).parts for path in changed}
  damaged = {int(step) for step, name, *_ in parts if name in names}
  steps = sorted(saved.states, reverse=True)
  with saved.open(folder) as checkpoints:
    like = saved.like['params']
    restored = checkpoints.restore_params(steps, like, make_mesh())
  assert restored is not None
  step, params, _ = restored
  assert step == max(saved.states.keys() - damaged)
  expected = saved.states[step]['params']
  jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_every_file_is_a_target(saved: Saved):
  """There are enough cases for all files of the newest checkpoint."""
  names = [path.name for path in files(saved.folder / str(max(saved.states)))]
  assert {'manifest.json', 'meta.json', '_METADATA'} <= set(names)
  if shop.IS_FULL:
    assert len(names) <= min(counts[0] for counts in KINDS.values())


def test_renamed_checkpoints_and_additional_files_are_detected(
  saved: Saved, tmp_path: Path
):
  folder = shutil.copytree(saved.folder, tmp_path / 'checkpoints')
  oldest, middle, newest = sorted(saved.states)
  shutil.rmtree(folder / str(newest))
  shutil.copytree(folder / str(oldest), folder / str(newest))
  (folder / str(middle) / 'state' / 'd' / 'more').touch()
  with saved.open(folder) as checkpoints:
    restored = checkpoints.restore_first(
      checkpoints.steps()[::-1], saved.like, make_mesh()
    )
  assert restored is not None
  assert restored[0] == oldest


def test_a_copied_folder_can_be_restored(saved: Saved, tmp_path: Path):
  archive = shutil.make_archive(str(tmp_path / 'saved'), 'tar', saved.folder)
  folder = tmp_path / 'elsewhere'
  shutil.unpack_archive(archive, folder)
  with saved.open(folder) as checkpoints:
    for step, expected in saved.states.items():
      state, _ = checkpoints.restore(step, saved.like)
      jax.tree.map(np.testing.assert_array_equal, state, expected)


@pytest.mark.parametrize(
  'kind', list(KINDS) if shop.IS_FULL else [flip], ids=lambda x: x.__name__
)
def test_a_run_resumes_from_an_undamaged_checkpoint(
  kind: Damage,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  workdir = shop.without('train', reference, tmp_path / 'run')
  killed = forks.run(
    workdir, shop.FLAGS, [Trigger('save.end /train', nth=5, events=20)]
  )
  assert killed.code == -9
  folder = shop.checkpoints(workdir, 'train')
  newest = max(shop.steps(folder))
  rng = np.random.default_rng(0)
  others = [
    path for step in shop.steps(folder) for path in files(folder / str(step))
  ]
  target = rng.choice(
    [x for x in others if step_of(x) == newest and x.stat().st_size]
  )
  kind(rng, target, others)
  again = forks.run(workdir, shop.FLAGS)
  assert again.code == 0, again.err
  assert f'step {newest} is damaged' in again.err
  assert f'WARNING: step {newest} is skipped' in again.err
  assert shop.final(workdir) == shop.final(reference)
  assert shop.logged(workdir) == shop.logged(reference)
  tally['damaged runs that resumed, equal to the reference'] += 1


def test_damage_to_all_checkpoints_ends_the_run_and_removes_nothing(
  tmp_path: Path, forks: Forks, reference: Path
):
  workdir = shop.without('evaluation', reference, tmp_path / 'run')
  folder = shop.checkpoints(workdir, 'train')
  for step in shop.steps(folder):
    (folder / str(step) / 'manifest.json').unlink()
  before = files(folder)
  ended = forks.run(workdir, shop.FLAGS)
  assert ended.code == 4, ended.err
  assert ended.message.startswith(f'error: {folder}: step ')
  assert 'manifest.json is missing' in ended.message
  assert files(folder) == before
