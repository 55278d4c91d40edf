"""The RQ-VAE: its loss, its gradients, its restarts, its training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.errors import DataError, UsageError
from tiger_jax.semantic_ids import item_batches, residual, rq_vae, rq_vae_model
from tiger_jax.semantic_ids.item_batches import ItemBatches

_CONFIG = SemanticIdsConfig(
  num_levels=3,
  codebook_size=8,
  latent_dim=4,
  hidden_dims=(16, 12),
  batch_size=32,
  epochs=60,
  restart_epochs=40,
)


def _embeddings(num_items=96, dim=10):
  rng = np.random.default_rng(0)
  centers = rng.normal(size=(8, dim))
  x = centers[rng.integers(8, size=num_items)]
  return (x + 0.3 * rng.normal(size=(num_items, dim)) + 5).astype(np.float32)


@pytest.fixture(name='task', scope='module')
def _task():
  return rq_vae.RqVaeTask(_CONFIG, _embeddings())


@pytest.fixture(name='params', scope='module')
def _params(task):
  return task.init(jax.random.key(0))


@pytest.fixture(name='train', scope='module')
def _train(task):
  batches = ItemBatches(_embeddings(), _CONFIG.batch_size, seed=0)
  num_steps = _CONFIG.epochs * batches.steps_per_epoch
  schedule = optax.cosine_decay_schedule(3e-3, num_steps)
  optimizer = optax.adamw(schedule, weight_decay=0.01)

  @jax.jit
  def update(params, tables, state, batch, step):
    rng = jax.random.fold_in(jax.random.key(0), step)
    (loss, _), gradients = jax.value_and_grad(task.loss, has_aux=True)(
      params, tables, batch, rng
    )
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    params = task.after_update(params, tables, batch, step, rng)
    return params, state, loss

  def train(num_steps=num_steps):
    params = task.init(jax.random.key(0))
    state, history = optimizer.init(params), []
    for step in range(num_steps):
      params, state, loss = update(
        params, task.tables, state, batches[step], step
      )
      history.append(float(loss))
    return params, history

  return train


@pytest.fixture(name='gradients', scope='module')
def _gradients(params):
  """The gradient of every term of the loss, on the first 20 items."""
  terms = jax.jit(
    jax.jacrev(
      lambda params: rq_vae_model.losses(
        params, jnp.asarray(_embeddings()[:20]), _CONFIG
      )[0]
    )
  )
  return terms(params)._asdict()


def _numpy_mlp(variables, x):
  for i in range(len(variables)):
    x = np.maximum(x, 0) if i else x
    layer = variables[f'Dense_{i}']
    x = x @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])[None]
  return x


def test_encoder_and_decoder_mirror_each_other(params):
  widths = {
    name: [layer['kernel'].shape for _, layer in sorted(layers.items())]
    for name, layers in params.network['params'].items()
  }
  assert widths == {
    'encoder': [(10, 16), (16, 12), (12, 4)],
    'decoder': [(4, 12), (12, 16), (16, 10)],
  }


def test_loss_equals_numpy(task, params):
  x = _embeddings()[:20]
  loss, metrics = jax.jit(task.loss)(params, task.tables, x, jax.random.key(0))
  network = params.network['params']
  standardised = (x - _embeddings().mean(axis=0)) / _embeddings().std(axis=0)
  z = _numpy_mlp(network['encoder'], standardised)
  left, error, used = z, 0.0, []
  for codebook in np.asarray(params.codebooks):
    distances = ((left[:, None] - codebook[None]) ** 2).sum(axis=-1)
    left = left - codebook[distances.argmin(axis=1)]
    error += (left**2).sum() / len(x)
    used.append(len(np.unique(distances.argmin(axis=1))) / len(codebook))
  x_hat = _numpy_mlp(network['decoder'], z - left)
  reconstruction = ((standardised - x_hat) ** 2).sum() / len(x)
  np.testing.assert_allclose(
    metrics['reconstruction'], reconstruction, rtol=1e-4
  )
  np.testing.assert_allclose(metrics['quantization'], error, rtol=1e-4)
  np.testing.assert_allclose(metrics['batch_usage'], min(used), rtol=1e-6)
  np.testing.assert_allclose(loss, reconstruction + 1.25 * error, rtol=1e-4)


@pytest.mark.parametrize(
  ('term', 'moved'),
  [
    ('reconstruction', {'encoder', 'decoder'}),
    ('codebook', {'codebooks'}),
    ('commitment', {'encoder'}),
  ],
)
def test_each_term_moves_only_its_own(gradients, term, moved):
  gradient = gradients[term]
  parts = {**gradient.network['params'], **gradient._asdict()}
  del parts['network']
  assert moved == {
    name
    for name, part in parts.items()
    if any(np.asarray(leaf).any() for leaf in jax.tree.leaves(part))
  }


def test_reconstruction_passes_straight_through(params, gradients):
  x = jnp.asarray(_embeddings()[:20])
  model = rq_vae_model.Autoencoder(10, _CONFIG.hidden_dims, _CONFIG.latent_dim)
  standardised = (x - params.mean[None]) / params.std[None]

  def encode(network):
    return model.apply(network, standardised, method=model.encode)

  quantized = residual.quantize(
    encode(params.network), params.codebooks
  ).quantized

  def error(z):
    x_hat = model.apply(params.network, z, method=model.decode)
    return jnp.sum((standardised - x_hat) ** 2) / len(x)

  # What the decoder asks of the codes is asked of the encoder's output.
  _, pull_back = jax.vjp(encode, params.network)
  expected = pull_back(jax.grad(error)(quantized))[0]['params']['encoder']
  found = gradients['reconstruction'].network['params']['encoder']
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    found,
    expected,
  )


def test_init_uses_every_code(params):
  codes = rq_vae.assign(params, _embeddings(), _CONFIG)
  assert [len(np.unique(level)) for level in codes.T] == [8, 8, 8]


def test_restart_revives_dead_codes(task, params):
  batch = jnp.asarray(_embeddings()[:32])
  far = params.codebooks.at[1, 3:].set(1e3)
  dead = params._replace(codebooks=far)
  rng = jax.random.key(0)
  after_update = jax.jit(task.after_update)
  for step in range(3):
    alive = after_update(dead, task.tables, batch, step, rng)
    if step < 2:  # The epoch of three steps is not over.
      np.testing.assert_array_equal(alive.codebooks, far)
      dead = alive
  np.testing.assert_array_equal(alive.idle[1, 3:], 0)
  # Each revived code is an item's residual at its level, no two the same.
  z = rq_vae_model.encode(dead, batch, config=_CONFIG)
  residuals = residual.quantize(z, dead.codebooks).residuals[:, 1]
  gaps = np.abs(np.asarray(alive.codebooks[1, 3:, None] - residuals[None]))
  rows = gaps.sum(axis=-1).argmin(axis=1)
  np.testing.assert_allclose(gaps[np.arange(5), rows], 0, atol=1e-6)
  assert len(set(rows.tolist())) == 5
  # Those in use stay as they are.
  used = np.asarray(dead.idle + 1 < 3) | (alive.idle > 0)
  np.testing.assert_array_equal(alive.codebooks[used], dead.codebooks[used])


def test_no_restart_after_its_epochs(task, params):
  batch = jnp.asarray(_embeddings()[:32])
  dead = params._replace(idle=params.idle + 100)
  after_update = jax.jit(task.after_update)
  after = after_update(dead, task.tables, batch, 40 * 3 + 2, jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, after, dead)


def test_weight_decay_leaves_statistics_and_counts(task, params):
  batch = jnp.asarray(_embeddings()[:32])
  decayed = jax.tree.map(lambda leaf: leaf * 0.999, params)
  rng = jax.random.key(0)
  after_update = jax.jit(task.after_update)
  once = after_update(decayed, task.tables, batch, 0, rng)
  np.testing.assert_array_equal(once.mean, params.mean)
  np.testing.assert_array_equal(once.std, params.std)
  decayed = once._replace(idle=once.idle * 0.999)
  twice = after_update(decayed, task.tables, batch, 1, rng)
  assert set(np.unique(twice.idle).tolist()) <= {0.0, 2.0}


def test_training_uses_every_code_and_lowers_the_loss(train):
  params, history = train()
  assert np.mean(history[-10:]) < 0.6 * np.mean(history[:10])
  codes = rq_vae.assign(params, _embeddings(), _CONFIG)
  assert [len(np.unique(level)) for level in codes.T] == [8, 8, 8]


def test_training_is_deterministic(train):
  one, two = train(num_steps=12), train(num_steps=12)
  jax.tree.map(np.testing.assert_array_equal, one, two)


def test_assign_takes_new_items_and_any_number(params, monkeypatch):
  x = _embeddings()
  whole = rq_vae.assign(params, x, _CONFIG)
  assert whole.dtype == np.int32
  monkeypatch.setattr(item_batches, '_MAP_BATCH', 40)
  np.testing.assert_array_equal(rq_vae.assign(params, x, _CONFIG), whole)
  np.testing.assert_array_equal(
    rq_vae.assign(params, x[7:8], _CONFIG), whole[7:8]
  )
  assert rq_vae.assign(params, x[:0], _CONFIG).shape == (0, 3)


def test_half_precision_embeddings_are_read(params):
  x = _embeddings().astype(np.float16)
  task = rq_vae.RqVaeTask(_CONFIG, x)
  assert all(
    leaf.dtype == jnp.float32
    for leaf in jax.tree.leaves(task.init(jax.random.key(0)))
  )
  assert rq_vae.assign(params, x, _CONFIG).shape == (96, 3)


def test_a_wrong_width_is_one_line(params):
  with pytest.raises(DataError, match='have 9 dimensions, but .* on 10'):
    rq_vae.assign(params, _embeddings(dim=9), _CONFIG)


def test_fewer_items_than_codes_is_one_line():
  task = rq_vae.RqVaeTask(_CONFIG, _embeddings(num_items=7))
  with pytest.raises(UsageError, match='8 codes of 7 items'):
    task.init(jax.random.key(0))
