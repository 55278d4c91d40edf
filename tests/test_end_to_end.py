"""From raw files to recommendations, on a shop and a net as small as can be."""

import json
import os
import re
import signal
import subprocess
import sys

from absl.testing import flagsaver
import jax
import numpy as np
import pytest

from tests import small
from tiger_jax import main
from tiger_jax.config import flags as _flags  # noqa: F401  # Defines the flags.
from tiger_jax.pipeline import STAGES
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.serving.recommender import Recommender
from tiger_jax.stages import embedding

SETTINGS = (
  *small.FLAGS[1:],
  '--config.semantic_ids.quantizer=rq_vae',
  '--config.semantic_ids.latent_dim=4',
  '--config.semantic_ids.hidden_dims=(16,)',
  '--config.semantic_ids.epochs=2',
  '--config.semantic_ids.restart_epochs=1',
  '--config.train.batch_size=16',
  '--config.train.steps_per_call=1',
)
SHOP = (
  f'--config={small.ROOT}/configs/quickstart.py',
  '--config.dataset.synthetic_users=64',
  *SETTINGS,
)
METRICS = {
  'recall@5', 'ndcg@5', 'recall@10', 'ndcg@10', 'sid_recall@10', 'invalid@10',
  'invalid@20',
}  # fmt: skip
FOLDERS = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')

pytestmark = pytest.mark.filterwarnings(
  # ml_collections loads config files with it.
  r'ignore:the load_module\(\) method:DeprecationWarning'
)


def program(workdir, *arguments):
  """Runs the program within this process; returns its exit code."""
  argv = ['main.py', f'--workdir={workdir}', *arguments]
  with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
    patch.setattr(sys, 'argv', argv)
    try:
      main.main()
    except SystemExit as error:
      return error.code
  return 0


def artefacts(workdir, names=FOLDERS):
  """Returns what identifies every file of every stage."""
  found = {}
  for name in names:
    for path in sorted((workdir / name).rglob('*')):
      stat = path.stat()
      found[str(path.relative_to(workdir))] = (stat.st_ino, stat.st_mtime_ns)
  return found


def read(path):
  return json.loads(path.read_text())


def logged(workdir):
  """Returns what was logged, but for the times."""
  text = (workdir / 'metrics.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  return [{k: v for k, v in line.items() if k != 'time'} for line in lines]


def clone(workdir, target):
  """Copies a run; the files are the same, so that new ones show."""
  subprocess.run(['cp', '-al', workdir, target], check=True)
  return target


@pytest.fixture(name='one_device', scope='module')
def _one_device():
  """Eight would wait for each other on the few cores of a test machine."""
  one = sharding.make_mesh(jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, 'make_mesh', lambda *unused, **more: one)
    yield


@pytest.fixture(name='shop', scope='module')
def _shop(tmp_path_factory, one_device):
  """A finished run. Do not change it: `clone` it."""
  workdir = tmp_path_factory.mktemp('shop') / 'run'
  assert program(workdir, *SHOP) == 0
  return workdir


@pytest.fixture(name='recommender', scope='module')
def _recommender(shop):
  return Recommender.from_workdir(shop)


def test_your_own_files(tmp_path, capfd):
  """On all devices, and before `shop` leaves only one to the rest."""
  folder = tmp_path / 'my_shop'
  folder.mkdir()
  rng = np.random.default_rng(0)
  items = [f'{i:05d}' for i in range(40)]
  rows = ['user,item,timestamp']
  rows += [
    f'user {user},{items[item]},2024-01-{day + 1:02d}'
    for user in range(30)
    for day, item in enumerate(rng.permutation(40)[:6])
  ]
  rows.append('once,00000,2024-01-01')
  (folder / 'interactions.csv').write_text('\n'.join(rows))
  colours, things = ('red', 'blue', 'green', 'grey'), ('mug', 'hat', 'pen')
  (folder / 'items.csv').write_text(
    'item,title,brand\n'
    + '\n'.join(
      f'{item},"A {colours[i % 4]} {things[i % 3]}, {i}",Brand {i % 5}'
      for i, item in enumerate(items)
    )
  )
  own = (
    f'--config={small.ROOT}/configs/own_data.py',
    f'--config.dataset.source_dir={folder}',
    *SETTINGS,
    '--config.train.steps=4',
    '--config.train.optimizer.warmup_steps=1',
  )
  workdir = tmp_path / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(small.ROOT))
    assert program(workdir, *own) == 0
  results = read(workdir / 'results.json')
  counts = results['dataset'].pop('counts')
  assert results['dataset'] == {
    'name': 'files', 'users': 30, 'items': 40, 'interactions': 180,
  }  # fmt: skip
  assert counts['events'] == {
    'read': 181, 'used': 180,
    'dropped': {'of users with fewer than 3 events': 1},
  }  # fmt: skip
  assert read(workdir / 'data' / 'stage.json')['about']['counts'] == counts
  assert 'best_possible' not in results
  capfd.readouterr()
  assert program(workdir, '--mode=recommend', '--history=00003,00007') == 0
  lines = capfd.readouterr().out.splitlines()
  assert len(lines) == 10
  for line in lines:
    item, title = line.split(maxsplit=3)[2:]
    assert item in items
    assert title.startswith('A ')
    assert title.endswith(f', {int(item)}')


