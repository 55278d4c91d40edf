"""Tests of bundles."""

import dataclasses
import json
import os
import shutil
import sys
import types

import jax
import pytest

from tests.serving import conftest
from tests.serving.shop import VECTORS, make_model, make_shop
from tiger_jax.config import EvaluationConfig, TrainConfig
from tiger_jax.errors import UsageError
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.serving import bundle_config, bundle_files
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import NewItem
from tiger_jax.serving.recommender import Recommender
from tiger_jax.training.step import init_params

NEW = NewItem('n0', 'New ☕', vector=VECTORS[3] + 0.01)
REQUESTS = (
  (['i105', 'i101'], Options()),
  ([], Options()),
  (['i106', 'i103'], Options(exclude_seen=True, deny=['i104'])),
  (['i106'], Options(transition_weight=0.5)),
)


@pytest.fixture(name='saved', scope='module')
def _saved(tmp_path_factory, model):
  """A bundle, and the Recommender that it was saved from."""
  shop = make_shop(model)
  shop.remove_items(['i103', 'i105'])
  shop.add_items([NEW])
  shop.update_titles({'i101': 'Lamp'})
  folder = tmp_path_factory.mktemp('bundle') / 'new' / 'model'
  shop.save_bundle(folder, license='apache-2.0')
  return folder, shop


def assert_same(shop, other):
  assert other.model_version == shop.model_version
  assert other.num_items == shop.num_items
  for history, options in REQUESTS:
    expected = shop.recommend(history, 50, options)
    actual = other.recommend(history, 50, options)
    assert actual == expected
    assert actual.fallback == expected.fallback
  for item in ('n0', 'i101', 'i113'):
    assert other.similar_items(item, 50) == shop.similar_items(item, 50)
  assert other.search_titles('item') == shop.search_titles('item')


def test_a_loaded_bundle_gives_the_same_recommendations(
  saved, tmp_path, monkeypatch
):
  folder, shop = saved
  # The shop uses one device.
  devices = jax.devices()[:1]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  loaded = Recommender.from_bundle(folder)
  assert_same(shop, loaded)
  assert (loaded.catalog_version, loaded.dataset) == (1, None)
  # The next item gets the same Semantic ID.
  new = NewItem('n1', 'Next', vector=VECTORS[3] + 0.02)
  copy = make_shop(shop.snapshot.model)
  copy._snapshot = shop.snapshot
  assert loaded.add_items([new]) == copy.add_items([new])
  # A bundle of a bundle is the same, including the model card.
  loaded.save_bundle(tmp_path / 'again')
  copy.save_bundle(tmp_path / 'first')
  for name in os.listdir(tmp_path / 'again'):
    one, two = (tmp_path / x / name for x in ('again', 'first'))
    assert one.read_bytes() == two.read_bytes(), name


def test_a_bundle_holds_all_members_of_an_ensemble(tmp_path):
  config = dataclasses.replace(
    conftest.CONFIG,
    train=TrainConfig(replicas=2, length_buckets=(2, 4)),
    evaluation=EvaluationConfig(num_beams=10, ensemble=True),
  )
  model = make_model(config)
  members = init_params(model.session.task, [0, 1])
  shop = make_shop(dataclasses.replace(model, params=Ensemble(members)))
  shop.save_bundle(tmp_path / 'bundle')
  history = ['i105', 'i101']
  expected = shop.recommend(history, 14)
  loaded = Recommender.from_bundle(tmp_path / 'bundle')
  assert loaded.recommend(history, 14) == expected
  first = jax.tree.map(lambda x: x[0], members)
  alone = make_shop(dataclasses.replace(model, params=first))
  assert alone.recommend(history, 14) != expected


