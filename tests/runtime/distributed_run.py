"""Trains a small TIGER with one or several processes.

  python tests/runtime/distributed_run.py FOLDER NUM_PROCESSES

The main process writes the losses, the parameters and recommendations. If the
environment variable DIE_AT is set, the last process kills itself at this step.
If STOP_AT is set, the last process sends itself SIGTERM at this step.
"""

import json
import os
from pathlib import Path
import signal
import sys

import jax
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig, OptimizerConfig
from tiger_jax.data import batches
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.errors import Preempted
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import processes, sharding
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training import loop
from tiger_jax.training.look_up import LookUp

STEPS = 12
LEVEL_SIZES = (8, 8, 16)
MODEL = ModelConfig(
  max_history=5,
  d_model=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
  causal_encoder=True,
)


def main(folder, num_processes):
  """Trains, and writes the results."""
  if num_processes > 1:
    processes.join()
  process = jax.process_index()
  dataset = synthetic.make(60, seed=0)
  rng = np.random.default_rng(0)
  rows = rng.permutation(np.prod(LEVEL_SIZES))[: dataset.num_items]
  codes = np.stack(np.unravel_index(rows, LEVEL_SIZES), 1).astype(np.int32)
  mesh = sharding.make_mesh(fsdp=2)
  model = Tiger(MODEL, LEVEL_SIZES)
  source = batches.TrainBatches(
    dataset, split(dataset, 'train'), 16, (2, 5), seed=0, steps_per_call=2
  )
  events = {
    int(os.environ.get('DIE_AT', -1)): signal.SIGKILL,
    int(os.environ.get('STOP_AT', -1)): signal.SIGTERM,
  }

  def fetch(start, stop):
    for i, stack in enumerate(batches.prefetch(source, start, stop)):
      if process == num_processes - 1 and (step := start + 2 * i) in events:
        os.kill(os.getpid(), events[step])
      yield stack

  params = loop.train(
    LookUp(TigerTask(model, codes), source.events),
    fetch,
    loop.Schedule(STEPS, log_every=2, save_every=4),
    # Adam would amplify rounding errors of gradients near zero.
    OptimizerConfig('adagrad', 0.1),
    seeds=[3],
    mesh=mesh,
    folder=folder,
    writer=MetricsWriter(folder),
    label='train',
    identity={'of': 'a test'},
  )
  catalog = Catalog.from_codes(codes, LEVEL_SIZES)
  retriever = TigerRetriever(model, sharding.replicate(mesh, catalog), 10)
  examples = split(dataset, 'test').at(np.arange(16))
  batch = next(batches.evaluation_batches(dataset, examples, 16, (5,)))
  recommended = sharding.fetch(
    retriever.recommend(params, sharding.shard_batch(mesh, batch), 5)
  )
  leaves = sharding.fetch(jax.tree.leaves(params))
  if processes.is_main():
    np.savez(folder / 'params.npz', *leaves)
    (folder / 'items.json').write_text(json.dumps(recommended.items.tolist()))


if __name__ == '__main__':
  try:
    main(Path(sys.argv[1]), int(sys.argv[2]))
  except Preempted as error:
    sys.exit(error.exit_code)
