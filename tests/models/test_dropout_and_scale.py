"""Tests dropout and the scale of initial parameters in every model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.bert4rec import Bert4Rec
from tiger_jax.models.baselines.gru4rec import Gru4Rec
from tiger_jax.models.baselines.matrix_factorization import MatrixFactorization
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.models.baselines.two_tower import TwoTower
from tiger_jax.models.baselines.vq_rec import VqRec
from tiger_jax.models.dropout import Dropout
from tiger_jax.models.dsi import Dsi
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.dsi_task import DsiTask
from tiger_jax.recommenders.item_task import ItemTask
from tiger_jax.recommenders.tiger_task import TigerTask

# Most sizes differ, so that a wrong size changes a shape or a standard
# deviation.
B, T, D, H, K, MLP, LAYERS, RATE = 6, 5, 32, 2, 8, 64, 1, 0.3
NUM_ITEMS, NUM_USERS, TEXT_DIM, NUM_INDEXED = 36, 40, 12, 7
LEVEL_SIZES = (9, 8, 7)
RNG = np.random.default_rng(0)
TEXT = RNG.normal(size=(NUM_ITEMS, TEXT_DIM)).astype(np.float32)
CODES = np.stack([RNG.integers(0, n, NUM_ITEMS) for n in LEVEL_SIZES], 1)
CODES = CODES.astype(np.int32)
HISTORY = RNG.permutation(NUM_ITEMS)[: B * T].reshape(B, T).astype(np.int32)
BATCH = Batch(HISTORY, np.arange(B, dtype=np.int32), HISTORY[:, 0])


def _config(**changes):
  return ModelConfig(
    max_history=T, d_model=D, num_heads=H, head_dim=K, mlp_dim=MLP,
    num_encoder_layers=LAYERS, num_decoder_layers=LAYERS, dropout=RATE,
    num_user_tokens=11, **changes,
  )  # fmt: skip


def _item_task(network, features=None, **kwargs):
  return ItemTask(network(_config(), NUM_ITEMS, NUM_USERS, **kwargs), features)


def _tiger_task(network=Tiger, **changes):
  return TigerTask(network(_config(**changes), LEVEL_SIZES), CODES)


_WITH_PREFIXES = {
  'prefix_embeddings': 25, 'prefix_dropout': RATE, 'recency_bias': True,
  'prefix_heads': True, 'softmax': 'trie', 'history_bias': True,
}  # fmt: skip
TASKS = {
  'tiger': _tiger_task(),
  'causal': _tiger_task(causal_encoder=True),
  'tied': _tiger_task(tied_heads=True),
  'prefixes': _tiger_task(**_WITH_PREFIXES),
  'tied_prefixes': _tiger_task(tied_heads=True, **_WITH_PREFIXES),
  'dsi': DsiTask(_tiger_task(Dsi), TEXT, NUM_INDEXED),
  'sasrec': _item_task(SasRec),
  'bert4rec': _item_task(Bert4Rec),
  'gru4rec': _item_task(Gru4Rec),
  'matrix_factorization': _item_task(MatrixFactorization),
  'two_tower': _item_task(TwoTower, TEXT),
  'vq_rec': _item_task(VqRec, CODES, level_sizes=LEVEL_SIZES),
}


def _loss_and_dropouts(task, params, rng):
  """Returns the loss, and the module and arguments of every dropout call."""
  calls = []

  def record(call, args, kwargs, context):
    if isinstance(context.module, Dropout) and context.method_name != 'setup':
      calls.append((context.module, *args))
    return call(*args, **kwargs)

  tables = jax.tree.map(jnp.asarray, task.tables)
  with nn.intercept_methods(record):
    loss, _, _ = task.loss(params, tables, BATCH, rng)
  return loss, calls


def _tiger_places(b, s, t=1):
  """Returns the shapes of all dropout inputs in TIGER, in order."""
  q = t * _NUM_LEVELS
  x, y = (b, s, D), (b, q, D)
  encoder = [(b, H, s, s), x, (b, s, MLP), x]
  weights = (b * t, H, _NUM_LEVELS, _NUM_LEVELS), (b, H, q, s)
  decoder = [weights[0], y, weights[1], y, (b, q, MLP), y]
  return [x, *encoder * LAYERS, x, y, *decoder * LAYERS, y]


def _encoder_places(n):
  """Returns the shapes of all dropout inputs in a `SequenceEncoder`."""
  x = (B, n, D)
  return [x, *[(B, H, n, n), x, (B, n, MLP), x] * LAYERS]


_NUM_LEVELS = len(LEVEL_SIZES)
_NUM_TOKENS = T * _NUM_LEVELS + 1
_RETRIEVAL = _tiger_places(B, _NUM_TOKENS)
PLACES = {
  'tiger': _RETRIEVAL,
  'causal': _tiger_places(B, _NUM_TOKENS, T),
  'tied': _RETRIEVAL,
  # Prefix dropout draws one value for each prefix.
  'prefixes': [(B, T, _NUM_LEVELS, 1), *_RETRIEVAL],
  'dsi': _RETRIEVAL + _tiger_places(NUM_INDEXED, 1),
  'sasrec': _encoder_places(T),
  'bert4rec': _encoder_places(T + 1),
  'gru4rec': [(B, T, D)] * (LAYERS + 1),
  'matrix_factorization': [(B, D)],
  'two_tower': [(B, T, D), (B, T, MLP)],
  'vq_rec': _encoder_places(T),
}


@pytest.mark.parametrize('name', PLACES)
def test_dropout_is_applied_at_every_place(name):
  task, dropout_calls = TASKS[name], []

  def loss(rng):
    loss, calls = _loss_and_dropouts(task, task.init(rng), rng)
    dropout_calls.extend(calls)
    return loss

  jax.eval_shape(loss, jax.random.key(0))
  assert [x.shape for _, x, _ in dropout_calls] == PLACES[name]
  assert {module.rate for module, *_ in dropout_calls} == {RATE}
  assert not any(deterministic for *_, deterministic in dropout_calls)


def _fan_in(width):
  return width**-0.5


# The initial values of constant parameters, by the last part of the name.
_CONSTANTS = {'scale': 1, 'bias': 0}
# The initial standard deviations of other parameters, by the end of the name.
_TIGER = {
  'query/kernel': _fan_in(D * K),  # Includes the logit factor 1/sqrt(K).
  'key/kernel': _fan_in(D),
  'value/kernel': _fan_in(D),
  'out/kernel': _fan_in(H * K),
  'up/kernel': _fan_in(D),
  'down/kernel': _fan_in(MLP),
  'position_bias/table': _fan_in(32),
}
_UNTIED = _TIGER | {
  'code_embedding/embedding': 1,
  'user_embedding/embedding': 1,
  'start': 1,
  **{f'heads_{i}/kernel': _fan_in(D) for i in range(_NUM_LEVELS)},
}
_ITEMS = {'items/embedding': 0.02}
_SEQUENCE = _TIGER | _ITEMS | {'positions': 0.02, 'out/kernel': 0}
_SEQUENCE |= {'down/kernel': 0}
_TIED = _TIGER | {
  'code_embedding/embedding': _fan_in(D),
  'user_embedding/embedding': _fan_in(D),
  'start': _fan_in(D),
}
DEVIATIONS = {
  'tiger': _UNTIED,
  'tied': _TIED,
  'prefixes': _UNTIED
  | {
    'prefix_embedding/embedding': 0.1,
    'recency_bias/table': 0,
    'history_bias/table': 0,
    'history_bias/kernel': 0,
  },
  'tied_prefixes': _TIED
  | {
    'prefix_embedding/embedding': 0.1 * _fan_in(D),
    'recency_bias/table': 0,
    'history_bias/table': 0,
    'history_bias/kernel': 0,
  },
  'dsi': _UNTIED | {'text/kernel': _fan_in(TEXT_DIM)},
  'sasrec': _SEQUENCE,
  'bert4rec': _SEQUENCE,
  'gru4rec': _ITEMS | {'kernel': _fan_in(D)},
  'matrix_factorization': _ITEMS | {'users/embedding': 0.02},
  'two_tower': _ITEMS
  | {
    'text/kernel': _fan_in(TEXT_DIM),
    'user_hidden/kernel': _fan_in(D),
    'user_out/kernel': _fan_in(MLP),
  },
  'vq_rec': _SEQUENCE | {'codes/embedding': 0.02},
}


@pytest.fixture(name='inits', scope='module')
def _inits():
  """Returns the initial parameters of all models."""

  @jax.jit
  def init(rng):
    return {name: TASKS[name].init(rng) for name in DEVIATIONS}

  # The program compiles faster with this random number generator.
  return jax.device_get(init(jax.random.key(0, impl='unsafe_rbg')))


@pytest.mark.parametrize('name', DEVIATIONS)
def test_initial_parameters_have_the_expected_scale(name, inits):
  for path, x in jax.tree.leaves_with_path(inits[name]):
    path = jax.tree_util.keystr(path, simple=True, separator='/')
    constant = _CONSTANTS.get(path.split('/')[-1])
    if constant is not None:
      assert (x == constant).all(), path
      continue
    (expected,) = [
      std for end, std in DEVIATIONS[name].items() if path.endswith(end)
    ]
    # Five times the standard error of a sample standard deviation.
    error = 5 * expected / (2 * x.size) ** 0.5
    assert abs(np.sqrt(np.mean(x**2)) - expected) <= error, path


# The standard deviation of the first dropout input of each shape.
INPUTS = {
  'tiger': {(B, _NUM_TOKENS, D): 1, (B, _NUM_LEVELS, D): 1},
  'tied': {(B, _NUM_TOKENS, D): 1, (B, _NUM_LEVELS, D): 1},
  # Item vectors times sqrt(D), plus positions.
  'sasrec': {(B, T, D): 0.02 * (D + 1) ** 0.5},
  'bert4rec': {(B, T + 1, D): 0.02 * (D + 1) ** 0.5},
  'vq_rec': {(B, T, D): 0.02 * (D / _NUM_LEVELS + 1) ** 0.5},
}


@pytest.mark.parametrize('name', INPUTS)
def test_first_layer_inputs_have_the_expected_scale(name, inits):
  @jax.jit
  def first_inputs(params, rng):
    inputs = {}
    for _, x, _ in _loss_and_dropouts(TASKS[name], params, rng)[1]:
      inputs.setdefault(x.shape, x)
    return [inputs[shape] for shape in INPUTS[name]]

  inputs = first_inputs(inits[name], jax.random.key(1))
  for x, expected in zip(inputs, INPUTS[name].values(), strict=True):
    assert np.std(x) == pytest.approx(expected, rel=0.15)
