"""Tests of exported programs."""

import ast
import dataclasses
import hashlib
import json
import math
import re
import runpy
import shutil
import sys

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests import typed
from tests.retrieval.lowered import assert_full_products
from tests.serving.conftest import CONFIG, NUM_ITEMS, make_dataset
from tests.small import ROOT
from tiger_jax.data.batches import request_batch
from tiger_jax.errors import DataError, UsageError
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.serving.export import (
  export_programs,
  guaranteed_until,
  replace_arrays,
)
from tiger_jax.serving.recommender import Recommender
from tiger_jax.storage import files

SCRIPT = ROOT / 'examples/run_export.py'
HISTORIES = ([12], [3, 0], [5, 6, 7, 8], [9, 10, 11, 13, 2, 1])
# Custom calls of the search that JAX promises to keep.
STABLE = {'ApproxTopK', 'cu_threefry2x32_ffi', 'hip_threefry2x32_ffi'}
# In the catalog of the second model, some arrays are empty.
LEVEL_SIZES = {'plain': (3, 3, 3), 'rich': (64, 64, 3)}
RICH = {
  'model': {
    'softmax': 'trie',
    'prefix_embeddings': 64,
    'prefix_heads': True,
    'num_user_tokens': 4,
  },
  'evaluation': {'transition_weight': 0.4},
  'train': {'length_buckets': (4,)},
}


def make_shop(kind, seed=0, **changes):
  """Returns a recommender with an untrained network."""
  sizes = LEVEL_SIZES[kind]
  spread = np.arange(NUM_ITEMS) * math.prod(sizes) // NUM_ITEMS
  codes = np.stack(np.unravel_index(spread, sizes), 1)
  ids = SemanticIds(codes.astype(np.int32), sizes, 2, {'quantizer': 'none'})
  config = CONFIG
  for name, fields in ((RICH if kind == 'rich' else {}) | changes).items():
    section = dataclasses.replace(getattr(config, name), **fields)
    config = dataclasses.replace(config, **{name: section})
  network = Tiger(config.model, ids.level_sizes)
  params = TigerTask(network, jnp.asarray(ids.codes)).init(jax.random.key(seed))
  mesh = sharding.make_mesh(jax.devices()[:1])
  session = Session(config, Inputs(make_dataset(), ids), mesh)
  return Recommender(session, params)


@pytest.fixture(name='shops', scope='module')
def _shops():
  return {kind: make_shop(kind) for kind in LEVEL_SIZES}


@pytest.fixture(name='folders', scope='module')
def _folders(shops, tmp_path_factory):
  """The exports of the models. Tests may change only a copy."""
  folder = tmp_path_factory.mktemp('exports')
  plain, rich = folder / 'plain', folder / 'rich'
  export_programs(
    shops['plain'], plain, platforms=['cpu'], batch_sizes=[2, 1],
    ks=[20],
  )  # fmt: skip
  export_programs(shops['rich'], rich, batch_sizes=[1], ks=[3])
  return {'plain': plain, 'rich': rich}


@pytest.fixture(name='copy')
def _copy(folders, tmp_path):
  """A copy of the export of the plain model."""
  return shutil.copytree(folders['plain'], tmp_path / 'copy')


def manifest_of(folder):
  return json.loads((folder / 'export.json').read_text())


def leaves_of(folder):
  arrays = safetensors.numpy.load_file(folder / 'arrays.safetensors')
  return [arrays[x['name']] for x in manifest_of(folder)['arguments']]


def loaded(folder, program):
  data = (folder / program['file']).read_bytes()
  return export.deserialize(bytearray(data))


def answers(shop, histories, k):
  """Returns rows, scores and the number of proven items of each history."""
  ids = shop.dataset.items.ids
  lists = [shop.recommend([ids[x] for x in h], k) for h in histories]
  return [
    (
      [ids.index(x.item_id) for x in items],
      [x.score for x in items],
      sum(x.proven for x in items),
    )
    for items in lists
  ]


