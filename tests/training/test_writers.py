import json

import pytest

from tiger_jax.training import writers
from tiger_jax.training.writers import MetricsWriter, progress_line


@pytest.fixture(name='writer')
def _writer(tmp_path):
  writer = MetricsWriter(tmp_path / 'run')
  yield writer
  writer.close()


def lines(tmp_path):
  text = (tmp_path / 'run' / 'metrics.jsonl').read_text()
  assert text.endswith('\n') or not text
  return [json.loads(line) for line in text.splitlines()]


def steps(tmp_path):
  return [(line['stage'], line['step']) for line in lines(tmp_path)]


def test_one_line_per_step(writer, tmp_path):
  writer.write('train', 1, {'loss': 0.5, 'accuracy': 1.0})
  writer.write('train', 2, {'loss': 0.25})
  first, second = lines(tmp_path)
  assert first.pop('time') <= second.pop('time')
  assert first == {'stage': 'train', 'step': 1, 'loss': 0.5, 'accuracy': 1.0}
  assert second == {'stage': 'train', 'step': 2, 'loss': 0.25}


def test_appends_to_what_is_there(writer, tmp_path):
  writer.write('train', 1, {'loss': 0.5})
  again = MetricsWriter(tmp_path / 'run')
  again.write('train', 2, {'loss': 0.5})
  again.close()
  assert steps(tmp_path) == [('train', 1), ('train', 2)]


def test_rewind_drops_what_will_be_written_again(writer, tmp_path):
  for step in (1, 2, 3, 4):
    writer.write('train', step, {'loss': 0.5})
    writer.write('semantic_ids', step, {'loss': 0.5})
  writer.rewind('train', 2)
  assert steps(tmp_path) == [
    ('train', 1), ('semantic_ids', 1), ('train', 2), ('semantic_ids', 2),
    ('semantic_ids', 3), ('semantic_ids', 4),
  ]  # fmt: skip
  writer.rewind('semantic_ids', 0)
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
def test_rewind_drops_a_torn_last_line(writer, tmp_path, torn):
  writer.write('train', 1, {'loss': 0.5})
  path = tmp_path / 'run' / 'metrics.jsonl'
  path.write_bytes(path.read_bytes() + torn)
  writer.rewind('train', 1)
  writer.write('train', 2, {'loss': 0.5})
  assert steps(tmp_path) == [('train', 1), ('train', 2)]


def test_rewind_before_anything_was_written(writer, tmp_path):
  writer.rewind('train', 0)
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_tensorboard_files(writer, tmp_path):
  pytest.importorskip('tensorboardX')
  writer.write('train', 1, {'loss': 0.5})
  writer.close()
  (file,) = (tmp_path / 'run' / 'tensorboard').iterdir()
  assert b'train/loss' in file.read_bytes()


def test_without_tensorboard(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, 'SummaryWriter', None)
  writer = MetricsWriter(tmp_path / 'run')
  writer.write('train', 1, {'loss': 0.5})
  writer.close()
  assert steps(tmp_path) == [('train', 1)]
  assert not (tmp_path / 'run' / 'tensorboard').exists()


def test_progress_line_tells_where_and_how_long(capsys):
  with progress_line('train', 40, initial=10) as bar:
    bar.update(10)
    bar.refresh()
  text = capsys.readouterr().err
  assert 'train' in text
  assert '20/40' in text
  assert '00:' in text  # Time spent, and time left.


def test_nothing_is_written_before_there_is_something(tmp_path):
  MetricsWriter(tmp_path / 'run').close()
  assert not list((tmp_path / 'run').iterdir())
