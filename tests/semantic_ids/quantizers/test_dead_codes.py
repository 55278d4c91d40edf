"""Tests the restart of codes that no item chooses."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.semantic_ids.autoencoders import (
  embeddings,
  make_after_update,
  make_task,
)
from tiger_jax.semantic_ids.quantizers.autoencoder_task import Seen
from tiger_jax.semantic_ids.quantizers.vq_vae import VqVae


def test_restart_revives_dead_codes(task, params):
  batch = jnp.asarray(embeddings()[:32])
  far = params.model.codebooks[1].at[3:].set(1e3)
  dead = _with_codebook(params, 1, far)
  rng = jax.random.key(0)
  after_update = make_after_update(task)
  for step in range(3):
    alive = after_update(dead, task.tables, batch, step, rng)
    if step < 2:  # The epoch has three steps.
      np.testing.assert_array_equal(alive.model.codebooks[1], far)
      dead = alive
  np.testing.assert_array_equal(alive.idle[1][3:], 0)
  # The restarted codes are distinct residuals of items at their level.
  z = dead.model.autoencoder.encode(batch)
  residuals = dead.model.quantize(z).residuals[:, 1]
  revived = alive.model.codebooks[1][3:]
  gaps = np.abs(np.asarray(revived[:, None] - residuals[None]))
  rows = gaps.sum(axis=-1).argmin(axis=1)
  np.testing.assert_allclose(gaps[np.arange(5), rows], 0, atol=1e-6)
  assert len(set(rows.tolist())) == 5
  # The codes in use do not change.
  for level in range(3):
    used = np.asarray((dead.idle[level] + 1 < 3) | (alive.idle[level] > 0))
    np.testing.assert_array_equal(
      alive.model.codebooks[level][used], dead.model.codebooks[level][used]
    )


def test_code_chosen_in_one_batch_per_epoch_is_kept(task, params):
  # An epoch has three batches.
  # Code 0 is chosen in every batch, and codes 1, 2 and 3 in one batch each.
  batches = [[0, 1, 1, 0], [0, 2, 0, 0], [3, 3, 0, 0], *[[0] * 4] * 3]
  after_update = jax.jit(task.after_update)
  for step, codes in enumerate(batches):
    vectors = jnp.full((4, 4), step + 1.0)
    seen = Seen([(jnp.array(codes), vectors)] * 3, params.idle)
    before = params.model.codebooks
    params = after_update(
      params, task.tables, seen, jnp.array(step), jax.random.key(step)
    )
    for level in range(3):
      changed = (params.model.codebooks[level] != before[level]).any(1)
      # At step 5, code 3 was last chosen at step 2, exactly one epoch ago.
      dead = {2: [4, 5, 6, 7], 5: [*range(1, 8)]}.get(step, [])
      assert np.flatnonzero(changed).tolist() == dead
      expected = jnp.where(changed[:, None], vectors[:1], before[level])
      np.testing.assert_array_equal(params.model.codebooks[level], expected)


def test_restarts_end_after_the_configured_epochs(task, params):
  batch = jnp.asarray(embeddings()[:32])
  dead = params._replace(idle=tuple(idle + 100 for idle in params.idle))
  after_update = make_after_update(task)
  after = after_update(dead, task.tables, batch, 40 * 3 + 2, jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, after, dead)


def test_vq_vae_restarts_dead_codes():
  task = make_task(VqVae)
  params = task.init(jax.random.key(0))
  dead = _with_codebook(params, 0, params.model.codebooks[0].at[3:].set(1e3))
  batch = jnp.asarray(embeddings()[:32])
  alive = dead
  after_update = make_after_update(task)
  for step in range(3):
    alive = after_update(alive, task.tables, batch, step, jax.random.key(0))
  parts = dead.model.autoencoder.encode(batch).reshape(-1, 4)
  revived = alive.model.codebooks[0][3:]
  gaps = jnp.abs(revived[:, None] - parts[None]).sum(axis=-1)
  np.testing.assert_allclose(gaps.min(axis=1), 0, atol=1e-5)


def _with_codebook(params, level, codebook):
  codebooks = list(params.model.codebooks)
  codebooks[level] = codebook
  return params._replace(
    model=params.model._replace(codebooks=tuple(codebooks))
  )