def assert_equal(result, expected):
  """Compares the result of a program with `answers`."""
  items, scores, num_proven = map(np.asarray, result)
  for place, (rows, values, proven) in enumerate(expected):
    n = len(rows)
    assert items[place].tolist() == rows + [-1] * (items.shape[1] - n)
    np.testing.assert_allclose(scores[place, :n], values, rtol=2e-6)
    assert (scores[place, n:] == -np.inf).all()
    assert num_proven[place] == proven


@pytest.mark.parametrize('kind', LEVEL_SIZES)
def test_programs_equal_the_recommender(kind, shops, folders):
  manifest, leaves = manifest_of(folders[kind]), leaves_of(folders[kind])
  programs = [x for x in manifest['programs'] if x['platform'] == 'cpu']
  for program in programs:
    size, length, k = (program[x] for x in ('batch', 'history', 'k'))
    search = jax.jit(loaded(folders[kind], program).call)
    for start in range(0, len(HISTORIES), size):
      histories = [x[-length:] for x in HISTORIES[start : start + size]]
      rows = request_batch(histories, [length], [size]).history
      expected = answers(shops[kind], histories, k)
      assert_equal(search(rows, *leaves), expected)
    assert expected != answers(shops[kind], HISTORIES[:1], k)
  assert len(programs) == (4 if kind == 'plain' else 1)


@pytest.mark.parametrize('kind', LEVEL_SIZES)
def test_the_script_needs_neither_tiger_jax_nor_flax(
  kind, shops, folders, tmp_path
):
  for name in ('tiger_jax', 'flax'):
    (tmp_path / f'{name}.py').write_text(f'raise ImportError({name!r})')
  history, env = HISTORIES[-1], {'PYTHONPATH': str(tmp_path)}
  argument = ','.join(map(str, history))
  done = typed.python(SCRIPT, folders[kind], argument, cwd=tmp_path, env=env)
  assert (done.code, done.err) == (0, '')
  printed = [line.split() for line in done.out.splitlines()]
  k = 20 if kind == 'plain' else 3
  [(rows, scores, _)] = answers(shops[kind], [history], k)
  assert [int(row) for row, _ in printed] == rows
  assert len(rows) == min(k, NUM_ITEMS)
  printed_scores = [float(score) for _, score in printed]
  np.testing.assert_allclose(printed_scores, scores, rtol=2e-6)
  # The poisoned modules would have been found.
  refused = typed.python('-c', 'import tiger_jax', cwd=tmp_path, env=env)
  assert 'ImportError' in refused.err


def test_the_script_is_short_and_imports_little():
  text = SCRIPT.read_text()
  assert len(text.splitlines()) <= 40
  names = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names |= {x.name for x in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module.partition('.')[0])
  others = names - set(sys.stdlib_module_names)
  assert others == {'jax', 'jaxlib', 'numpy', 'safetensors'}


def run_script(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['run_export.py', *map(str, arguments)])
  return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize('name', ['arrays.safetensors', 'program'])
