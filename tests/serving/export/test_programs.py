"""Tests of exported programs."""

import dataclasses
import json
import re

import jax
from jax import export
import numpy as np
import pytest

from tests.retrieval.lowered import assert_full_products
from tests.serving.conftest import NUM_ITEMS
from tests.serving.export.conftest import (
  HISTORIES,
  LEVEL_SIZES,
  answers,
  digests,
  leaves_of,
  make_shop,
  manifest_of,
)
from tests.small import ROOT
from tiger_jax.data.batches import request_batch
from tiger_jax.errors import DataError, UsageError
from tiger_jax.serving.export import (
  export_programs,
  guaranteed_until,
  replace_arrays,
)
from tiger_jax.serving.options import Options
from tiger_jax.storage import files

# Custom calls of the search that JAX promises to keep.
STABLE = {'ApproxTopK', 'cu_threefry2x32_ffi', 'hip_threefry2x32_ffi'}


def loaded(folder, program):
  data = (folder / program['file']).read_bytes()
  return export.deserialize(bytearray(data))


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


def test_the_weight_of_the_transitions_is_an_argument(shops, folders):
  program, leaves = manifest_of(folders['rich'])['programs'][0], {}
  for argument, leaf in zip(
    manifest_of(folders['rich'])['arguments'],
    leaves_of(folders['rich']),
    strict=True,
  ):
    leaves[argument['name']] = leaf
  leaves['mixture/weight'] = np.float32(0.9)
  rows = request_batch(HISTORIES[2:3], [4], [1]).history
  search = jax.jit(loaded(folders['rich'], program).call)
  expected = answers(
    shops['rich'], HISTORIES[2:3], 3, Options(transition_weight=0.9)
  )
  assert_equal(search(rows, *leaves.values()), expected)
  assert expected != answers(shops['rich'], HISTORIES[2:3], 3)


def test_transposed_arrays_keep_their_values(copy):
  shop = make_shop('plain')
  before = (copy / 'arrays.safetensors').read_bytes()
  params = jax.tree.map(np.asfortranarray, shop.snapshot.model.params)
  assert not params['heads_0']['kernel'].flags.c_contiguous
  model = dataclasses.replace(shop.snapshot.model, params=params)
  shop._snapshot = dataclasses.replace(shop.snapshot, model=model)
  replace_arrays(shop, copy)
  assert (copy / 'arrays.safetensors').read_bytes() == before


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
  assert manifest['sha256'] == digests(folder)
  assert {
    'arrays.safetensors',
    'items.json',
    *(x['file'] for x in manifest['programs']),
  } == set(manifest['sha256'])
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
  changed = make_shop('plain', seed=1)
  for change in (
    lambda: None,
    lambda: changed.remove_items(['i101']),
    lambda: add_item(changed),
  ):
    change()
    replace_arrays(changed, copy)
    manifest = manifest_of(copy)
    assert manifest['sha256'] == digests(copy)
    assert manifest['model'] == changed.model_version
    assert manifest['catalog'] == changed.catalog_version
    ids = json.loads((copy / 'items.json').read_text())
    assert ids == list(changed.snapshot.ids)
    results.append(search(rows, *leaves_of(copy)))
    assert_equal(results[-1], answers(changed, HISTORIES[2:3], 20))
    assert not np.array_equal(results[-1][1], results[-2][1])
  assert search._cache_size() == 1
  assert (copy / program['file']).read_bytes() == before
  items = np.asarray(results[-1][0])
  assert NUM_ITEMS in items and 1 not in items


def add_item(shop):
  """Adds an item. A recommender without a tokenizer has no `add_items`."""
  old = shop.snapshot
  catalog = old.catalog.add(np.array([[2, 2, 2]]))
  shop._snapshot = dataclasses.replace(
    old,
    catalog_version=old.catalog_version + 1,
    ids=(*old.ids, 'new'),
    titles=(*old.titles, 'New'),
    counts=np.append(old.counts, 0),
    retriever=old.retriever.with_catalog(catalog),
  )


def test_other_programs_are_refused(shops, copy):
  before = {x: x.read_bytes() for x in copy.rglob('*') if x.is_file()}
  match = 'are for other settings of the model, or for another layout'
  with pytest.raises(UsageError, match=match):
    replace_arrays(shops['rich'], copy)
  with pytest.raises(UsageError, match=match):
    replace_arrays(make_shop('plain', model={'causal_encoder': True}), copy)
  grown = make_shop('plain')
  catalog = grown.snapshot.catalog.grown(np.zeros((0, 3), int), 3000)
  retriever = grown.snapshot.retriever.with_catalog(catalog)
  grown._snapshot = dataclasses.replace(grown.snapshot, retriever=retriever)
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
  with pytest.raises(DataError, match=r'failed \(Not a directory\)'):
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
