"""Tests that checkpoints can be saved under any path."""

import shutil
import string

import numpy as np
import pytest

from tests import small, typed
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.errors import UsageError

STATE = {'a': np.arange(6, dtype=np.float32), 'b': {'c': np.ones((3, 4))}}
LIKE = {'a': np.zeros(6, np.float32), 'b': {'c': np.zeros((3, 4))}}
PRINTABLE = ''.join(map(chr, range(32, 127))).replace('/', '')
NAMES = [
  *(f'a{char}b' for char in string.punctuation if char not in '/._-'),
  '[1]', 'a[1-3]b', '*', '**', '?', '\\', '~', '%20', '#', "'q'", '"q"',
  ' blanks ', 'a\nb', 'a\tb', 'é ü 中', 'gs:', 'b\udce9c', '-x',
  PRINTABLE, PRINTABLE[::-1],
]  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_restores_a_checkpoint_from_any_path(tmp_path, name):
  folder = tmp_path / name / 'checkpoints'
  with Checkpoints(folder, {}) as checkpoints:
    checkpoints.save(1, STATE, {}, last=True)
    assert checkpoints.steps() == [1]
  # The checkpoint can be read in its folder, and after a move to a plain path.
  (tmp_path / name).rename(tmp_path / 'plain')
  shutil.copytree(tmp_path / 'plain', tmp_path / name)
  for path in (folder, tmp_path / 'plain' / 'checkpoints'):
    with Checkpoints(path, {}, writes=False) as checkpoints:
      state, _ = checkpoints.restore(1, LIKE)
    np.testing.assert_array_equal(state['a'], STATE['a'])
    np.testing.assert_array_equal(state['b']['c'], STATE['b']['c'])


def test_refuses_an_unusable_path_before_training(tmp_path, monkeypatch):
  odd = tmp_path / 'temporary [2]'
  odd.mkdir()
  monkeypatch.setattr('tempfile.tempdir', str(odd))
  with pytest.raises(UsageError, match=r"'\['.*TMPDIR") as error:
    Checkpoints(tmp_path / 'run [1]' / 'checkpoints', {})
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run [1]').exists()
  Checkpoints(tmp_path / 'run' / 'checkpoints', {})


def test_a_path_without_brackets_needs_no_temporary_folder(
  tmp_path, monkeypatch
):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'missing'))
  name = "jürgen's = + @ , # % ~ ! $ & ( ) ; ^ ` { } |"
  with Checkpoints(tmp_path / name / 'checkpoints', {}) as checkpoints:
    checkpoints.save(1, STATE, {})
    checkpoints.wait()
    checkpoints.restore(1, STATE)


def test_the_error_names_a_missing_temporary_folder(tmp_path, monkeypatch):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'missing'))
  with pytest.raises(UsageError, match='TMPDIR'):
    Checkpoints(tmp_path / 'run [1]' / 'checkpoints', {})


def test_refuses_an_unusable_path_before_any_stage(tmp_path):
  odd = tmp_path / 'p[1]'
  (odd / 'tmp[2]').mkdir(parents=True)
  done = typed.run(
    f'--config={small.ROOT}/configs/quickstart.py', '--mode=train',
    '--workdir=run', cwd=odd, env={'TMPDIR': str(odd / 'tmp[2]')},
  )  # fmt: skip
  assert done.code == 2
  assert 'TMPDIR' in done.refusal
  assert not (odd / 'run').exists()


def test_a_workdir_name_may_have_special_characters(trained, tmp_path):
  """Trains in a copy of a run, removes the optimizer state, and recommends."""
  workdir = tmp_path / 'runs' / "my shop [1] ü #2 100% 'q'"
  ignored = shutil.ignore_patterns('train', 'evaluation', 'results.json')
  shutil.copytree(trained, workdir, ignore=ignored)
  flags = ' '.join(f'"{flag}"' for flag in small.FLAGS)
  shop = trained.parent / 'shop'
  done = typed.shell(
    f"""
    workdir="runs/my shop [1] ü #2 100% 'q'"
    "$python" -m tiger_jax.main {flags} --workdir="$workdir" --mode=train \\
      --config.dataset.source_dir={shop} &&
    rm -r "$workdir"/train/checkpoints/*/state &&
    "$python" -m tiger_jax.main --workdir="$workdir" --mode=recommend \\
      --history=A001,A002 --k=3
    """,
    cwd=tmp_path,
  )
  assert done.code == 0, done.err
  assert len(done.out.splitlines()[-3:]) == 3
  saved = {x.name for x in (workdir / 'train' / 'checkpoints').iterdir()}
  assert saved == {'10', '20'}