def test_the_script_refuses_damage(name, copy, monkeypatch):
  if name == 'program':
    name = 'programs/cpu-b1-t2-k20.bin'
  data = bytearray((copy / name).read_bytes())
  data[len(data) // 2] ^= 1
  (copy / name).write_bytes(data)
  with pytest.raises(SystemExit, match=f'error: .*{name} is damaged: copy'):
    run_script(monkeypatch, copy, '3,0')


@pytest.mark.parametrize('history', [f'3,{NUM_ITEMS}', '-1'])
def test_the_script_refuses_unknown_rows(history, folders, monkeypatch):
  with pytest.raises(SystemExit, match='error: a row is not in the catalog'):
    run_script(monkeypatch, folders['plain'], history)


@pytest.mark.parametrize(
  ('changes', 'is_late'),
  [
    ({}, False),
    ({'guaranteed_until': '2026-01-01'}, False),
    ({'guaranteed_until': '2026-01-01', 'jaxlib': '0.10.1'}, True),
    ({'guaranteed_until': '2999-01-01', 'jaxlib': '0.10.1'}, False),
  ],
)
def test_the_script_warns_about_old_programs(
  changes, is_late, copy, monkeypatch, capsys
):
  text = json.dumps(manifest_of(copy) | changes)
  (copy / 'export.json').write_text(text)
  with pytest.raises(SystemExit):  # After the check of the date.
    run_script(monkeypatch, copy, '-1')
  expected = 'warning: use jaxlib 0.10.1\n' if is_late else ''
  assert capsys.readouterr().err == expected


def test_programs_use_only_stable_custom_calls(folders):
  programs = manifest_of(folders['rich'])['programs']
  assert [x['platform'] for x in programs] == ['cpu', 'cuda', 'tpu']
  for program in programs:
    exported = loaded(folders['rich'], program)
    assert exported.platforms == (program['platform'],)
    text = exported.mlir_module()
    assert set(re.findall(r'custom_call @([\w.$]+)', text)) <= STABLE
    assert 'top_k' in text
    assert_full_products(text)


def test_the_manifest_describes_every_file(shops, folders):
  folder = folders['plain']
  manifest = manifest_of(folder)
  written = {
    str(x.relative_to(folder)): hashlib.sha256(x.read_bytes()).hexdigest()
    for x in folder.rglob('*')
    if x.is_file() and x.name != 'export.json'
  }
  assert manifest['sha256'] == written
  assert {x['file'] for x in manifest['programs']} | {
    'arrays.safetensors'
  } == set(written)
  assert [x['file'] for x in manifest['programs']] == [
    f'programs/cpu-b{b}-t{t}-k20.bin' for b in (1, 2) for t in (2, 4)
  ]
  assert manifest['jax'] == jax.__version__
  assert manifest['level_sizes'] == [3, 3, 3]
  for array, argument in zip(
    leaves_of(folder), manifest['arguments'], strict=True
  ):
    assert list(array.shape) == argument['shape']
    assert array.dtype.name == argument['dtype']
  names = [x['name'] for x in manifest['arguments']]
  assert 'catalog/codes' in names and 'params/start' in names
  assert not all(x.size for x in leaves_of(folders['rich']))


@pytest.mark.parametrize(
  ('version', 'expected'),
  [
    ((0, 10, 2), '2026-12-14'),
    ((0, 11, 1), '2026-12-14'),
    ((0, 12, 0), '2026-12-14'),
    ((0, 12, 0, 1), '2027-04-18'),
    ((0, 13, 0), '2027-04-18'),
    ((1, 0), '2027-04-18'),
  ],
)
def test_the_date_is_six_months_after_the_build_of_jaxlib(version, expected):
  assert guaranteed_until(version).isoformat() == expected


def test_the_build_date_of_each_pinned_jaxlib_is_known():
  pins = {
    tuple(map(int, version.split('.')))
    for path in (ROOT / 'constraints').glob('*.txt')
    for version in re.findall(r'^jaxlib==([\d.]+)$', path.read_text(), re.M)
  }
  text = (ROOT / 'tiger_jax/serving/export.py').read_text()
  assert pins and all(f'  {x}: datetime.date(' in text for x in pins)


def test_new_arrays_need_no_new_programs(shops, copy):
  program = manifest_of(copy)['programs'][1]
  before = (copy / program['file']).read_bytes()
  search = jax.jit(loaded(copy, program).call)
  rows = request_batch([HISTORIES[2]], [4], [1]).history
  results = [search(rows, *leaves_of(copy))]
  for changed in (other_weights(shops['plain']), other_catalog(shops['plain'])):
    replace_arrays(changed, copy)
    assert manifest_of(copy)['sha256']['arrays.safetensors'] == (
      hashlib.sha256((copy / 'arrays.safetensors').read_bytes()).hexdigest()
    )
    results.append(search(rows, *leaves_of(copy)))
    assert_equal(results[-1], answers(changed, HISTORIES[2:3], 20))
    assert not np.array_equal(results[-1][1], results[-2][1])
  assert search._cache_size() == 1
  assert (copy / program['file']).read_bytes() == before
  assert 1 not in np.asarray(results[-1][0])


def other_weights(shop):
  return make_shop('plain', seed=1)


def other_catalog(shop):
  changed = make_shop('plain', seed=1)
  catalog = changed._retriever.catalog.remove(np.array([1]))
  changed._retriever = changed._retriever.with_catalog(catalog)
  return changed


def test_other_programs_are_refused(shops, copy):
  before = {x: x.read_bytes() for x in copy.rglob('*') if x.is_file()}
  match = 'are for other settings of the model, or for another layout'
  with pytest.raises(UsageError, match=match):
    replace_arrays(shops['rich'], copy)
  with pytest.raises(UsageError, match=match):
    replace_arrays(make_shop('plain', model={'causal_encoder': True}), copy)
  grown = make_shop('plain')
  catalog = grown._retriever.catalog.grown(np.zeros((0, 3), int), 3000)
  grown._retriever = grown._retriever.with_catalog(catalog)
  with pytest.raises(UsageError, match=match):
    replace_arrays(grown, copy)
  assert before == {x: x.read_bytes() for x in copy.rglob('*') if x.is_file()}


@pytest.mark.parametrize('text', [None, '{', '[]', '{"settings": {}}'])
def test_a_folder_without_a_manifest_is_refused(text, shops, tmp_path):
  if text:
    (tmp_path / 'export.json').write_text(text)
  with pytest.raises(DataError, match='is not an export .*: export the model'):
    replace_arrays(shops['plain'], tmp_path)


def test_an_export_that_fails_leaves_nothing(shops, tmp_path, monkeypatch):
  write_json = files.write_json

  def fail(path, value):
    assert (path.parent / 'arrays.safetensors').exists()
    raise OSError(28, 'No space left on device', str(path))

  monkeypatch.setattr(files, 'write_json', fail)
  arguments = {'platforms': ['cpu'], 'batch_sizes': [1], 'ks': [3]}
  folder = tmp_path / 'new'
  match = r'the export to .*new failed \(No space left on device\)'
  with pytest.raises(DataError, match=match):
    export_programs(shops['plain'], folder, **arguments)
  assert not folder.exists()
  monkeypatch.setattr(files, 'write_json', write_json)
  export_programs(shops['plain'], folder, **arguments)
  with pytest.raises(UsageError, match='new is not empty: choose another'):
    export_programs(shops['plain'], folder, **arguments)
  assert manifest_of(folder)['format'] == 1
  with pytest.raises(UsageError, match='export.json is not a folder'):
    export_programs(shops['plain'], folder / 'export.json', **arguments)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'platforms': ['gpu']}, "platforms contains 'gpu': choose from cpu, cuda"),
    ({'platforms': []}, 'platforms is empty: choose from cpu, cuda, tpu'),
    ({'batch_sizes': [1, 0]}, r'batch_sizes\[1\] is 0: choose at least 1'),
    ({'batch_sizes': []}, 'batch_sizes is empty: pass at least one integer'),
    ({'platforms': 'cpu'}, "platforms is the text 'cpu': pass a list"),
    ({'ks': [10**6]}, 'k is 1000000: ask for 16384 items at most'),
    (
      {'ks': [100, 5000], 'batch_sizes': [32]},
      'a batch of 32 histories with 5000 items each .*: choose .* at most 3$',
    ),
  ],
)
def test_wrong_arguments_are_refused(changes, message, shops, tmp_path):
  with pytest.raises(UsageError, match=message):
    export_programs(shops['plain'], tmp_path / 'new', **changes)
  assert not (tmp_path / 'new').exists()