def test_results(shop):
  results = read(shop / 'results.json')
  assert results['dataset']['users'] == 64
  assert results['dataset']['items'] == 600
  assert 64 * 5 <= results['dataset']['interactions'] <= 64 * 20
  assert results['embedding'] == {'encoder': 'tfidf-svd', 'dim': 8}
  ids = results['semantic_ids']
  assert len(ids['usage']) == len(ids['perplexity']) == 3
  assert all(0 < usage <= 1 for usage in ids['usage'])
  assert all(1 <= perplexity <= 8 for perplexity in ids['perplexity'])
  assert all(0 < rate <= 1 for rate in ids['collision_rate'])
  unseen = results['metrics'].pop('test_masked')
  assert unseen.keys() == {'recall@5', 'recall@10', 'ndcg@5', 'ndcg@10'}
  assert unseen['recall@10'] >= results['metrics']['test']['recall@10']
  generated = {'invalid@10', 'invalid@20'}
  popularity = results['baselines']['popularity']
  for measured, names in (
    (results['metrics'], METRICS), (popularity, METRICS - generated)
  ):  # fmt: skip
    assert measured.keys() == {'validation', 'test'}
    for values in measured.values():
      assert values.keys() == names
      assert all(0 <= value <= 1 for value in values.values())
      assert values['recall@5'] <= values['recall@10']
      assert values['recall@10'] <= values['sid_recall@10']
      assert values['ndcg@10'] <= values['recall@10']
  assert results['best_possible'].keys() == {'recall@10'}
  assert 0.3 < results['best_possible']['recall@10'] < 1
  assert results['seconds'].keys() == set(FOLDERS)
  assert all(value >= 0 for value in results['seconds'].values())
  environment = results['environment']
  assert environment['jax'] == jax.__version__
  assert len(environment['devices']) == 8
  assert environment['seed'] == 0
  assert results.keys() == {
    'model', 'dataset', 'embedding', 'semantic_ids', 'metrics', 'baselines',
    'best_possible', 'seconds', 'environment', 'command',
  }  # fmt: skip


def test_replicas(shop, tmp_path):
  """Two seeds at once; the first learns what it learns alone."""
  workdir = clone(shop, tmp_path / 'run')
  arguments = (*SHOP, '--mode=evaluate', '--config.train.replicas=2')
  assert program(workdir, *arguments) == 0
  results = read(workdir / 'results.json')
  found = results['replicas']
  assert found['seed'] == [0, 1]
  assert found['best_on_validation'] in (0, 1)
  for name in ('validation', 'test'):
    first, second = found[name]
    for metric, mean in results['metrics'][name].items():
      values = np.array([first[metric], second[metric]])
      assert mean == pytest.approx(values.mean())
      error = results['standard_error'][name][metric]
      assert error == pytest.approx(values.std(ddof=1) / 2**0.5)
  lines = [x for x in logged(workdir) if x['stage'] == 'train']
  validations = [x for x in lines if 'ndcg@10' in x]
  assert [x['step'] for x in validations] == [10, 20]
  for line in validations:
    each = [line[f'ndcg@10/replica_{i}'] for i in range(2)]
    assert line['ndcg@10'] == pytest.approx(np.mean(each))
  alone = [x for x in logged(shop) if 'ndcg@10' in x]
  for line, expected in zip(validations, alone, strict=True):
    assert line['ndcg@10/replica_0'] == pytest.approx(expected['ndcg@10'])
  # Recommends by the better of the two.
  assert program(workdir, '--mode=recommend', '--history=P0001') == 0


def test_metrics_files(shop):
  lines = logged(shop)
  steps = [x['step'] for x in lines if x['stage'] == 'train' and 'loss' in x]
  assert steps == [5, 10, 15, 20]
  validations = [x['step'] for x in lines if 'ndcg@10' in x]
  assert validations == [10, 20]
  assert any(x['stage'] == 'semantic_ids' for x in lines)
  assert list((shop / 'tensorboard').iterdir())
  assert read(shop / 'config.json')['train']['steps'] == 20


def test_nothing_is_left_over(shop):
  files = ['config.json', 'metrics.jsonl', 'results.json', 'report.html']
  files.append('.lock')
  assert sorted(path.name for path in shop.iterdir()) == sorted(
    [*FOLDERS, *files, 'tensorboard']
  )


