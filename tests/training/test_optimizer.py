"""Tests of the optimizers against Optax and values computed by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tiger_jax.config import ModelConfig, OptimizerConfig
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.semantic_ids.quantizers import autoencoder
from tiger_jax.semantic_ids.quantizers.autoencoder_task import Params
from tiger_jax.semantic_ids.quantizers.rq_vae import RqVae
from tiger_jax.training.optimizer import learning_rate, make_optimizer

RATE = 0.3
NO_CLIP = 1e9


def updates_of(config, num_steps, gradients, params):
  """Returns the update of every step. The parameters stay constant."""
  optimizer = make_optimizer(config, num_steps)
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  updates = []
  for gradient in gradients:
    change, state = update(jnp.asarray(gradient, jnp.float32), state, params)
    updates.append(np.asarray(change))
  return np.stack(updates)


def rates_of(recipe, num_steps, steps, **changes):
  """Returns the learning rate of some steps.

  With a constant gradient, the update of Adam equals the rate. The update of
  Adafactor also equals the rate if the root mean square of the parameters is 1.
  """
  config = OptimizerConfig(recipe, RATE, clip_norm=NO_CLIP, **changes)
  gradients = np.full((max(steps) + 1, 6), 2.0)
  moves = -updates_of(config, num_steps, gradients, jnp.ones(6))
  assert np.ptp(moves, axis=1).max() < 1e-6
  return moves[list(steps), 0]


@pytest.mark.parametrize(
  ('step', 'expected'),
  [
    (0, 0.0),
    (1, 0.1 * RATE),
    (5, 0.5 * RATE),
    (10, RATE),
    (40, RATE * 0.5 * (1 + math.cos(math.pi / 3))),
    (55, 0.5 * RATE),
    (99, RATE * 0.5 * (1 + math.cos(math.pi * 89 / 90))),
    (100, 0.0),
    (120, 0.0),
  ],
)
def test_adamw_warms_up_and_decays_as_a_cosine(step, expected):
  rate = rates_of('adamw', 100, [step], warmup_steps=10)
  np.testing.assert_allclose(rate, [expected], rtol=1e-4, atol=1e-6)


def test_adamw_without_warmup_starts_at_the_peak_rate():
  rates = rates_of('adamw', 60, [0, 20, 30])
  expected = [RATE, 0.75 * RATE, 0.5 * RATE]
  np.testing.assert_allclose(rates, expected, rtol=1e-4)


def test_adamw_only_warms_up_if_the_warmup_is_longer_than_the_run():
  rates = rates_of('adamw', 5, [0, 2, 4], warmup_steps=8)
  np.testing.assert_allclose(
    rates, [0, 2 / 8 * RATE, 4 / 8 * RATE], rtol=1e-4, atol=1e-7
  )


def test_adamw_weight_decay_scales_with_the_rate():
  config = OptimizerConfig('adamw', RATE, weight_decay=0.1, clip_norm=NO_CLIP)
  params = jnp.asarray([[5.0, -3.0]])
  update = updates_of(config, 10, [[[0.0, 0.0]]], params)
  np.testing.assert_allclose(update, [-RATE * 0.1 * params], rtol=1e-6)


def _shrunk(params):
  """Returns the names of the parameters that weight decay makes smaller."""
  config = OptimizerConfig('adamw', RATE, weight_decay=0.1, clip_norm=NO_CLIP)
  optimizer = make_optimizer(config, 10)

  @jax.jit
  def update(params):
    gradients = jax.tree.map(jnp.zeros_like, params)
    return optimizer.update(gradients, optimizer.init(params), params)[0]

  updates = update(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), params))
  shrunk = set()
  for path, update in jax.tree.leaves_with_path(updates):
    expected = -RATE * 0.1 if np.any(update) else 0
    np.testing.assert_allclose(update, np.full(update.shape, expected))
    if expected:
      shrunk.add(jax.tree_util.keystr(path, simple=True, separator='/'))
  return shrunk


def test_weight_decay_of_tiger_applies_to_kernels_and_embeddings():
  model = Tiger(
    ModelConfig(
      max_history=3, d_model=8, num_heads=2, head_dim=4, mlp_dim=8,
      num_encoder_layers=1, num_decoder_layers=1, num_user_tokens=5,
      recency_bias=True, prefix_embeddings=6,
    ),
    (3, 4),
  )  # fmt: skip
  task = TigerTask(model, np.zeros((6, 2), np.int32))
  params = jax.eval_shape(task.init, jax.random.key(0))
  attention = [f'{x}/kernel' for x in ('query', 'key', 'value', 'out')]
  mlp = ['up/kernel', 'down/kernel']
  # Norms, the start token and the three bias tables do not decay.
  assert _shrunk(params) == {
    'code_embedding/embedding',
    'user_embedding/embedding',
    'prefix_embedding/embedding',
    'heads_0/kernel',
    'heads_1/kernel',
    *(f'encoder/attention_0/{x}' for x in attention),
    *(f'decoder/self_attentions_0/{x}' for x in attention),
    *(f'decoder/cross_attentions_0/{x}' for x in attention),
    *(f'encoder/mlp_0/{x}' for x in mlp),
    *(f'decoder/mlps_0/{x}' for x in mlp),
  }


def test_weight_decay_of_an_rq_vae_applies_to_kernels_and_codebooks():
  def init(rng):
    network = autoencoder.init(rng, (5,), 4, np.zeros(6), np.ones(6))
    return Params(RqVae(network, (jnp.ones((2, 4)), jnp.ones((3, 4)))), ())

  params = jax.eval_shape(init, jax.random.key(0))
  # Biases and the statistics of the embeddings do not decay.
  assert _shrunk(params) == {
    *(f'model/autoencoder/encoder/Dense_{i}/kernel' for i in range(2)),
    *(f'model/autoencoder/decoder/Dense_{i}/kernel' for i in range(2)),
    *(f'model/codebooks/{i}' for i in range(2)),
  }


def test_the_adamw_state_has_the_structure_of_optax():
  """Checkpoints that were saved with `optax.adamw` can be restored."""
  config = OptimizerConfig('adamw', RATE, 3, weight_decay=0.1)
  params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
  plain = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(learning_rate(config, 10), weight_decay=0.1),
  )
  state = make_optimizer(config, 10).init(params)
  assert jax.tree.structure(state) == jax.tree.structure(plain.init(params))


def test_adafactor_rate_is_constant_then_inverse_square_root():
  steps = [0, 1, 15, 16, 17, 64, 100]
  rates = rates_of('adafactor', 50, steps, warmup_steps=16)
  expected = [RATE, RATE, RATE, RATE, RATE * math.sqrt(16 / 17), RATE / 2]
  np.testing.assert_allclose(rates, [*expected, 0.4 * RATE], rtol=1e-4)


def test_adafactor_without_warmup_decays_after_step_one():
  rates = rates_of('adafactor', 50, [0, 1, 4, 9])
  np.testing.assert_allclose(rates, [RATE, RATE, RATE / 2, RATE / 3], rtol=1e-4)


def test_adagrad_accumulates_squared_gradients():
  config = OptimizerConfig('adagrad', RATE, clip_norm=NO_CLIP)
  gradients = np.asarray([[1.0, -2.0], [3.0, 0.0], [0.5, 4.0]])
  # The initial sum of squares in Optax is 0.1.
  sums = 0.1 + np.cumsum(gradients**2, axis=0)
  updates = updates_of(config, 3, gradients, jnp.ones(2))
  np.testing.assert_allclose(
    updates, -RATE * gradients / np.sqrt(sums), rtol=1e-5
  )


def test_large_gradients_are_clipped():
  config = OptimizerConfig('adagrad', RATE, clip_norm=0.5)
  updates = updates_of(config, 1, [[30.0, -40.0]], jnp.ones(2))
  clipped = np.asarray([0.3, -0.4])
  expected = -RATE * clipped / np.sqrt(0.1 + clipped**2)
  np.testing.assert_allclose(updates, [expected], rtol=1e-5)


def test_small_gradients_are_not_clipped():
  config = OptimizerConfig('adagrad', RATE, clip_norm=0.51)
  gradient = np.asarray([0.3, -0.4])
  updates = updates_of(config, 1, [gradient], jnp.ones(2))
  expected = -RATE * gradient / np.sqrt(0.1 + gradient**2)
  np.testing.assert_allclose(updates, [expected], rtol=1e-5)


@pytest.mark.parametrize('recipe', ['adamw', 'adafactor', 'adagrad'])
def test_gradients_are_clipped_by_their_global_norm(recipe):
  config = OptimizerConfig(recipe, RATE, clip_norm=1.0)
  optimizer = make_optimizer(config, 10)
  params = {'a': jnp.ones(1), 'b': jnp.ones(1)}
  big = {'a': jnp.asarray([300.0]), 'b': jnp.asarray([400.0])}
  unit = {'a': jnp.asarray([0.6]), 'b': jnp.asarray([0.8])}
  state = optimizer.init(params)
  clipped, _ = optimizer.update(big, state, params)
  expected, _ = optimizer.update(unit, state, params)
  for name in params:
    np.testing.assert_allclose(clipped[name], expected[name], rtol=1e-5)


@pytest.mark.parametrize('warmup_steps', [0, 3, 30])
@pytest.mark.parametrize(
  ('recipe', 'plain'),
  [
    ('adamw', optax.adamw(1.0, weight_decay=0.1)),
    ('adafactor', optax.adafactor(1.0)),
    ('adagrad', optax.adagrad(1.0)),
  ],
)
def test_updates_equal_those_of_optax(recipe, plain, warmup_steps):
  """An update is the learning rate times Optax's update for a rate of 1."""
  config = OptimizerConfig(recipe, RATE, warmup_steps, 0.1, clip_norm=1.0)
  num_steps = 20
  gradients = np.random.default_rng(0).normal(size=(num_steps + 2, 2, 3))
  params = jnp.linspace(1.0, 3.0, 6).reshape(2, 3)
  updates = updates_of(config, num_steps, gradients, params)
  plain = optax.chain(optax.clip_by_global_norm(1.0), plain)
  state = plain.init(params)
  update = jax.jit(plain.update)
  rate = learning_rate(config, num_steps)
  for step, gradient in enumerate(gradients):
    unit, state = update(jnp.asarray(gradient, jnp.float32), state, params)
    np.testing.assert_allclose(
      updates[step], float(rate(step)) * unit, rtol=1e-4, atol=1e-7
    )
