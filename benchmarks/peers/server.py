"""Serves the TIGER of another library with FastAPI, to compare it with ours.

  python -m benchmarks.peers.server {hf_t5,cornac} WORKDIR

`hf_t5` is Hugging Face's T5 with the catalog in `prefix_allowed_tokens_fn`, and
`cornac` is the TIGER of Cornac. The model has the sizes and the number of beams
of the run, random weights, and none of the settings that are not in T5. As in a
typical FastAPI server, each request calls the model in a thread.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
import threading
from typing import Annotated, Any

import fastapi
import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import uvicorn

from tiger_jax.config import Config, ModelConfig
from tiger_jax.config.recorded import config_of
from tiger_jax.data.dataset import Dataset
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.storage.artifacts import input_folder, read_artifact

# Maps the rows of a history and k to the rows and the scores of k items.
Recommend = Callable[
  [Sequence[int], int], tuple[Sequence[int], Sequence[float]]
]


class Body(pydantic.BaseModel):
  """A request."""

  history: Annotated[list[str], pydantic.Field(max_length=1000)]
  k: int = 10


def plain(config: ModelConfig) -> ModelConfig:
  """Returns the settings of a T5 of the same size."""
  sizes = (
    'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim',
    'num_encoder_layers', 'num_decoder_layers', 'dropout',
  )  # fmt: skip
  return ModelConfig(**{x: getattr(config, x) for x in sizes})


def hf_t5(config: Config, ids: SemanticIds) -> Recommend:
  """Returns Hugging Face's T5 with the catalog of a run."""
  from benchmarks.peers.hf_t5 import HfTiger

  model = Tiger(plain(config.model), ids.level_sizes)
  none = np.full(1, -1, np.int32)
  example = Batch(np.zeros((1, config.model.max_history), np.int32), none, none)
  codes = jnp.asarray(ids.codes)
  params = jax.jit(model.init)(jax.random.key(0), codes, example)['params']
  peer = HfTiger(model, params, ids.codes, ids.level_sizes)

  def recommend(rows, k):
    batch = Batch(np.array([rows], np.int32), none, none)
    items, scores = peer.recommend(batch, config.evaluation.num_beams, k)
    return items[0], scores[0]

  return recommend


def cornac(config: Config, ids: SemanticIds) -> Recommend:
  """Returns Cornac's TIGER for a catalog with the same number of items.

  The IDs are computed from random vectors.
  """
  from cornac.data import FeatureModality, SequentialDataset
  from cornac.models import TIGER

  names = [str(row) for row in range(len(ids.codes))]
  events = [('user', 'session', name, row) for row, name in enumerate(names)]
  data = SequentialDataset.build(events, fmt='USIT')
  vectors = np.random.default_rng(0).normal(size=(len(names), 64))
  data.item_feature = FeatureModality(features=vectors, ids=names)
  data.item_feature.build(id_map=data.iid_map)
  sizes = config.model
  model = TIGER(
    tokenizer='rkmeans',
    rqvae_num_levels=ids.num_meaning_levels,
    rqvae_codebook_size=ids.level_sizes[0],
    d_model=sizes.d_model,
    d_ff=sizes.mlp_dim,
    num_heads=sizes.num_heads,
    d_kv=sizes.head_dim,
    num_enc_layers=sizes.num_encoder_layers,
    num_dec_layers=sizes.num_decoder_layers,
    max_len=sizes.max_history,
    n_beams=config.evaluation.num_beams,
    n_epochs=0,
    device='cpu',
  )
  model.fit(data)

  def recommend(rows, k):
    items, scores = model.rank(0, history_items=rows, k=k)
    return items[:k], scores[items[:k]]

  return recommend


PEERS = {'hf_t5': hf_t5, 'cornac': cornac}


def make_app(peer: str, workdir: Path) -> fastapi.FastAPI:
  """Returns the app of a peer with the catalog of a finished run."""
  trained = read_artifact(workdir, 'train')
  assert trained is not None
  config = config_of(trained)
  data = Dataset.load(input_folder(trained, 'data'))
  ids = SemanticIds.load(input_folder(trained, 'semantic_ids'))
  recommend_rows = PEERS[peer](config, ids)
  # Concurrent searches share the cores and are slower in total.
  lock = threading.Lock()
  app = fastapi.FastAPI()

  @app.post('/v1/recommend')
  def recommend(body: Body) -> dict[str, Any]:
    history = body.history[-config.model.max_history :]
    with lock:
      items, scores = recommend_rows(
        [data.items.rows[x] for x in history], body.k
      )
    return {
      'items': [
        {
          'item_id': data.items.ids[row],
          'title': data.items.title(row),
          'score': float(score),
          'semantic_id': ids.codes[row].tolist(),
        }
        for row, score in zip(items, scores, strict=True)
        if row >= 0
      ]
    }

  return app


def main() -> None:
  """Serves on a free port, and prints its address."""
  parser = argparse.ArgumentParser()
  parser.add_argument('peer', choices=PEERS)
  parser.add_argument('workdir', type=Path)
  options = parser.parse_args()
  config = uvicorn.Config(
    make_app(options.peer, options.workdir), port=0, log_level='error'
  )
  socket = config.bind_socket()
  port = socket.getsockname()[1]
  print(f'serving at http://127.0.0.1:{port}', flush=True)
  uvicorn.Server(config).run([socket])


if __name__ == '__main__':
  main()