def test_the_files_are_those_of_a_hub_repository(saved):
  folder, _ = saved
  assert sorted(os.listdir(folder)) == [
    'README.md', 'catalog.safetensors', 'config.json',
    'item_vectors.safetensors', 'items.jsonl', 'manifest.json',
    'model.safetensors', 'tokenizer.safetensors', 'transitions.safetensors',
  ]  # fmt: skip
  card = (folder / 'README.md').read_text()
  assert card.startswith('---\nlibrary_name: tiger_jax\nlicense: apache-2.0\n')
  assert '| recall@10 | 0.2500 |' in card and '3 users, 14 items' in card
  text = b''.join(path.read_bytes() for path in folder.iterdir())
  assert b'"title": "Lamp"' in text
  for secret in (b'ann', b'bob', b'cem'):  # The ids of the users.
    assert b'"' + secret + b'"' not in text


def test_what_needs_histories_is_refused(saved):
  shop = Recommender.from_bundle(saved[0])
  for call in (shop.evaluate, lambda: shop.recommend_users(['ann'])):
    with pytest.raises(
      UsageError, match='a bundle has none: load the run with'
    ):
      call()


def test_a_weight_needs_transitions(saved, tmp_path):
  folder = shutil.copytree(saved[0], tmp_path / 'copy')
  manifest = json.loads((folder / 'manifest.json').read_text())
  del manifest['files']['transitions.safetensors']
  (folder / 'manifest.json').write_text(json.dumps(manifest))
  shop = Recommender.from_bundle(folder)
  assert shop.recommend(['i106'], 3, Options(transition_weight=0))
  with pytest.raises(
    UsageError, match='transition_weight is 0.5, but the model has no'
  ) as error:
    shop.recommend(['i106'], 3, Options(transition_weight=0.5))
  assert '\n' not in str(error.value)


