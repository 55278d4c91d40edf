"""Tests of interrupted and repeated calls, and of the folder."""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow.dataset
import pytest

from tests.serving.offline.test_rows import NUM_USERS, with_users
from tests.serving.shop import make_model, make_shop, with_weight
from tiger_jax.errors import DataError, UsageError
from tiger_jax.serving.offline import job, output
from tiger_jax.serving.offline.job import recommend_all
from tiger_jax.serving.options import Options
from tiger_jax.storage import files
from tiger_jax.storage.artifacts import locked


class Killed(BaseException):
  """Stands for the death of the process."""


@pytest.fixture(name='model', scope='module')
def _model():
  return with_users(make_model())


@pytest.fixture(name='run')
def _run(model, monkeypatch):
  monkeypatch.setattr(job, '_MIN_USERS', 16)
  shop = make_shop(model)

  def run(folder, **arguments):
    arguments = {'k': 5, 'batch_size': 8} | arguments
    return recommend_all(shop.snapshot, folder, **arguments)

  return run


def content(folder):
  """Returns the bytes of all files."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def searched(monkeypatch):
  """Returns a list that gets the number of users of each part to come."""
  sizes = []
  search = job.search_part

  def counted(query, part, *rest):
    sizes.append(len(part.users))
    return search(query, part, *rest)

  monkeypatch.setattr(job, 'search_part', counted)
  return sizes


def test_readers_see_one_table(run, tmp_path):
  counts = run(tmp_path / 'out')
  assert counts == (NUM_USERS, 5 * NUM_USERS, 0, 0)
  assert sorted(content(tmp_path / 'out')) == [
    '.lock', '_SUCCESS', '_manifest.json',
    *(f'_parts/0000{i}.json' for i in range(3)),
    *(f'part-0000{i}.parquet' for i in range(3)),
  ]  # fmt: skip
  table = pyarrow.dataset.dataset(tmp_path / 'out').to_table()
  assert table.num_rows == 5 * NUM_USERS
  assert list(map(str, table.schema.types)) == [
    'string', 'int32', 'string', 'string', 'double',
  ]  # fmt: skip
  assert table.to_pandas().equals(pd.read_parquet(tmp_path / 'out'))
  users = table['user'].to_pylist()[::5]
  assert users == [f'u{i}' for i in range(NUM_USERS)]
  part = json.loads((tmp_path / 'out/_parts/00002.json').read_text())
  assert part['counts']['users'] == NUM_USERS - 32


def test_a_call_killed_at_any_step_is_continued(run, tmp_path, monkeypatch):
  search = job.search_part
  results = {}

  def searched_once(query, part, *rest):
    if part.users not in results:
      results[part.users] = search(query, part, *rest)
    return results[part.users]

  monkeypatch.setattr(job, 'search_part', searched_once)
  run(tmp_path / 'whole')
  expected = content(tmp_path / 'whole')
  step = 0
  is_killed = True
  while is_killed:
    folder = tmp_path / f'killed-{step}'
    count = iter(range(step))

    def dies(function, count=count):
      def call(*args, **options):
        if next(count, None) is None:
          raise Killed
        return function(*args, **options)

      return call

    with monkeypatch.context() as m:
      m.setattr(files, 'sync', dies(files.sync))
      m.setattr(Path, 'replace', dies(Path.replace))
      m.setattr(Path, 'mkdir', dies(Path.mkdir))
      try:
        run(folder)
        is_killed = False
      except Killed:
        pass
    kept = content(folder) if folder.exists() else {}
    kept = [x for x in kept if x.startswith('_parts/') and x.endswith('.json')]
    assert len(kept) == 3 or not (folder / '_SUCCESS').exists()
    with monkeypatch.context() as m:
      sizes = searched(m)
      run(folder)
    assert len(sizes) == 3 - len(kept)
    assert content(folder) == expected, step
    step += 1
  # Each of the three parts has several steps.
  assert step > 15


def test_a_finished_call_is_not_repeated(run, tmp_path, monkeypatch):
  counts = run(tmp_path / 'out')
  before = content(tmp_path / 'out')
  sizes = searched(monkeypatch)
  # The size of a batch may change, because a smaller one needs less memory.
  assert run(tmp_path / 'out', batch_size=4) == counts
  assert sizes == [] and content(tmp_path / 'out') == before


@pytest.mark.parametrize('damage', ['flip', 'cut', 'remove', 'link'])
def test_a_damaged_part_is_written_again(
  run, tmp_path, monkeypatch, capsys, damage
):
  out = tmp_path / 'out'
  run(out)
  before = content(out)
  part = out / 'part-00001.parquet'
  data = part.read_bytes()
  part.unlink()
  if damage == 'link':
    (tmp_path / 'other').write_bytes(data)
    part.symlink_to(tmp_path / 'other')
  elif damage == 'flip':
    part.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
  elif damage == 'cut':
    part.write_bytes(data[:-1])
  sizes = searched(monkeypatch)
  run(out)
  assert sizes == [16] and content(out) == before
  assert not part.is_symlink()
  line = f'{part} is damaged, and is written again'
  assert line in capsys.readouterr().err


def test_a_folder_without_its_end_is_not_finished(run, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  run(out)
  (out / '_parts/00000.json').unlink()
  (out / '_SUCCESS').unlink()
  ends = []
  write = output.Output.write

  def written(*args):
    ends.append((out / '_SUCCESS').exists())
    return write(*args)

  monkeypatch.setattr(output.Output, 'write', written)
  run(out)
  assert ends == [False] and (out / '_SUCCESS').exists()


@pytest.mark.parametrize(
  ('arguments', 'names'),
  [
    ({'k': 4}, 'k'),
    ({'options': Options(exclude_seen=True)}, 'options'),
    ({'file_format': 'jsonl'}, 'format'),
    ({'histories': 'h.jsonl'}, 'histories'),
  ],
)
def test_other_arguments_are_refused(run, tmp_path, arguments, names):
  out = tmp_path / 'out'
  run(out)
  before = content(out)
  if 'histories' in arguments:
    (tmp_path / 'h.jsonl').write_text('{"user": 1, "history": []}\n' * 40)
    arguments = {'histories': tmp_path / 'h.jsonl'}
  with pytest.raises(UsageError) as error:
    run(out, **arguments)
  assert str(error.value) == (
    f'{out} holds recommendations with another {names}: remove the folder, or '
    'choose another --out'
  )
  assert content(out) == before


def test_another_model_or_catalog_is_refused(run, model, tmp_path):
  out = tmp_path / 'out'
  run(out)
  shop = make_shop(model)
  shop.update_titles({'i101': 'Lamp'})
  with pytest.raises(UsageError, match='with another catalog: remove'):
    recommend_all(shop.snapshot, out, k=5)
  other = make_shop(with_weight(model, 0.5))
  with pytest.raises(UsageError, match='another model and another catalog'):
    recommend_all(other.snapshot, out, k=5)


def test_two_calls_do_not_write_to_one_folder(run, tmp_path):
  run(tmp_path / 'out')
  with locked(tmp_path / 'out', lambda _: None):
    with pytest.raises(UsageError) as error:
      run(tmp_path / 'out')
  assert str(error.value) == (
    f'another process uses {tmp_path / "out"}: wait until it ends, or choose '
    'another --out'
  )


def test_a_folder_with_other_files_is_refused(run, tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  with pytest.raises(UsageError, match='does not hold recommendations: choose'):
    run(tmp_path)
  assert os.listdir(tmp_path) == ['notes.txt']
  with pytest.raises(UsageError, match='cannot be used .*another --out'):
    run(tmp_path / 'notes.txt')
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty' / 'job.log').touch()
  run(tmp_path / 'empty')


@pytest.mark.parametrize('name', ['_parts', '_partial', '_manifest.json'])
def test_links_are_refused(run, tmp_path, name):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'out' / name).symlink_to(tmp_path / 'elsewhere')
  with pytest.raises(UsageError, match='is a link, .*or choose another --out'):
    run(tmp_path / 'out')
  assert not os.listdir(tmp_path / 'elsewhere')


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('_manifest.json', '{'),
    ('_manifest.json', '[]'),
    ('_manifest.json', '{"format": 1, "job": 3}'),
    ('_manifest.json', '{"format": 9, "job": {}}'),
    ('_parts/00001.json', ''),
    ('_parts/00001.json', '{"counts": {"users": 3}}'),
    ('_parts/00001.json', '3'),
  ],
)
def test_damaged_records_are_an_error(run, tmp_path, name, text):
  out = tmp_path / 'out'
  run(out)
  (out / name).write_text(text)
  with pytest.raises(DataError, match=f'{name} .*: remove the folder, or'):
    run(out)


def test_a_full_disk_is_an_error_and_the_rest_follows(
  run, tmp_path, monkeypatch
):
  run(tmp_path / 'whole')
  write = files.write

  def full(path, data):
    if path.name.endswith('part-00001.parquet'):
      raise OSError(errno.ENOSPC, 'No space left on device', str(path))
    write(path, data)

  out = tmp_path / 'out'
  with monkeypatch.context() as m:
    m.setattr(files, 'write', full)
    with pytest.raises(
      DataError, match='No space left.*free space on the disk'
    ):
      run(out)
  assert not (out / '_SUCCESS').exists()
  run(out)
  assert content(out) == content(tmp_path / 'whole')


def test_processes_share_the_parts(run, tmp_path, monkeypatch):
  """Each process writes consecutive parts; any number may finish the job."""
  run(tmp_path / 'whole')
  out = tmp_path / 'out'
  sizes = searched(monkeypatch)
  monkeypatch.setattr(job.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(job.processes, 'require_same', lambda *_: None)
  monkeypatch.setattr(job.processes, 'require_shared', lambda *_: None)
  with monkeypatch.context() as m:
    m.setattr(output.time, 'sleep', lambda _: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):  # It waits for the other process.
      run(out)
  assert sizes == [16] and not (out / '_SUCCESS').exists()
  monkeypatch.setattr(job.jax, 'process_count', lambda: 1)
  run(out)
  assert sizes == [16, 16, NUM_USERS - 32]
  assert content(out) == content(tmp_path / 'whole')
