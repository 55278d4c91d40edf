"""Tests with the real sentence-transformers and a tiny random model."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tiger_jax.config import EmbeddingConfig
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.embedding.text import item_sentences
from tiger_jax.errors import UsageError

pytestmark = pytest.mark.text

WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] title price brand : ; . rose soap 9'


@pytest.fixture(scope='module')
def library():
  return pytest.importorskip(
    'sentence_transformers',
    reason="needs sentence-transformers: pip install -e '.[text]'",
  )


@pytest.fixture(scope='module')
def model_folder(library, tmp_path_factory) -> pathlib.Path:
  """Returns a folder with a small random BERT, alone and with mean pooling."""
  from sentence_transformers.sentence_transformer import modules
  import torch
  import transformers

  folder = tmp_path_factory.mktemp('model')
  (folder / 'vocab.txt').write_text('\n'.join(WORDS.split()))
  torch.manual_seed(0)
  config = transformers.BertConfig(
    vocab_size=len(WORDS.split()),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
  )
  transformers.BertModel(config).save_pretrained(folder / 'bert')
  transformers.BertTokenizerFast(
    vocab=str(folder / 'vocab.txt')
  ).save_pretrained(folder / 'bert')
  bert = modules.Transformer(str(folder / 'bert'))
  pooling = modules.Pooling(16, pooling_mode='mean')
  library.SentenceTransformer(modules=[bert, pooling], device='cpu').save(
    str(folder / 'whole')
  )
  return folder


@pytest.fixture
def items(make_items):
  return make_items(
    B01={'title': 'Rose soap', 'price': '9.9', 'brand': 'Rose'},
    B02={'title': 'Soap'},
    B03={'title': 'Soap soap soap rose', 'brand': 'Unknown word'},
  )


def test_vectors_equal_those_of_the_library(library, model_folder, items):
  config = EmbeddingConfig(model=str(model_folder / 'whole'))
  vectors = embed_items(config, items)

  model = library.SentenceTransformer(config.model, device='cpu')
  expected = model.encode(item_sentences(items), show_progress_bar=False)
  assert vectors.dtype == np.float32
  np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


def test_vectors_are_means_of_token_vectors(model_folder, items):
  """Each sentence is encoded alone, and the vectors are not normalized."""
  import torch
  import transformers

  folder = model_folder / 'bert'
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  bert = transformers.AutoModel.from_pretrained(folder).eval()
  expected = []
  for sentence in item_sentences(items):
    with torch.no_grad():
      states = bert(**tokenizer(sentence, return_tensors='pt'))
    expected.append(states.last_hidden_state[0].mean(axis=0).numpy())

  config = EmbeddingConfig(model=str(model_folder / 'whole'))
  np.testing.assert_allclose(
    embed_items(config, items), expected, rtol=1e-4, atol=1e-5
  )
  assert not np.allclose(np.linalg.norm(expected, axis=1), 1)


def test_one_progress_bar_with_the_time_left_is_shown(
  model_folder, items, capfd
):
  config = EmbeddingConfig(model=str(model_folder / 'whole'))
  embed_items(config, items)

  shown = capfd.readouterr().err
  assert shown.count('Batches: 100%') == 1 and '<' in shown


@pytest.mark.parametrize('content', [None, '{}', '<html>'])
def test_a_model_that_cannot_be_loaded_is_refused(
  library, tmp_path, items, content
):
  folder = tmp_path / 'model'
  if content is not None:
    folder.mkdir()
    (folder / 'config.json').write_text(content)

  with pytest.raises(UsageError) as caught:
    embed_items(EmbeddingConfig(model=str(folder)), items)
  message = str(caught.value)
  assert '\n' not in message
  for word in (str(folder), 'tfidf-svd', 'precomputed'):
    assert word in message


def test_without_a_network_one_line_is_printed(library, tmp_path):
  """The library reads the hub address on import, so a new process is needed."""
  program = """
from tiger_jax.config import EmbeddingConfig
from tiger_jax.data.dataset import FIELDS, Items
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.errors import UsageError
try:
  embed_items(EmbeddingConfig(), Items(('B01',), {x: ('',) for x in FIELDS}))
except UsageError as error:
  print(error)
"""
  environment = os.environ | {
    'HF_ENDPOINT': 'http://127.0.0.1:9',
    'HF_HOME': str(tmp_path),
  }
  done = subprocess.run(
    [sys.executable, '-c', program],
    env=environment, capture_output=True, text=True, check=True,
  )  # fmt: skip

  assert done.stdout.count('\n') == 1
  assert "'sentence-transformers/sentence-t5-base' cannot" in done.stdout
  assert 'Retry' not in done.stderr


def test_code_in_a_model_folder_is_never_executed(
  model_folder, items, tmp_path
):
  """A model folder that names a class in its own code is refused."""
  folder = tmp_path / 'model'
  shutil.copytree(model_folder / 'whole', folder)
  marker = tmp_path / 'marker'
  (folder / 'own.py').write_text(f'open({str(marker)!r}, "w").close()')
  modules = json.loads((folder / 'modules.json').read_text())
  modules[1]['type'] = 'own.Pooling'
  (folder / 'modules.json').write_text(json.dumps(modules))

  with pytest.raises(UsageError, match='cannot be loaded'):
    embed_items(EmbeddingConfig(model=str(folder)), items)
  assert not marker.exists()
