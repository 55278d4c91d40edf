"""Tests of the metrics files and of the progress bar."""

import json
import os

import pytest

from tiger_jax.runtime import writers
from tiger_jax.runtime.writers import MetricsWriter, progress_line


@pytest.fixture(name='writer')
def _writer(tmp_path):
  writer = MetricsWriter(tmp_path / 'run')
  for stage in ('train', 'semantic_ids'):
    (tmp_path / stage).mkdir()
  yield writer
  writer.close()


def lines(tmp_path):
  text = (tmp_path / 'run' / 'metrics.jsonl').read_text()
  assert text.endswith('\n') or not text
  return [json.loads(line) for line in text.splitlines()]


def steps(tmp_path):
  return [(line['stage'], line['step']) for line in lines(tmp_path)]


def test_each_step_writes_one_line(writer, tmp_path):
  writer.write('train', 1, {'loss': 0.5, 'accuracy': 1.0})
  writer.write('train', 2, {'loss': 0.25})
  first, second = lines(tmp_path)
  assert first.pop('time') <= second.pop('time')
  assert first == {'stage': 'train', 'step': 1, 'loss': 0.5, 'accuracy': 1.0}
  assert second == {'stage': 'train', 'step': 2, 'loss': 0.25}


def test_lines_are_appended(writer, tmp_path):
  writer.write('train', 1, {'loss': 0.5})
  again = MetricsWriter(tmp_path / 'run')
  again.write('train', 2, {'loss': 0.5})
  again.close()
  assert steps(tmp_path) == [('train', 1), ('train', 2)]


def test_rewind_removes_later_lines(writer, tmp_path):
  for step in (1, 2, 3, 4):
    writer.write('train', step, {'loss': 0.5})
    writer.write('semantic_ids', step, {'loss': 0.5})
  writer.rewind('train', 2, tmp_path / 'train')
  assert steps(tmp_path) == [
    ('semantic_ids', 1), ('semantic_ids', 2), ('semantic_ids', 3),
    ('semantic_ids', 4), ('train', 1), ('train', 2),
  ]  # fmt: skip
  writer.rewind('semantic_ids', 0, tmp_path / 'semantic_ids')
  assert steps(tmp_path) == [('train', 1), ('train', 2)]


@pytest.mark.parametrize(
  'torn',
  [
    b'{"stage": "train", "st',
    b'{"stage": "train", "step": 2, "loss": 0.',
    b'{',
    b'{"stage": "train"}',
    b'12',
    b'null',
    b'\x00' * 30,
    b'{"stage": "\xff',
  ],
)
def test_rewind_removes_an_incomplete_last_line(writer, tmp_path, torn):
  writer.write('train', 1, {'loss': 0.5})
  path = tmp_path / 'run' / 'metrics.jsonl'
  path.write_bytes(path.read_bytes() + torn)
  writer.rewind('train', 1, tmp_path / 'train')
  writer.write('train', 2, {'loss': 0.5})
  assert steps(tmp_path) == [('train', 1), ('train', 2)]


FOREIGN = (
  b'{"epoch": 1}\n',
  b'{"stage": 7, "step": 1}\n',
  b'{"stage": "train", "step": null}\n',
  b'[1, 2]\n',
  b'\n',
  b'not JSON \xff\n',
  b'[' * 100_000 + b'\n',
)


def test_rewind_keeps_lines_that_it_cannot_parse(writer, tmp_path):
  path = tmp_path / 'run' / 'metrics.jsonl'
  path.write_bytes(b''.join(FOREIGN))
  writer.write('train', 1, {'loss': 0.5})
  writer.rewind('train', 0, tmp_path / 'train')
  assert path.read_bytes() == b''.join(FOREIGN)


