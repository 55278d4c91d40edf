"""Serves a Hugging Face T5 with FastAPI, for comparison with our server.

  python -m benchmarks.peers.hf_t5_server WORKDIR

The T5 has the sizes of the run's model, but not the settings that are not in
T5. It has random weights, and uses the catalog and the number of beams of the
run. As in a typical FastAPI server, each request calls `generate` in a thread.
"""

from pathlib import Path
import sys
import threading
from typing import Annotated, Any

import fastapi
import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import uvicorn

from benchmarks.peers.hf_t5 import HfTiger
from tiger_jax.config import ModelConfig
from tiger_jax.config.recorded import config_of
from tiger_jax.data.dataset import Dataset
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.storage.artifacts import input_folder, read_artifact


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


def make_app(workdir: Path) -> fastapi.FastAPI:
  """Returns the app of a finished run."""
  trained = read_artifact(workdir, 'train')
  assert trained is not None
  config = config_of(trained)
  data = Dataset.load(input_folder(trained, 'data'))
  ids = SemanticIds.load(input_folder(trained, 'semantic_ids'))
  model = Tiger(plain(config.model), ids.level_sizes)
  max_history = config.model.max_history
  none = np.full(1, -1, np.int32)
  example = Batch(np.zeros((1, max_history), np.int32), none, none)
  codes = jnp.asarray(ids.codes)
  params = jax.jit(model.init)(jax.random.key(0), codes, example)['params']
  peer = HfTiger(model, params, ids.codes, ids.level_sizes)
  num_beams = config.evaluation.num_beams
  # Concurrent calls of `generate` share the cores and are slower in total.
  lock = threading.Lock()
  app = fastapi.FastAPI()

  @app.post('/v1/recommend')
  def recommend(body: Body) -> dict[str, Any]:
    rows = [data.items.rows[x] for x in body.history[-max_history:]]
    batch = Batch(np.array([rows], np.int32), none, none)
    with lock:
      items, scores = peer.recommend(batch, num_beams, body.k)
    return {
      'items': [
        {
          'item_id': data.items.ids[row],
          'title': data.items.title(row),
          'score': float(score),
          'semantic_id': ids.codes[row].tolist(),
        }
        for row, score in zip(items[0], scores[0], strict=True)
        if row >= 0
      ]
    }

  return app


def main() -> None:
  """Serves on a free port, and prints its address."""
  config = uvicorn.Config(
    make_app(Path(sys.argv[1])), port=0, log_level='error'
  )
  socket = config.bind_socket()
  port = socket.getsockname()[1]
  print(f'serving at http://127.0.0.1:{port}', flush=True)
  uvicorn.Server(config).run([socket])


if __name__ == '__main__':
  main()
