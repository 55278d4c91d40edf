"""Tests of the commands with two worker processes, as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('apache_beam', reason='needs the extra beam')

from tests import small, typed  # noqa: E402
from tests.beam import shops  # noqa: E402
from tiger_jax.data.dataset import Dataset  # noqa: E402
from tiger_jax.semantic_ids.ids import SemanticIds  # noqa: E402

CONFIG = f'--config={small.ROOT}/configs/own_data.py'
CATALOG = small.items(60)


@pytest.fixture(name='shop')
def _shop(tmp_path):
  rows = shops.events()
  return shops.write(tmp_path / 'shop', rows, 'csv.gz', catalog=CATALOG)


def prepare(shop, out='out', *more):
  return (
    'prepare', CONFIG, f'--config.dataset.source_dir={shop}', f'--out={out}',
    *more,
  )  # fmt: skip


def test_two_workers_prepare_the_dataset_of_one_machine(beam, shop, tmp_path):
  flags = '--config.dataset.k_core=5', '--config.dataset.min_rating=3'
  done = beam(*prepare(shop, 'out', *flags))
  assert done.code == 0, done.err
  assert not done.err
  assert 'Prepared: out' in done.out
  settings = {'k_core': 5, 'min_rating': 3.0}
  shops.assert_equal(
    shops.on_one_machine(shops.config(tmp_path / 'out', **settings)),
    shops.on_one_machine(shops.config(shop, **settings)),
  )
  # The printed command reads the folder.
  line = next(x for x in done.out.splitlines() if x.startswith('Train with'))
  command = line.partition('tiger_jax.main ')[2].split()
  assert typed.run(*command, '--mode=data', cwd=tmp_path).code == 0


@pytest.mark.parametrize(
  ('arguments', 'code', 'message'),
  [
    (('prepair',), 2, 'did you mean prepare?'),
    (('prepare', '--out=x'), 2, '--config is missing'),
    (('prepare', CONFIG), 2, '--out is missing'),
    (('prepare', CONFIG, '--out='), 2, '--out is empty'),
    (('prepare', CONFIG, '--out=x', '--runer=a'), 2, 'did you mean --runner?'),
    (('prepare', CONFIG, '--oot=x'), 2, 'no flag --oot'),
    (('prepare', CONFIG, '--out=x', 'stray'), 2, "argument 'stray'"),
    (('prepare', CONFIG, '--out=x', '--direct_num_workers=two'), 2, 'two'),
    (('prepare', CONFIG, '--out=x'), 2, 'source_dir is empty'),
    (('prepare', CONFIG, '--out=x', '--config.dataset.name=steam'), 2,
     'own files'),
    (prepare('nowhere'), 3, 'there is no folder'),
    (('embed', CONFIG, '--config.dataset.source_dir=.', '--out=x'), 3,
     'prepare'),
    (('assign', '--workdir=nowhere', '--vectors=x', '--out=y'), 2,
     'there is no folder nowhere'),
    (('recommend', '--workdir=nowhere', '--out=y', '--k=0'), 2, '--k'),
    (('recommend', '--workdir=nowhere', '--out=y'), 4, 'nowhere'),
  ],
)  # fmt: skip
def test_errors_are_one_line(beam, tmp_path, arguments, code, message):
  done = beam(*arguments)
  assert done.code == code, done
  assert message in done.refusal
  assert not list(tmp_path.iterdir())


def test_a_bad_row_is_a_one_line_error(beam, tmp_path):
  rows = shops.events()
  rows[2500]['user'] = ''
  shop = shops.write(tmp_path / 'shop', rows, 'csv', catalog=CATALOG)
  done = beam(*prepare(shop))
  assert done.code == 3
  assert 'part-3.csv, row ' in done.refusal
  assert [x.name for x in tmp_path.iterdir()] == ['shop']


# Modules that Python imports at startup. The first kills each worker before its
# first task, and the second kills it during its first task.
_BEFORE = """
import os, signal, sys
if 'sdk_worker_main' in ' '.join(sys.orig_argv):
  os.kill(os.getpid(), signal.SIGKILL)
"""
_DURING = """
import os, signal, sys, zlib
if 'sdk_worker_main' in ' '.join(sys.orig_argv):
  zlib.crc32 = lambda *unused: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize('killer', [_BEFORE, _DURING], ids=['before', 'during'])
