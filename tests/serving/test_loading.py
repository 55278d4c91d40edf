"""Tests of loading a Recommender from the folder of a run."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import NewItem
from tiger_jax.serving.recommender import Recommender
from tiger_jax.storage.artifacts import run_stage


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(CheckpointError, match='--mode=train first'):
    Recommender.from_workdir(tmp_path)
  assert not list(tmp_path.iterdir())


def test_ids_of_another_catalog_are_refused(config, dataset, ids, params):
  fewer = dataclasses.replace(ids, codes=ids.codes[1:])
  with pytest.raises(UsageError, match='13 Semantic IDs .* 14 items'):
    Recommender(Session.open(config, Inputs(dataset, fewer)), params)


def test_a_model_is_served_from_its_old_stages_after_they_were_replaced(
  trained, tmp_path
):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  expected = Recommender.from_workdir(workdir).recommend(['A001'], 3)
  for name in ('data', 'semantic_ids', 'embedding'):
    run_stage(workdir, name, 64 * 'f', lambda folder: None, metadata={})
  assert not list((workdir / 'data').glob('*.npz'))
  assert Recommender.from_workdir(workdir).recommend(['A001'], 3) == expected
  (replaced,) = workdir.glob('semantic_ids.*')
  shutil.rmtree(replaced)
  with pytest.raises(
    CheckpointError, match='semantic_ids is missing, or is not'
  ):
    Recommender.from_workdir(workdir)


def test_a_stage_record_cannot_name_an_outside_folder(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  record = json.loads((workdir / 'train/stage.json').read_text())
  for fingerprint in ('/../../x', 5, None, 64 * 'F'):
    record['about']['data'] = fingerprint
    (workdir / 'train/stage.json').write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match='data is missing, or is not'):
      Recommender.from_workdir(workdir)


def test_a_run_is_measured_changed_and_bundled(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  shop = Recommender.from_workdir(workdir)
  results = json.loads((workdir / 'results.json').read_text())
  assert shop.evaluate() == pytest.approx(results['metrics']['test'])
  vectors = np.load(workdir / 'embedding/embeddings.npy')
  np.testing.assert_array_equal(shop.snapshot.model.vectors, vectors)
  (item,) = shop.add_items([NewItem('new', 'New', vector=vectors[3])])
  (nearest,) = shop.similar_items('new', 1)
  assert nearest.item_id == shop.dataset.items.ids[3]
  allowed = Options(allow=['new'])
  assert shop.recommend(['A001'], 1, allowed)[0].item_id == 'new'
  # TF-IDF is fitted again. The text of item 5 gives the vector of item 5.
  fields = {x: y[5] for x, y in shop.dataset.items.fields.items()}
  copy = NewItem('copy', fields.pop('title'), fields)
  shop.add_items([copy])
  (nearest,) = shop.similar_items('copy', 1)
  assert nearest.similarity == pytest.approx(1, abs=1e-4)
  (vector,) = shop.snapshot.vectors(np.array([shop.snapshot.row('copy')]))
  np.testing.assert_allclose(vector, vectors[5], atol=1e-4)
  shop.save_bundle(tmp_path / 'bundle')
  card = (tmp_path / 'bundle/README.md').read_text()
  assert f'{results["metrics"]["test"]["recall@10"]:.4f}' in card
  assert str(tmp_path) not in (tmp_path / 'bundle/config.json').read_text()
  shutil.rmtree(workdir)
  bundle = Recommender.from_bundle(tmp_path / 'bundle')
  for history in (['A001', 'new'], [], ['A008']):
    assert bundle.recommend(history, 41) == shop.recommend(history, 41)
  assert bundle.item('new') == item
  assert bundle.similar_items('new') == shop.similar_items('new')
  with pytest.raises(UsageError, match="'tfidf-svd' .* pass the vector"):
    bundle.add_items([dataclasses.replace(copy, id='other')])
  next_item = NewItem('next', 'Next', vector=vectors[3])
  assert bundle.add_items([next_item]) == shop.add_items([next_item])


def test_vectors_of_other_stages_are_not_used(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  path = workdir / 'semantic_ids/stage.json'
  record = json.loads(path.read_text())

  def vectors():
    return Recommender.from_workdir(workdir).snapshot.model.vectors

  expected = np.load(workdir / 'embedding/embeddings.npy')
  # Runs of older versions do not record the embedding stage.
  del record['about']['embedding']
  path.write_text(json.dumps(record))
  np.testing.assert_array_equal(vectors(), expected)
  run_stage(workdir, 'embedding', 64 * 'f', lambda folder: None, metadata={})
  assert vectors() is None
  assert Recommender.from_workdir(workdir).similar_items('A001', 2)
