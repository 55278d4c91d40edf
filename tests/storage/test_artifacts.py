"""Tests of building, reusing and replacing artifacts."""

import time

from tests.storage.building import (
  ONE,
  TWO,
  Builder,
  folders,
  refuse_build,
  stage,
)
from tiger_jax.storage.artifacts import (
  await_stage,
  find_artifact,
  read_artifact,
)


def test_builds_once(tmp_path):
  build = Builder()
  made, new = stage(tmp_path / 'run', ONE, build)
  assert new
  assert made.folder == tmp_path / 'run' / 'stage'
  assert made.fingerprint == ONE
  assert made.metadata == {'of': ONE[:3]}
  assert (made.folder / 'result').read_text() == 'made'
  before = (made.folder / 'stage.json').stat().st_mtime_ns
  again, new = stage(tmp_path / 'run', ONE, refuse_build)
  assert not new
  assert again == made
  assert (made.folder / 'stage.json').stat().st_mtime_ns == before
  assert build.calls == 1
  assert folders(tmp_path / 'run') == ['stage']


def test_a_new_fingerprint_sets_the_old_artifact_aside(tmp_path):
  first, _ = stage(tmp_path, ONE, Builder('first'))
  second, new = stage(tmp_path, TWO, Builder('second'))
  assert new
  assert (second.folder / 'result').read_text() == 'second'
  assert folders(tmp_path) == ['stage', f'stage.{ONE[:8]}']
  # The first artifact is restored without a build.
  back, new = stage(tmp_path, ONE, refuse_build)
  assert not new
  assert back == first
  assert (back.folder / 'result').read_text() == 'first'
  assert folders(tmp_path) == ['stage', f'stage.{TWO[:8]}']
  back, new = stage(tmp_path, TWO, refuse_build)
  assert not new
  assert back == second


def test_uses_the_artifact_of_another_run(tmp_path):
  here, there = tmp_path / 'here', tmp_path / 'there'
  made, _ = stage(there, ONE, Builder())
  used, new = stage(
    here, ONE, refuse_build, elsewhere=[tmp_path / 'none', there]
  )
  assert not new and used == made and used.folder == there / 'stage'
  assert not here.exists()
  # An artifact of the other run with a different fingerprint is not used.
  stage(there, TWO, Builder('other'))
  used, new = stage(here, ONE, Builder(), elsewhere=[there])
  assert new and used.folder == here / 'stage'
  # The run's own artifact comes first. A damaged artifact elsewhere is skipped.
  stage(there, ONE, Builder())
  (tmp_path / 'bad' / 'stage').mkdir(parents=True)
  (tmp_path / 'bad' / 'stage' / 'stage.json').write_text('{')
  used, _ = stage(here, ONE, refuse_build, elsewhere=[tmp_path / 'bad', there])
  assert used.folder == here / 'stage'
  stage(there, TWO, refuse_build)
  used = await_stage(here, 'stage', TWO, [tmp_path / 'bad', there])
  assert used.folder == there / 'stage'
  # The run's own artifact remains if an artifact of the other run is used.
  used, new = stage(here, TWO, refuse_build, elsewhere=[there])
  assert not new and (used.folder / 'result').read_text() == 'other'
  assert (here / 'stage' / 'result').read_text() == 'made'


def test_the_old_artifact_remains_until_the_new_one_is_complete(tmp_path):
  first, _ = stage(tmp_path, ONE, Builder('first'))
  results = tmp_path / 'results.json'
  results.write_text('{}')

  def look(folder):
    assert read_artifact(tmp_path, 'stage') == first
    assert results.exists()

  stage(tmp_path, TWO, look, resumable=True)
  # The results belonged to the first artifact.
  assert not results.exists()
  assert find_artifact(tmp_path, 'stage', ONE).fingerprint == ONE


def test_restoring_an_artifact_removes_the_results(tmp_path):
  for wanted in (ONE, TWO):
    stage(tmp_path, wanted, Builder())
  (tmp_path / 'results.json').write_text('{}')
  stage(tmp_path, TWO, refuse_build)
  assert (tmp_path / 'results.json').exists()
  stage(tmp_path, ONE, refuse_build)
  assert not (tmp_path / 'results.json').exists()


def test_a_waiting_process_prints_one_message(tmp_path, monkeypatch, capsys):
  waits = []

  def sleep(seconds):
    waits.append(seconds)
    real(seconds)
    if len(waits) == 5:
      stage(tmp_path, ONE, Builder())

  real = time.sleep
  monkeypatch.setattr(time, 'sleep', sleep)
  artifact = await_stage(
    tmp_path, 'stage', ONE, poll_seconds=0.05, quiet_seconds=0.05
  )
  assert artifact.fingerprint == ONE
  err = capsys.readouterr().err
  assert err.count('\n') == 1
  assert str(tmp_path / 'stage') in err
  # If the artifact exists, nothing is printed.
  await_stage(tmp_path, 'stage', ONE)
  assert capsys.readouterr().err == ''