def test_a_dead_worker_leaves_no_output(beam, shop, tmp_path, killer):
  (tmp_path / 'killer').mkdir()
  (tmp_path / 'killer' / 'sitecustomize.py').write_text(killer)
  path = os.pathsep.join((str(tmp_path / 'killer'), str(small.ROOT)))
  done = beam(*prepare(shop), env={'PYTHONPATH': path})
  assert done.code == 6
  assert 'a worker died' in done.refusal
  assert not (tmp_path / 'out').exists()
  assert not (tmp_path / 'out.partial').exists()
  done = beam(*prepare(shop))
  assert done.code == 0, done.err


def start(tmp_path, arguments):
  command = [sys.executable, '-m', 'tiger_jax.beam', *arguments, *shops.TWO]
  return subprocess.Popen(
    command, cwd=tmp_path, env=typed.environment(tmp_path),
    start_new_session=True, stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )  # fmt: skip


def test_a_second_pipeline_is_refused_and_a_killed_one_leaves_nothing(
  beam, shop, tmp_path
):
  first = start(tmp_path, prepare(shop))
  try:
    work = tmp_path / 'out.partial' / 'work'
    while not work.exists():
      assert first.poll() is None
      time.sleep(0.02)
    done = beam(*prepare(shop))
    assert done.code == 2
    assert 'another process uses' in done.refusal
  finally:
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
  assert not (tmp_path / 'out').exists()
  done = beam(*prepare(shop))
  assert done.code == 0, done.err
  names = sorted(x.name for x in tmp_path.iterdir())
  assert names == ['out', 'shop']


def read_vectors(folder):
  ids = json.loads((folder / 'ids.json').read_text())
  return ids, np.load(folder / 'embeddings.npy')


def test_embed_and_assign_give_the_records_of_a_run(beam, trained, tmp_path):
  assert beam(*prepare(trained.parent / 'shop')).code == 0
  done = beam(
    'embed', CONFIG, '--config.embedding.dim=8',
    '--config.dataset.source_dir=out', '--out=vectors',
  )  # fmt: skip
  assert done.code == 0, done.err
  assert done.out.splitlines()[0] == '40 vectors of 8 numbers'
  ids, vectors = read_vectors(tmp_path / 'vectors')
  dataset = Dataset.load(trained / 'data')
  assert tuple(ids) == dataset.items.ids
  expected = np.load(trained / 'embedding' / 'embeddings.npy')
  np.testing.assert_array_equal(vectors, expected)
  done = beam(
    'assign', f'--workdir={trained}', '--vectors=vectors', '--out=assigned'
  )
  assert done.code == 0, done.err
  assert done.out.splitlines()[0] == '40 Semantic IDs, 0 of them new'
  assigned = SemanticIds.load(tmp_path / 'assigned')
  run = SemanticIds.load(trained / 'semantic_ids')
  np.testing.assert_array_equal(assigned.codes, run.codes)
  shard = tmp_path / 'out' / 'interactions' / 'part-00001.parquet'
  shard.unlink()
  done = beam('embed', CONFIG, '--config.dataset.source_dir=out', '--out=again')
  assert done.code == 3
  assert 'is missing' in done.refusal
  assert not (tmp_path / 'again').exists()


def parts(folder):
  return {x.name: x.read_bytes() for x in folder.glob('part-*')}


def test_two_workers_recommend_the_same_items(beam, trained, tmp_path):
  lines = (
    json.dumps(
      {'user': i, 'history': [f'A{(i * j) % 40:03d}' for j in range(1, 4)]}
    )
    for i in range(2 * 4096 + 100)
  )
  (tmp_path / 'h.jsonl').write_text('\n'.join(lines))
  flags = f'--workdir={trained}', '--histories=h.jsonl', '--k=3'
  done = typed.run('--mode=recommend_all', *flags, '--out=one', cwd=tmp_path)
  assert done.code == 0, done.err
  done = beam('recommend', *flags, '--out=two')
  assert done.code == 0, done.err
  assert done.out.splitlines()[-1] == 'Recommendations: two'
  assert len(parts(tmp_path / 'one')) == 3
  assert parts(tmp_path / 'one') == parts(tmp_path / 'two')
  assert (tmp_path / 'two' / '_SUCCESS').exists()
  names = {x.name for x in (tmp_path / 'two').iterdir()}
  assert names == {x.name for x in (tmp_path / 'one').iterdir()}
  # Missing parts are written again; with other flags, the folder is refused.
  (tmp_path / 'two' / 'part-00001.parquet').unlink()
  done = beam('recommend', *flags, '--out=two')
  assert done.code == 0, done.err
  assert parts(tmp_path / 'one') == parts(tmp_path / 'two')
  done = beam('recommend', *flags[:2], '--k=4', '--out=two')
  assert done.code == 2
  assert 'another k' in done.refusal