def test_a_stage_folder_keeps_its_lines(writer, tmp_path):
  """The lines survive a run with a different config, and can be restored."""
  path = tmp_path / 'run' / 'metrics.jsonl'
  first, other = tmp_path / 'train', tmp_path / 'other'
  other.mkdir()
  writer.rewind('train', 0, first)
  for step in (1, 2):
    writer.write('train', step, {'loss': 0.5})
  curve = path.read_bytes()
  assert (first / 'metrics.jsonl').read_bytes() == curve
  writer.write('semantic_ids', 1, {'loss': 0.5})
  writer.rewind('train', 0, other)
  assert steps(tmp_path) == [('semantic_ids', 1)]
  for step in (1, 2, 3):
    writer.write('train', step, {'loss': 0.7})
  assert (first / 'metrics.jsonl').read_bytes() == curve
  # The lines of the two configs are not mixed.
  writer.rewind('train', 2, first)
  assert path.read_bytes().endswith(b'\n' + curve)
  assert steps(tmp_path) == [('semantic_ids', 1), ('train', 1), ('train', 2)]
  assert len((other / 'metrics.jsonl').read_bytes().splitlines()) == 3


def test_a_run_of_an_earlier_version_resumes(writer, tmp_path):
  for step in (1, 2, 3):
    writer.write('train', step, {'loss': 0.5})
  writer.rewind('train', 2, tmp_path / 'train')
  own = (tmp_path / 'train' / 'metrics.jsonl').read_bytes()
  assert own == (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
  assert steps(tmp_path) == [('train', 1), ('train', 2)]


@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_only_regular_files_are_written(writer, tmp_path, kind):
  victim, path = tmp_path / 'victim', tmp_path / 'run' / 'metrics.jsonl'
  if kind == 'pipe':
    os.mkfifo(path)
  else:
    path.symlink_to(victim)
  if kind == 'link':
    victim.write_text('precious')
  with pytest.raises(OSError, match='link|regular|No such device'):
    writer.write('train', 1, {'loss': 0.5})
  if kind != 'dangling':
    with pytest.raises(OSError, match='link|regular'):
      writer.rewind('train', 0, tmp_path / 'train')
  assert not victim.exists() or victim.read_text() == 'precious'


def test_tensorboard_stops_after_an_error(tmp_path, capsys):
  pytest.importorskip('tensorboardX')
  (tmp_path / 'elsewhere').mkdir()
  writer = MetricsWriter(tmp_path / 'run')
  (tmp_path / 'run' / 'tensorboard').symlink_to(tmp_path / 'elsewhere')
  for step in (1, 2):
    writer.write('train', step, {'loss': 0.5})
  writer.close()
  assert steps(tmp_path) == [('train', 1), ('train', 2)]
  assert not list((tmp_path / 'elsewhere').iterdir())
  assert capsys.readouterr().err.count('WARNING') == 1


def test_rewind_does_not_create_a_missing_file(writer, tmp_path):
  writer.rewind('train', 0, tmp_path / 'train')
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_metrics_are_written_for_tensorboard(writer, tmp_path):
  pytest.importorskip('tensorboardX')
  writer.write('train', 1, {'loss': 0.5})
  writer.close()
  (file,) = (tmp_path / 'run' / 'tensorboard').iterdir()
  assert b'train/loss' in file.read_bytes()


def test_metrics_are_written_without_tensorboard(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, 'SummaryWriter', None)
  writer = MetricsWriter(tmp_path / 'run')
  writer.write('train', 1, {'loss': 0.5})
  writer.close()
  assert steps(tmp_path) == [('train', 1)]
  assert not (tmp_path / 'run' / 'tensorboard').exists()


def test_the_progress_line_shows_steps_and_time(capsys):
  with progress_line('train', 40, initial=10) as bar:
    bar.update(10)
    bar.refresh()
  text = capsys.readouterr().err
  assert 'train' in text
  assert '20/40' in text
  assert '00:' in text  # Time spent, and time left.


def test_a_writer_without_metrics_writes_no_file(tmp_path):
  MetricsWriter(tmp_path / 'run').close()
  assert not list((tmp_path / 'run').iterdir())
