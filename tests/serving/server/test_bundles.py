"""Tests that the server loads bundles, and refuses damaged or hostile ones."""

import shutil
import sys

import pytest

from tests.serving.server import live
from tiger_jax.serving.recommender import Recommender

HISTORY = ['i101', 'i105']


@pytest.fixture(name='server', scope='module')
def _server(shop, make_shop, root):
  make_shop(1.5).save_bundle(root / 'good')
  with live.serving(shop, root) as server:
    yield server


def reload(server, name):
  return server.admin('POST', '/admin/reload', {'model': name})


def test_a_bundle_takes_over(server, make_shop):
  reply = reload(server, 'good')
  assert (reply.status, reply.body['name']) == (200, 'good')
  answer = server.recommend(HISTORY, 5).body
  expected = make_shop(1.5).recommend(HISTORY, 5)
  assert [x['item_id'] for x in answer['items']] == [
    x.item_id for x in expected
  ]
  assert answer['model'] == expected.model_version
  assert server.admin('POST', '/admin/rollback').body['name'] == 'first'


@pytest.mark.parametrize(
  'name',
  ['model.safetensors', 'catalog.safetensors', 'items.jsonl', 'config.json'],
)
def test_a_damaged_bundle_is_refused(server, root, name):
  before = server.recommend(HISTORY, 5).body
  folder = root / f'damaged-{name}'
  shutil.copytree(root / 'good', folder)
  data = bytearray((folder / name).read_bytes())
  data[len(data) // 2] ^= 1
  (folder / name).write_bytes(bytes(data))
  reply = reload(server, folder.name)
  assert (reply.status, reply.code) == (409, 'conflict')
  assert name in reply.body['message']
  assert str(root) not in reply.body['message']
  assert server.recommend(HISTORY, 5).body == before


def test_a_folder_with_links_is_refused(server, root):
  """Links are refused even if they stay in the folder of models."""
  (root / 'alias').symlink_to(root / 'good')
  assert reload(server, 'alias').code == 'unknown_model'
  folder = root / 'linked'
  shutil.copytree(root / 'good', folder)
  (folder / 'items.jsonl').unlink()
  (folder / 'items.jsonl').symlink_to(root / 'good' / 'items.jsonl')
  reply = reload(server, 'linked')
  assert (reply.status, reply.code) == (409, 'conflict')
  assert 'items.jsonl' in reply.body['message']


def test_a_run_is_loaded(server, root, trained):
  """The folder of a finished run, as the trainer left it."""
  shutil.copytree(trained, root / 'run')
  shutil.copytree(trained, root / 'damaged')
  try:
    for path in (root / 'damaged').rglob('*'):
      if path.is_file() and path.stat().st_size:
        path.write_bytes(path.read_bytes()[:-1] + b'?')
    before = server.recommend(HISTORY, 5).body
    reply = reload(server, 'damaged')
    assert (reply.status, reply.code) == (409, 'conflict')
    assert server.recommend(HISTORY, 5).body == before

    reply = reload(server, 'run')
    assert (reply.status, reply.body['name']) == (200, 'run')
    expected = Recommender.from_workdir(trained).recommend(['A001', 'A002'], 5)
    answer = server.recommend(['A001', 'A002'], 5).body
    assert [x['item_id'] for x in answer['items']] == [
      x.item_id for x in expected
    ]
  finally:
    server.admin('POST', '/admin/rollback')


def test_an_empty_folder_is_refused(server, root):
  (root / 'empty').mkdir()
  assert reload(server, 'empty').code == 'conflict'


def test_code_in_a_folder_is_never_run(server, root, monkeypatch):
  """The canary of each Python file would create a file."""
  folder, canary = root / 'hostile', root / 'canary'
  shutil.copytree(root / 'good', folder)
  code = f'open({str(canary)!r}, "w").close()\n'
  for name in ('__init__', 'jax', 'sitecustomize', 'config', 'conftest'):
    (folder / f'{name}.py').write_text(code)
  (folder / 'configs').mkdir()
  (folder / 'configs/quickstart.py').write_text(code)
  monkeypatch.chdir(folder)
  modules = set(sys.modules)
  reply = reload(server, 'hostile')
  assert (reply.status, reply.body['name']) == (200, 'hostile')
  assert server.recommend(HISTORY, 5).status == 200
  assert not canary.exists()
  files = (getattr(sys.modules[x], '__file__', None) for x in
           set(sys.modules) - modules)  # fmt: skip
  assert not [x for x in files if x and str(root) in x]