def test_a_second_run_makes_nothing_again(shop, tmp_path, capfd):
  again = clone(shop, tmp_path / 'run')
  before = artefacts(again)
  results = read(shop / 'results.json')
  assert program(again, *SHOP) == 0
  assert artefacts(again) == before
  assert read(again / 'results.json') == results
  out, err = capfd.readouterr()
  for name in FOLDERS:
    assert f'{name}: made before, kept' in out
  assert 'made in' not in out
  assert err == ''
  # Five shoppers with ten titles each, every line with an item's own id.
  assert out.count('\nShopper shopper-') == 5
  assert len(re.findall(r'\n  [ *] +\d+ +-\d+\.\d\d  P0\d{3} ', out)) == 50
  assert 'best possible' in out
  assert out.endswith(f'\nReport: {again}/report.html\n')


@pytest.mark.parametrize('mode', list(STAGES)[:3])
def test_each_mode_stops_where_it_should(tmp_path, one_device, mode):
  workdir = tmp_path / 'run'
  assert program(workdir, *SHOP, f'--mode={mode}') == 0
  made = [name for name in FOLDERS if (workdir / name).exists()]
  assert made == list(FOLDERS[: list(STAGES).index(mode) + 1])
  assert not (workdir / 'results.json').exists()


def test_train_and_evaluate_modes(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  (workdir / 'results.json').unlink()
  assert program(workdir, *SHOP, '--mode=train') == 0
  assert not (workdir / 'results.json').exists()
  capfd.readouterr()
  assert program(workdir, *SHOP, '--mode=evaluate') == 0
  assert read(workdir / 'results.json') == read(shop / 'results.json')
  out = capfd.readouterr().out
  assert 'TIGER test' in out
  assert 'Shopper' not in out


def test_a_changed_section_runs_again_from_there(shop, tmp_path):
  workdir = clone(shop, tmp_path / 'run')
  before = artefacts(workdir)
  changed = ('--config.evaluation.batch_size=16',)
  assert program(workdir, *SHOP, *changed) == 0
  kept = FOLDERS[:4]
  assert artefacts(workdir, kept) == {
    name: state for name, state in before.items() if name.split('/')[0] in kept
  }
  assert artefacts(workdir, FOLDERS[4:]) != artefacts(shop, FOLDERS[4:])
  # How many are searched for at once changes no result.
  metrics = read(workdir / 'results.json')['metrics']['test']
  expected = read(shop / 'results.json')['metrics']['test']
  assert metrics == pytest.approx(expected)
  # Back, and what was made first is found again.
  assert program(workdir, *SHOP) == 0
  assert artefacts(workdir) == before


def test_a_changed_section_in_the_middle(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  before = artefacts(workdir)
  changed = ('--config.semantic_ids.beta=0.5', '--mode=semantic_ids')
  assert program(workdir, *SHOP, *changed) == 0
  after = artefacts(workdir)
  for name in FOLDERS:
    same = {
      key: state for key, state in before.items() if key.split('/')[0] == name
    }
    assert (same.items() <= after.items()) == (name != 'semantic_ids')
  # The trained model belongs to the IDs that were set aside, and is served with
  # those.
  ask = ('--mode=recommend', '--history=P0001')
  capfd.readouterr()
  assert program(shop, *ask) == 0
  expected = capfd.readouterr().out
  assert program(workdir, *ask) == 0
  assert capfd.readouterr().out == expected


@pytest.mark.parametrize('k', [10, 3])
def test_recommend(shop, recommender, capfd, k):
  history = recommender.dataset.items.ids[5], recommender.dataset.items.ids[9]
  arguments = ('--mode=recommend', f'--history={",".join(history)}', f'--k={k}')
  assert program(shop, *arguments) == 0
  out, err = capfd.readouterr()
  assert err == ''
  lines = out.splitlines()
  assert len(lines) == k
  expected = recommender.recommend(history, k)
  for place, (line, entry) in enumerate(zip(lines, expected, strict=True)):
    number, score, item, title = line.split(maxsplit=3)
    assert int(number) == place + 1
    assert float(score) == pytest.approx(entry.score, abs=0.01)
    assert item == entry.item_id
    assert title.rstrip('\N{HORIZONTAL ELLIPSIS}') in entry.title


@pytest.mark.parametrize(
  ('arguments', 'named'),
  [
    (['--history=NOWHERE'], "'NOWHERE'"),
    (['--history=P0001,NOWHERE'], '1 of 2'),
    (['--history=P0001,,P0002'], "''"),
    (['--history='], 'history is empty'),
    ([], 'history is empty'),
    (['--history=P0001', '--k=0'], 'k is 0'),
    (['--history=P0001', '--k=-2'], 'k is -2'),
  ],
)
def test_bad_requests(shop, capfd, arguments, named):
  assert program(shop, '--mode=recommend', *arguments) == 2
  out, err = capfd.readouterr()
  assert out == ''
  assert err.startswith('error: ')
  assert len(err.splitlines()) == 1
  assert named in err


def test_a_damaged_checkpoint(shop, tmp_path, capfd):
  workdir = tmp_path / 'run'
  subprocess.run(['cp', '-a', shop, workdir], check=True)
  files = (workdir / 'train' / 'checkpoints').rglob('params/**/d/*')
  for path in files:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
      data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    )
  assert program(workdir, '--mode=recommend', '--history=P0001') == 4
  err = capfd.readouterr().err
  assert err.splitlines()[-1].startswith('error: ')


def test_a_loss_that_is_not_finite(shop, tmp_path, capfd):
  """Ends with one line that tells where, after what progress was shown."""
  workdir = clone(shop, tmp_path / 'run')
  build = embedding.build
  with pytest.MonkeyPatch.context() as patch:

    def broken(config, items, folder):
      build(config, items, folder)
      vectors = np.load(folder / 'embeddings.npy')
      vectors[7, 3] = np.nan
      np.save(folder / 'embeddings.npy', vectors)

    patch.setattr(embedding, 'build', broken)
    assert program(workdir, *SHOP, '--config.embedding.dim=7') == 5
  err = capfd.readouterr().err
  assert err.splitlines()[-1].startswith('error: ')
  assert 'row 7' in err


def test_sigterm_and_the_same_command_again(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  subprocess.run(['rm', '-r', workdir / 'train'], check=True)
  (workdir / 'results.json').unlink()
  write = MetricsWriter.write

  def ask_to_stop(self, stage, step, values):
    write(self, stage, step, values)
    if (stage, step) == ('train', 15):
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(MetricsWriter, 'write', ask_to_stop)
    assert program(workdir, *SHOP) == 42
  err = capfd.readouterr().err.splitlines()
  # The loop looks for the signal once a step, before it writes.
  assert err[-1].startswith('error: train: asked to stop, saved at step 16;')
  assert not (workdir / 'train').exists()
  assert not (workdir / 'results.json').exists()
  assert program(workdir, *SHOP) == 0
  assert_same_model(workdir, shop, stopped=16)


KILLED = """
import os, pathlib, signal, sys, time
from tiger_jax import main
from tiger_jax.runtime.writers import MetricsWriter

write = MetricsWriter.write

def die(self, stage, step, values):
  write(self, stage, step, values)
  if (stage, step) == ('train', 15):
    workdir = pathlib.Path(sys.argv[1].removeprefix('--workdir='))
    while not list(workdir.glob('train.partial-*/checkpoints/10')):
      time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

MetricsWriter.write = die
main.main()
"""


def test_kill_9_and_the_same_command_again(shop, tmp_path):
  workdir = tmp_path / 'run'
  done = subprocess.run(
    [sys.executable, '-c', KILLED, f'--workdir={workdir}', *SHOP],
    env=os.environ
    | {
      'PYTHONPATH': str(small.ROOT),
      'JAX_PLATFORMS': 'cpu',
      # As many as the reference: more add up in another order.
      'JAX_NUM_CPU_DEVICES': '1',
    },
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    check=False,
    timeout=300,
  )
  assert done.returncode == -signal.SIGKILL
  assert (workdir / 'semantic_ids').exists()
  assert not (workdir / 'train').exists()
  assert not (workdir / 'results.json').exists()
  before = artefacts(workdir, FOLDERS[:3])
  assert program(workdir, *SHOP) == 0
  assert artefacts(workdir, FOLDERS[:3]) == before
  (goodput,) = (workdir / 'train' / 'goodput.jsonl').read_text().splitlines()
  assert json.loads(goodput)['from'] == 10
  assert_same_model(workdir, shop)


def assert_same_model(workdir, expected, stopped=20):
  results, other = (read(x / 'results.json') for x in (workdir, expected))
  # Another process may compile to other roundings.
  left = 'reconstruction_error'
  assert results['semantic_ids'].pop(left) == pytest.approx(
    other['semantic_ids'].pop(left), rel=1e-6
  )
  for name in ('dataset', 'semantic_ids', 'metrics', 'baselines'):
    assert results[name] == other[name]
  one, two = (
    Recommender.from_workdir(x).recommend_rows([[1, 2], [3]])
    for x in (workdir, expected)
  )
  assert one == two
  lines = logged(workdir)
  steps = {x['step'] for x in lines if x['stage'] == 'train'}
  assert steps == {5, 10, 15, 20, stopped}
  assert [x for x in lines if 'ndcg@10' in x] == [
    x for x in logged(expected) if 'ndcg@10' in x
  ]