def test_an_existing_folder_is_not_changed(shop, tmp_path):
  (tmp_path / 'note').write_text('mine')
  with pytest.raises(UsageError, match='is not an empty folder'):
    shop.save_bundle(tmp_path)
  (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere')
  with pytest.raises(UsageError, match='is not an empty folder'):
    shop.save_bundle(tmp_path / 'link')
  with pytest.raises(UsageError, match='cannot be written'):
    shop.save_bundle(tmp_path / 'note' / 'x')
  with pytest.raises(
    UsageError, match=r"license is 'a\\nb': pass a short name"
  ):
    shop.save_bundle(tmp_path / 'new', license='a\nb')
  assert sorted(os.listdir(tmp_path)) == ['link', 'note']


def test_an_interrupted_save_leaves_no_bundle(shop, tmp_path, monkeypatch):
  write = bundle_files.files.write

  def fail(path, data):
    if path.name.endswith('model.safetensors'):
      raise OSError(28, 'No space left on device', str(path))
    write(path, data)

  monkeypatch.setattr(bundle_files.files, 'write', fail)
  with pytest.raises(UsageError, match='No space left on device'):
    shop.save_bundle(tmp_path / 'model')
  assert not os.listdir(tmp_path)


def test_paths_of_the_run_are_not_in_a_bundle(tmp_path):
  values = {
    'dataset': {'name': 'files', 'source_dir': '/home/me/shop'},
    'embedding': {
      'encoder': 'sentence-transformers', 'model': '/home/me/model',
      'path': '/home/me/x.npy', 'ids_path': '',
    },
    'semantic_ids': {'shared_with': ('runs/a',)},
  }  # fmt: skip
  assert bundle_config._public({'embedding': {'model': 'models'}}) == {
    'embedding': {'model': ''}
  }
  assert bundle_config._public(values) == {
    'dataset': {'name': 'files', 'source_dir': ''},
    'embedding': {
      'encoder': 'sentence-transformers', 'model': '', 'path': '',
      'ids_path': '',
    },
    'semantic_ids': {'shared_with': ()},
  }  # fmt: skip


def test_a_long_title_is_cut_in_a_bundle(shop, tmp_path):
  shop.update_titles({'i100': 'x' * 1023 + ' yz'})
  shop.save_bundle(tmp_path / 'model')
  loaded = Recommender.from_bundle(tmp_path / 'model')
  assert loaded.item('i100').title == 'x' * 1023 + ' '


def test_a_model_above_the_limits_is_not_saved(shop, tmp_path, monkeypatch):
  monkeypatch.setattr(bundle_config, '_MAX_BEAMS', 9)
  with pytest.raises(UsageError, match='num_beams is 10, but a bundle allows'):
    shop.save_bundle(tmp_path / 'model')
  assert not os.listdir(tmp_path)


def test_only_the_user_chooses_the_text_model(saved, monkeypatch, tmp_path):
  loaded_models = []

  class SentenceTransformer:
    def __init__(self, name, **options):
      loaded_models.append(name)

    def encode(self, texts, **options):
      return VECTORS[: len(texts)]

  fake = types.ModuleType('sentence_transformers')
  monkeypatch.setattr(fake, 'SentenceTransformer', SentenceTransformer, False)
  monkeypatch.setitem(sys.modules, 'sentence_transformers', fake)
  monkeypatch.setattr(
    'tiger_jax.embedding.encoders._hub_answers', lambda *args: False
  )
  new = NewItem('mug', 'Mug')
  name = 'sentence-transformers/sentence-t5-base'  # The model of the run.
  loaded = Recommender.from_bundle(saved[0])
  assert not loaded.snapshot.model.can_encode_text
  with pytest.raises(
    UsageError, match=f"text_model='{name}'.*vector="
  ) as error:
    loaded.add_items([new])
  assert '\n' not in str(error.value) and not loaded_models
  loaded = Recommender.from_bundle(saved[0], text_model='me/copy')
  assert loaded.snapshot.model.can_encode_text
  assert loaded.add_items([new])[0].title == 'Mug'
  assert loaded_models == ['me/copy']
  # A bundle of this bundle still names the model of the run.
  loaded.save_bundle(tmp_path / 'again')
  assert f'"model": "{name}"' in (tmp_path / 'again/config.json').read_text()


def test_a_bundle_is_loaded_from_the_cache_of_the_hub(
  saved, monkeypatch, tmp_path
):
  """The cache holds links to the files."""
  cache, calls = tmp_path / 'cache', []
  cache.mkdir()
  for path in saved[0].iterdir():
    (cache / path.name).symlink_to(path)

  def snapshot_download(repo, *, revision, allow_patterns):
    calls.append((repo, revision, sorted(allow_patterns)))
    if repo == 'me/broken':
      raise RuntimeError('404\nNot found')
    return str(cache)

  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(UsageError, match='from_hub needs huggingface_hub: pip'):
    Recommender.from_hub('me/shop')
  fake = types.ModuleType('huggingface_hub')
  monkeypatch.setattr(fake, 'snapshot_download', snapshot_download, False)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
  loaded = Recommender.from_hub('me/shop', 'v1', text_model='me/copy')
  assert loaded.model_version == saved[1].model_version
  assert loaded.snapshot.model.text_model == 'me/copy'
  assert calls == [('me/shop', 'v1', sorted(os.listdir(saved[0])))]
  with pytest.raises(UsageError, match=r"'me/broken' failed \(404 Not found"):
    Recommender.from_hub('me/broken')


def test_a_bundle_is_uploaded_in_one_commit(shop, monkeypatch, tmp_path):
  calls = []

  class HfApi:
    def create_repo(self, repo, **options):
      calls.append((repo, options))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
      if repo_id == 'me/broken':
        raise RuntimeError('401\nUnauthorized')
      shutil.copytree(folder_path, tmp_path / 'uploaded')

  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(UsageError, match='needs huggingface_hub: pip install'):
    shop.push_to_hub('me/shop')
  fake = types.ModuleType('huggingface_hub')
  monkeypatch.setattr(fake, 'HfApi', HfApi, raising=False)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
  assert shop.push_to_hub('me/shop') == 'https://huggingface.co/me/shop'
  assert calls == [('me/shop', {'private': True, 'exist_ok': True})]
  loaded = Recommender.from_bundle(tmp_path / 'uploaded')
  assert loaded.model_version == shop.model_version
  with pytest.raises(UsageError, match=r"'me/broken' failed \(401 Unauth"):
    shop.push_to_hub('me/broken', private=False)
