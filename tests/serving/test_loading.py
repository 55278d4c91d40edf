"""Tests of loading a Recommender from the folder of a run."""

import dataclasses
import json
import shutil

import pytest

from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
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
