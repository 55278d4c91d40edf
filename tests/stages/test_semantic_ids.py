"""Tests of the Semantic ID stage with every quantizer."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.stages.quantizing import build, make_config, make_embeddings
from tiger_jax.config import OptimizerConfig, SemanticIdsConfig
from tiger_jax.config.config_dict import from_json
from tiger_jax.errors import CheckpointError, NumbersError, UsageError
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizers.registry import QUANTIZERS
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.stages import semantic_ids

_PER_LEVEL = {
  'usage', 'perplexity', 'collision_rate', 'unique_prefix_rate',
  'reconstruction_error', 'category_purity',
}  # fmt: skip


@pytest.mark.parametrize('quantizer', ['rq_kmeans', 'lsh'])
def test_unseen_items_get_ids_like_new_items(tmp_path, quantizer):
  """Unseen items change neither the codebooks nor the IDs of other items."""
  embeddings = make_embeddings(60)
  unseen = [3, 17, 59]
  config = make_config(quantizer=quantizer)
  folder = build(tmp_path / 'run', config, embeddings, unseen=unseen)
  ids = SemanticIds.load(folder)
  seen = np.setdiff1d(np.arange(60), unseen)
  alone = SemanticIds.load(build(tmp_path / 'alone', config, embeddings[seen]))
  width = alone.codes.shape[1]
  np.testing.assert_array_equal(ids.codes[seen, :width], alone.codes)
  assert len(np.unique(ids.codes, axis=0)) == 60
  tokenizer = Tokenizer.load(folder)
  new = tokenizer.assign(embeddings[unseen], alone)
  np.testing.assert_array_equal(ids.codes[unseen], new.codes[len(seen) :])


@pytest.mark.whole_runs
@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_every_quantizer_writes_ids_a_tokenizer_and_a_quality_report(
  tmp_path, quantizer
):
  embeddings = make_embeddings(60)
  config = make_config(quantizer=quantizer)
  folder = build(tmp_path / 'run', config, embeddings, draws=True)
  ids = SemanticIds.load(folder)
  assert len(ids.codes) == 60
  assert ids.num_meaning_levels == 2
  assert ids.provenance['quantizer'] == quantizer
  tokenizer = Tokenizer.load(folder)
  again = tokenizer.make_ids(embeddings, ids.provenance)
  np.testing.assert_array_equal(again.codes, ids.codes)
  # The loaded tokenizer can add items.
  extended = tokenizer.assign(make_embeddings(9, seed=1), ids)
  assert len(extended.codes) == 69
  np.testing.assert_array_equal(
    extended.codes[:60, : ids.codes.shape[1]], ids.codes
  )
  measured = json.loads((folder / 'quality.json').read_text())
  for name in _PER_LEVEL:
    assert measured[name] is None or len(measured[name]) == 2, name
  pictures = {path.name for path in folder.glob('*.png')}
  assert pictures == {'categories.png', 'codes.png'}


class _Stopping(MetricsWriter):
  """Interrupts the training after its second call of 63 steps."""

  def write(self, stage, step, values):
    if step >= 126:
      raise KeyboardInterrupt
    super().write(stage, step, values)


# An epoch has 3 steps, and a jitted call runs 21 epochs.
_TRAINED = make_config(quantizer='rq_vae', epochs=63, restart_epochs=62)


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  """The folder of a training that was not interrupted."""
  folder = tmp_path_factory.mktemp('whole')
  return build(folder, _TRAINED, make_embeddings(60))


@pytest.mark.whole_runs
def test_resumed_training_ends_like_uninterrupted_training(whole, tmp_path):
  config, embeddings = _TRAINED, make_embeddings(60)
  folder = tmp_path / 'stopped'
  with pytest.raises(KeyboardInterrupt):
    build(folder, config, embeddings, writer_class=_Stopping)
  saved = {x.name for x in (folder / 'semantic_ids' / 'checkpoints').iterdir()}
  assert saved == {'63'}
  build(folder, config, embeddings)
  for name in ('ledger', 'tokenizer.npz'):
    resumed = (folder / 'semantic_ids' / name).read_bytes()
    assert resumed == (whole / name).read_bytes(), name
  assert len((whole / 'ledger').read_text().splitlines()) == 189
  np.testing.assert_array_equal(
    SemanticIds.load(folder / 'semantic_ids').codes,
    SemanticIds.load(whole).codes,
  )


@pytest.mark.whole_runs
def test_resume_refuses_a_checkpoint_with_different_settings(whole, tmp_path):
  shutil.copytree(whole.parent, tmp_path / 'run')
  changed = dataclasses.replace(_TRAINED.semantic_ids, beta=0.5)
  config = dataclasses.replace(_TRAINED, semantic_ids=changed)
  with pytest.raises(CheckpointError, match='semantic_ids.beta is 0.25, exp'):
    build(tmp_path / 'run', config, make_embeddings(60))


def test_the_quality_of_an_older_version_gets_new_names(tmp_path):
  old = {'items': 9, 'neighbour_agreement_by_chance': [1]}
  (tmp_path / 'quality.json').write_text(json.dumps(old))
  assert semantic_ids.load_quality(tmp_path) == {
    'items': 9, 'neighbor_agreement_by_chance': [1],
  }  # fmt: skip


def test_unique_ids_need_no_extra_code(tmp_path):
  config = make_config(
    quantizer='rq_kmeans', collisions='optimal', codebook_sizes=(4, 4, 4)
  )
  folder = build(tmp_path / 'run', config, make_embeddings(60))
  ids = SemanticIds.load(folder)
  assert ids.level_sizes == (4, 4, 4)
  measured = json.loads((folder / 'quality.json').read_text())
  assert measured['collision_rate'][-1] == 0


@pytest.mark.parametrize('quantizer', ['rq_vae', 'rq_kmeans', 'lsh'])
def test_refuses_vectors_that_are_not_finite(tmp_path, quantizer):
  embeddings = make_embeddings(60)
  embeddings[7, 3] = np.inf
  with pytest.raises(NumbersError, match='item row 7 is not finite'):
    build(tmp_path / 'run', make_config(quantizer=quantizer), embeddings)


@pytest.mark.parametrize('quantizer', ['rq_vae', 'vq_vae', 'rq_kmeans', 'opq'])
def test_refuses_fewer_items_than_codes(tmp_path, quantizer):
  config = make_config(quantizer=quantizer, codebook_sizes=(31, 31))
  with pytest.raises(UsageError, match='than there are items, 30: try '):
    build(tmp_path / 'run', config, make_embeddings(30))


def test_refuses_fewer_ids_than_items_before_fitting(tmp_path):
  config = make_config(collisions='optimal')
  with pytest.raises(UsageError, match='allow 16 IDs for 60 items'):
    build(tmp_path / 'run', config, make_embeddings(60))
  assert not (tmp_path / 'run' / 'semantic_ids').exists()


def test_fingerprint_includes_only_the_fields_that_a_quantizer_uses():
  def made_from(**changes):
    return semantic_ids.made_from(SemanticIdsConfig(**changes), [])

  assert made_from(quantizer='lsh') == made_from(quantizer='lsh', epochs=9)
  assert made_from(codebook_sizes=(256,) * 3) == made_from()
  # The default sizes may change with the version, so they are always included.
  assert made_from() == {'codebook_sizes': (256,) * 3, 'shared_with': []}
  changes = {
    'quantizer': 'vq_vae', 'codebook_sizes': (8,), 'collisions': 'optimal',
    'latent_dim': 5, 'hidden_dims': (6,), 'beta': 0.5, 'batch_size': 7,
    'epochs': 9, 'kmeans_init': 'first_batch', 'restart_epochs': 3,
    'optimizer': OptimizerConfig(),
  }  # fmt: skip
  fields = {x.name for x in dataclasses.fields(SemanticIdsConfig)}
  assert changes.keys() == fields - {'shared_with'}
  for name, value in changes.items():
    assert made_from(**{name: value}) != made_from(), name
    fitted = made_from(**{'quantizer': 'rq_kmeans', name: value})
    is_used = name in ('quantizer', 'codebook_sizes', 'collisions')
    assert (fitted != made_from(quantizer='rq_kmeans')) == is_used, name


@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_duplicates_and_constant_dimensions_are_counted(tmp_path, quantizer):
  embeddings = make_embeddings(60)
  embeddings[:, 2] = 5
  embeddings[10:13] = embeddings[9]
  folder = build(tmp_path / 'run', make_config(quantizer=quantizer), embeddings)
  measured = json.loads((folder / 'quality.json').read_text())
  assert measured['constant_dimensions'] == 1
  assert measured['duplicate_items'] == 4
  codes = SemanticIds.load(folder).codes
  assert len({tuple(row) for row in codes.tolist()}) == 60


@pytest.mark.parametrize(
  ('steps', 'is_refused'), [(12, False), (13, True), (10**9, True)]
)
def test_refuses_a_warmup_longer_than_the_training(steps, is_refused):
  def refuse(**changes):
    ids = {
      'quantizer': 'rq_vae', 'codebook_sizes': [4], 'epochs': 3,
      'batch_size': 8, 'optimizer': {'warmup_steps': steps},
    }  # fmt: skip
    config = from_json({'semantic_ids': ids | changes})
    semantic_ids.refuse_sizes(config.semantic_ids, 39)

  refuse(quantizer='rq_kmeans')
  refuse(optimizer={'warmup_steps': steps, 'recipe': 'adagrad'})
  if not is_refused:
    refuse()
    return
  with pytest.raises(UsageError) as error:
    refuse()
  message = str(error.value)
  assert 'config.semantic_ids.optimizer.warmup_steps' in message
  assert '12 steps' in message and 'config.semantic_ids.epochs' in message
