"""Tests the loss, the gradients and the training of the RQ-VAE and VQ-VAE."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.semantic_ids.autoencoders import (
  CONFIG,
  embeddings,
  make_after_update,
  make_task,
)
from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizers import autoencoder_task, residual
from tiger_jax.semantic_ids.quantizers.vq_vae import VqVae


def _codes(model, x):
  return np.asarray(jax.jit(lambda model, x: model.codes(x))(model, x))


@pytest.fixture(name='train', scope='module')
def _train(task):
  batches = ItemBatches(embeddings(), CONFIG.batch_size, seed=0)
  num_steps = CONFIG.epochs * batches.steps_per_epoch
  schedule = optax.cosine_decay_schedule(3e-3, num_steps)
  optimizer = optax.adamw(schedule, weight_decay=0.01)

  @jax.jit
  def update(params, tables, state, batch, step):
    rng = jax.random.fold_in(jax.random.key(0), step)

    def objective(params):
      loss, _, seen = task.loss(params, tables, batch, rng)
      return loss, seen

    (loss, seen), gradients = jax.value_and_grad(objective, has_aux=True)(
      params
    )
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    params = task.after_update(params, tables, seen, step, rng)
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
  """The gradients of the terms of the loss, on the first 20 items."""
  terms = jax.jit(
    jax.jacrev(
      lambda params: autoencoder_task.losses(
        params.model, jnp.asarray(embeddings()[:20])
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


def test_decoder_has_the_widths_of_the_encoder_in_reverse_order(params):
  widths = {
    name: [layer['kernel'].shape for _, layer in sorted(layers.items())]
    for name, layers in params.model.autoencoder._asdict().items()
    if name in ('encoder', 'decoder')
  }
  assert widths == {
    'encoder': [(10, 16), (16, 12), (12, 4)],
    'decoder': [(4, 12), (12, 16), (16, 10)],
  }


def test_loss_equals_numpy(task, params):
  x = embeddings()[:20]
  loss, metrics, _ = jax.jit(task.loss)(
    params, task.tables, x, jax.random.key(0)
  )
  network = params.model.autoencoder
  standardized = (x - embeddings().mean(axis=0)) / embeddings().std(axis=0)
  z = _numpy_mlp(network.encoder, standardized)
  residuals, error, usage = z, 0.0, []
  for codebook in map(np.asarray, params.model.codebooks):
    distances = ((residuals[:, None] - codebook[None]) ** 2).sum(axis=-1)
    residuals = residuals - codebook[distances.argmin(axis=1)]
    error += (residuals**2).sum() / len(x)
    usage.append(len(np.unique(distances.argmin(axis=1))) / len(codebook))
  x_hat = _numpy_mlp(network.decoder, z - residuals)
  reconstruction = ((standardized - x_hat) ** 2).sum() / len(x)
  np.testing.assert_allclose(
    metrics['reconstruction'], reconstruction, rtol=1e-4
  )
  np.testing.assert_allclose(metrics['quantization'], error, rtol=1e-4)
  np.testing.assert_allclose(metrics['batch_usage'], min(usage), rtol=1e-6)
  np.testing.assert_allclose(loss, reconstruction + 1.25 * error, rtol=1e-4)


@pytest.mark.parametrize(
  ('term', 'moved'),
  [
    ('reconstruction', {'encoder', 'decoder'}),
    ('codebook', {'codebooks'}),
    ('commitment', {'encoder'}),
  ],
)
def test_each_loss_term_moves_only_its_own_parameters(gradients, term, moved):
  model = gradients[term].model
  parts = {**model.autoencoder._asdict(), 'codebooks': model.codebooks}
  assert moved == {
    name
    for name, part in parts.items()
    if any(np.asarray(leaf).any() for leaf in jax.tree.leaves(part))
  }


def test_beta_is_the_weight_of_the_commitment_term(task, params, gradients):
  """The codebook and commitment terms differ only in their gradients."""
  gradient = jax.jit(jax.grad(lambda *args: task.loss(*args)[0]))
  args = (task.tables, embeddings()[:20], jax.random.key(0))
  total = gradient(params, *args).model
  # Each code moves toward the vectors assigned to it, with weight 1.
  z = params.model.autoencoder.encode(jnp.asarray(embeddings()[:20]))
  quantized = params.model.quantize(z)
  for level, codebook in enumerate(params.model.codebooks):
    pull = np.zeros(codebook.shape, np.float32)
    for code, vector in zip(
      quantized.codes[:, level], quantized.residuals[:, level], strict=True
    ):
      pull[code] += 2 * (codebook[code] - vector) / 20
    np.testing.assert_allclose(
      total.codebooks[level], pull, rtol=1e-3, atol=1e-5
    )
  # The gradient of the encoder is the gradient of the reconstruction term plus
  # 0.25 times the gradient of the commitment term.
  jax.tree.map(
    lambda a, b, c: np.testing.assert_allclose(
      a, b + 0.25 * c, rtol=1e-3, atol=1e-4
    ),
    total.autoencoder.encoder,
    gradients['reconstruction'].model.autoencoder.encoder,
    gradients['commitment'].model.autoencoder.encoder,
  )


def test_encoder_gets_the_gradient_of_the_quantized_vector(params, gradients):
  x = jnp.asarray(embeddings()[:20])
  network = params.model.autoencoder

  def encode(encoder):
    return network._replace(encoder=encoder).encode(x)

  quantized = params.model.quantize(encode(network.encoder)).quantized

  def error(z):
    x_hat = network.decode(z)
    return jnp.sum((network.standardize(x) - x_hat) ** 2) / len(x)

  # The encoder's output gets the gradient of the quantized vector.
  _, encode_vjp = jax.vjp(encode, network.encoder)
  expected = encode_vjp(jax.grad(error)(quantized))[0]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    gradients['reconstruction'].model.autoencoder.encoder,
    expected,
  )


def test_init_uses_every_code(params):
  codes = _codes(params.model, embeddings())
  assert [len(np.unique(level)) for level in codes.T] == [8, 8, 8]


def test_init_can_fit_the_codebooks_to_the_first_batch(task):
  first_batch_task = make_task(kmeans_init='first_batch')
  model = first_batch_task.init(jax.random.key(0)).model
  network = task.init(jax.random.key(0)).model.autoencoder
  jax.tree.map(np.testing.assert_array_equal, model.autoencoder, network)
  batch = ItemBatches(embeddings(), 32, seed=0)[0]
  z = network.encode(jnp.asarray(batch))
  _, rng = jax.random.split(jax.random.key(0))
  codebooks = residual.fit_codebooks(rng, z, (8, 8, 8))
  for codebook, expected in zip(model.codebooks, codebooks, strict=True):
    np.testing.assert_allclose(codebook, expected, rtol=1e-3, atol=1e-4)


def test_weight_decay_changes_neither_the_input_statistics_nor_the_idle_counts(
  task, params
):
  batch = jnp.asarray(embeddings()[:32])
  decayed = jax.tree.map(lambda leaf: leaf * 0.999, params)
  rng = jax.random.key(0)
  after_update = make_after_update(task)
  params_1 = after_update(decayed, task.tables, batch, 0, rng)
  network = params_1.model.autoencoder
  np.testing.assert_array_equal(network.mean, params.model.autoencoder.mean)
  np.testing.assert_array_equal(network.std, params.model.autoencoder.std)
  tables = jax.tree.map(jnp.asarray, task.tables)
  seen = task.loss(params_1, tables, batch, rng)[2]
  decayed = params_1._replace(idle=tuple(x * 0.5 for x in params_1.idle))
  params_2 = task.after_update(decayed, tables, seen, jnp.array(1), rng)
  assert set(np.unique(np.stack(params_2.idle)).tolist()) <= {0.0, 2.0}


def test_training_uses_every_code_and_lowers_the_loss(train):
  params, history = train()
  assert np.mean(history[-10:]) < 0.6 * np.mean(history[:10])
  codes = _codes(params.model, embeddings())
  assert [len(np.unique(level)) for level in codes.T] == [8, 8, 8]


def test_training_is_deterministic(train):
  first, second = train(num_steps=12), train(num_steps=12)
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_loss_of_rows_equals_loss_of_embeddings(task, params):
  rows = jnp.arange(5, 25)
  loss = jax.jit(task.loss)
  actual = loss(params, task.tables, rows, jax.random.key(0))
  expected = loss(params, task.tables, embeddings()[5:25], jax.random.key(0))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected
  )


def test_parameters_are_float32_for_float16_embeddings():
  task = make_task(x=embeddings().astype(np.float16))
  assert all(
    leaf.dtype == jnp.float32
    for leaf in jax.tree.leaves(task.init(jax.random.key(0)))
  )


def test_refuses_fewer_items_than_codes():
  task = make_task(x=embeddings(num_items=7))
  with pytest.raises(UsageError, match='8 codes from 7 items'):
    task.init(jax.random.key(0))


def test_codebooks_can_have_different_sizes():
  params = make_task(codebook_sizes=(2, 4, 8)).init(jax.random.key(0))
  assert params.model.level_sizes == (2, 4, 8)
  assert [len(idle) for idle in params.idle] == [2, 4, 8]
  codes = _codes(params.model, embeddings())
  assert [len(np.unique(level)) for level in codes.T] == [2, 4, 8]


def test_vq_vae_loss_equals_numpy():
  task = make_task(VqVae)
  params = task.init(jax.random.key(0))
  x = embeddings()[:20]
  loss, metrics, _ = jax.jit(task.loss)(
    params, task.tables, x, jax.random.key(0)
  )
  network = params.model.autoencoder
  (codebook,) = map(np.asarray, params.model.codebooks)
  assert codebook.shape == (8, 4)
  standardized = (x - embeddings().mean(axis=0)) / embeddings().std(axis=0)
  parts = _numpy_mlp(network.encoder, standardized).reshape(20, 3, 4)
  distances = ((parts[:, :, None] - codebook[None, None]) ** 2).sum(axis=-1)
  codes = distances.argmin(axis=-1)
  x_hat = _numpy_mlp(network.decoder, codebook[codes].reshape(20, 12))
  error = distances.min(axis=-1).sum() / 20
  reconstruction = ((standardized - x_hat) ** 2).sum() / 20
  np.testing.assert_allclose(loss, reconstruction + 1.25 * error, rtol=1e-4)
  usage = len(np.unique(codes)) / 8
  np.testing.assert_allclose(metrics['batch_usage'], usage, rtol=1e-6)
