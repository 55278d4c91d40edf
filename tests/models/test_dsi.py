"""DSI: retrieval as in TIGER, plus indexing of items by their text."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.dsi import Dsi
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.dsi_task import DsiTask
from tiger_jax.recommenders.tiger_task import TigerTask

CONFIG = ModelConfig(
  name='dsi', max_history=3, d_model=16, num_heads=2, head_dim=8, mlp_dim=32,
  num_encoder_layers=1, num_decoder_layers=1, dropout=0.0,
)  # fmt: skip
RNG = np.random.default_rng(0)
CODES = np.stack(np.unravel_index(np.arange(12), (3, 4)), 1).astype(np.int32)
TEXT = RNG.normal(size=(12, 6)).astype(np.float32)
BATCH = Batch(
  np.array([[1, 2, -1], [3, 4, 5]], np.int32),
  np.array([0, 1], np.int32),
  np.array([6, 7], np.int32),
)


def test_retrieval_loss_equals_that_of_tiger():
  task = DsiTask(TigerTask(Dsi(CONFIG, (3, 4)), CODES), TEXT, 4)
  params = task.init(jax.random.key(0))
  tiger = TigerTask(Tiger(CONFIG, (3, 4)), CODES)
  task.tables, tiger.tables = jax.tree.map(
    jnp.asarray, (task.tables, tiger.tables)
  )
  rng = jax.random.key(1)
  loss, metrics, _ = jax.jit(task.loss)(params, task.tables, BATCH, rng)
  tiger_params = {name: params[name] for name in params if name != 'text'}
  tiger_loss = jax.jit(tiger.loss)
  expected, _, _ = tiger_loss(tiger_params, tiger.tables, BATCH, rng)
  assert float(loss) - float(metrics['loss_indexing']) == pytest.approx(
    float(expected), rel=1e-5
  )


def test_dsi_learns_to_index_items_by_their_text():
  task = DsiTask(TigerTask(Dsi(CONFIG, (3, 4)), CODES), TEXT, 16)
  params = task.init(jax.random.key(0))
  tables = jax.tree.map(jnp.asarray, task.tables)
  optimizer = optax.adam(0.01)

  @jax.jit
  def learn(params):
    def step(carry, i):
      params, opt_state = carry
      rng = jax.random.fold_in(jax.random.key(2), i)
      gradient = jax.grad(lambda p: task.loss(p, tables, BATCH, rng)[0])(params)
      updates, opt_state = optimizer.update(gradient, opt_state)
      return (optax.apply_updates(params, updates), opt_state), None

    start = (params, optimizer.init(params))
    return jax.lax.scan(step, start, jnp.arange(200))[0][0]

  @jax.jit
  def index(params, *arrays):
    return task.model.bind({'params': params}).index(*arrays)

  items = np.arange(12, dtype=np.int32)
  logits = index(learn(params), CODES, items, TEXT)
  for level in range(2):
    np.testing.assert_array_equal(logits[level].argmax(1), CODES[:, level])
