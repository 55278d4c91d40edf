"""Properties of all models that score items, tested on random histories."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.bert4rec import Bert4Rec
from tiger_jax.models.baselines.gru4rec import Gru4Rec
from tiger_jax.models.baselines.item_knn import ItemKnn
from tiger_jax.models.baselines.item_model import whole_sequence
from tiger_jax.models.baselines.matrix_factorization import MatrixFactorization
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.models.baselines.two_tower import TwoTower
from tiger_jax.models.baselines.vq_rec import VqRec
from tiger_jax.recommenders.item_task import ItemTask

NUM_ITEMS, NUM_USERS, LONGEST = 30, 5, 6
CONFIG = ModelConfig(
  max_history=LONGEST,
  d_model=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=16,
  num_encoder_layers=2,
  dropout=0.0,
)
RNG = np.random.default_rng(0)
TEXT = jnp.asarray(RNG.normal(size=(NUM_ITEMS, 5)), jnp.float32)
CODES = jnp.asarray(RNG.integers(0, 4, (NUM_ITEMS, 3)), jnp.int32)
SEQUENTIAL = {
  'sasrec': (SasRec(CONFIG, NUM_ITEMS, NUM_USERS), None),
  'gru4rec': (Gru4Rec(CONFIG, NUM_ITEMS, NUM_USERS), None),
  'two_tower': (TwoTower(CONFIG, NUM_ITEMS, NUM_USERS), TEXT),
  'vq_rec': (
    VqRec(CONFIG, NUM_ITEMS, NUM_USERS, level_sizes=(4, 5, 4)),
    CODES,
  ),
}
TRAINED = SEQUENTIAL | {
  'bert4rec': (Bert4Rec(CONFIG, NUM_ITEMS, NUM_USERS), None),
  'mf': (MatrixFactorization(CONFIG, NUM_ITEMS, NUM_USERS), None),
}
KNN = (ItemKnn(CONFIG, NUM_ITEMS, NUM_USERS), TEXT)


def make_batch(lengths, width=LONGEST):
  history = np.full((len(lengths), width), -1, np.int32)
  for row, length in zip(history, lengths, strict=True):
    row[:length] = RNG.integers(0, NUM_ITEMS, length)
  user = np.arange(len(lengths), dtype=np.int32) % NUM_USERS
  target = RNG.integers(0, NUM_ITEMS, len(lengths)).astype(np.int32)
  return Batch(history, user, target)


@functools.cache
def initialize(name):
  """Returns the compiled `init` of a model."""
  return jax.jit(ItemTask(*TRAINED[name]).init)


@functools.cache
def random_params(name):
  """Returns the parameters of a model as large random NumPy arrays."""

  def add_noise(x):
    # With the small initial vectors, all results would be nearly equal.
    noise = np.random.default_rng(x.size).normal(size=x.shape) / 3
    return x + noise.astype(np.float32)

  initial = initialize(name)(jax.random.key(1))
  return jax.tree.map(add_noise, jax.device_get(initial))


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(model, method, params, features, batch):
  return model.apply({'params': params}, features, batch, method=method)


def call(name, method, batch):
  """Calls a model that has random parameters."""
  model, features = TRAINED[name]
  result = apply(model, method, random_params(name), features, batch)
  return jax.device_get(result)


@pytest.mark.parametrize('name', SEQUENTIAL)
def test_one_pass_equals_one_pass_per_prefix(name):
  lengths = (6, 4, 1)
  batch = make_batch(lengths)
  queries, targets = call(name, 'queries_and_targets', batch)
  assert targets.shape == queries.shape[:2]
  ends = [(row, end) for row in range(3) for end in range(1, lengths[row] + 1)]
  rows = [row for row, _ in ends]
  history = np.full((len(ends), LONGEST), -1, np.int32)
  for prefix, (row, end) in zip(history, ends, strict=True):
    prefix[:end] = batch.history[row, :end]
  prefixes = Batch(history, batch.user[rows], np.zeros(len(ends), np.int32))
  by_prefix = call(name, 'query', prefixes)
  for query, (row, end) in zip(by_prefix, ends, strict=True):
    np.testing.assert_allclose(queries[row, end - 1], query, atol=1e-5)
    next_item = (*batch.history[row, : lengths[row]], batch.target[row])[end]
    assert targets[row, end - 1] == next_item
  for row, length in enumerate(lengths):
    assert (targets[row, length:] == -1).all()


@pytest.mark.parametrize('name', TRAINED)
def test_padding_changes_nothing(name):
  batch = make_batch([3, 2], width=3)
  wider = np.pad(batch.history, ((0, 0), (0, 3)), constant_values=-1)
  np.testing.assert_allclose(
    call(name, 'query', batch),
    call(name, 'query', batch._replace(history=wider)),
    atol=1e-5,
  )


@pytest.mark.parametrize('name', TRAINED)
def test_an_empty_history_has_a_finite_query(name):
  assert np.isfinite(call(name, 'query', make_batch([0, 2]))).all()


@pytest.mark.parametrize('name', sorted({*TRAINED} - {'mf'}))
def test_queries_depend_on_the_history_but_not_the_target(name):
  batch = make_batch([4, 5])
  before = call(name, 'query', batch)
  other = call(name, 'query', batch._replace(target=np.zeros(2, np.int32)))
  np.testing.assert_array_equal(before, other)
  history = batch.history.copy()
  history[0, 1] = (history[0, 1] + 11) % NUM_ITEMS
  changed = call(name, 'query', batch._replace(history=history))
  assert np.abs(before - changed)[0].max() > 1e-4


# BERT4Rec and matrix factorization have targets of their own. The other models
# pass equal targets to the losses.
@pytest.mark.parametrize(
  ('name', 'loss'),
  [
    *itertools.product(TRAINED, ['cross_entropy']),
    *itertools.product(
      ['sasrec', 'bert4rec', 'mf'], ['sampled_softmax', 'bce']
    ),
  ],
)
def test_every_model_learns_and_every_loss_teaches(name, loss):
  """In every sequence, item i is followed by item i + 1."""
  model, features = TRAINED[name]
  start = np.arange(NUM_USERS) * 6
  sequences = ((start[:, None] + np.arange(7)) % NUM_ITEMS).astype(np.int32)
  user = np.arange(NUM_USERS, dtype=np.int32)
  batch = Batch(sequences[:, :6], user, sequences[:, 6])
  config = dataclasses.replace(CONFIG, loss=loss)
  task = ItemTask(model.clone(config=config), features)
  optimizer = optax.adam(0.02)

  @jax.jit
  def train(params):
    def step(carry, i):
      params, opt_state = carry
      rng = jax.random.fold_in(jax.random.key(3), i)

      def loss_fn(p):
        return task.loss(p, task.tables, batch, rng)[0]

      value, gradient = jax.value_and_grad(loss_fn)(params)
      updates, opt_state = optimizer.update(gradient, opt_state)
      return (optax.apply_updates(params, updates), opt_state), value

    start = (params, optimizer.init(params))
    (params, _), values = jax.lax.scan(step, start, jnp.arange(300))
    return params, values

  params, values = jax.device_get(train(initialize(name)(jax.random.key(0))))
  assert values[-20:].mean() < 0.8 * values[:5].mean()
  scores = np.asarray(apply(model, 'scores', params, features, batch))
  rank = (scores > scores[user, sequences[:, 6]][:, None]).sum(1)
  # The mean rank by chance is 14.5. Models that read the order of items learn
  # more from losses with many negatives.
  learns_order = name in ('sasrec', 'gru4rec', 'bert4rec') and loss != 'bce'
  assert rank.mean() < (2.5 if learns_order else 7)


def test_bert4rec_masks_the_last_item_and_some_others():
  model, features = TRAINED['bert4rec']
  batch = make_batch([6, 3] * 50)

  @jax.jit
  def targets_of(params):
    rngs = {'dropout': jax.random.key(0)}
    bound = model.bind({'params': params}, rngs=rngs)
    return bound.queries_and_targets(features, batch)[1]

  targets = np.asarray(targets_of(random_params('bert4rec')))
  sequence = np.asarray(whole_sequence(batch))
  length = (sequence >= 0).sum(1)
  assert (targets[np.arange(100), length - 1] == batch.target).all()
  masked = targets >= 0
  assert (targets == np.where(masked, sequence, -1)).all()
  share = (masked.sum() - 100) / (length.sum() - 100)
  assert 0.2 < share < 0.4


def test_bert4rec_query_equals_the_encoding_of_a_masked_last_item():
  """If only the last item is masked, training and inference agree."""
  model, _ = TRAINED['bert4rec']
  batch = make_batch([4, 2])
  masked = np.array(whole_sequence(batch))
  last = np.arange(2), [4, 2]
  assert (masked[last] == batch.target).all()
  masked[last] = NUM_ITEMS

  @jax.jit
  def encode(params):
    return model.bind({'params': params})._encode(jnp.asarray(masked), True)

  np.testing.assert_allclose(
    encode(random_params('bert4rec'))[last],
    call('bert4rec', 'query', batch),
    atol=1e-5,
  )


def test_knn_score_is_the_mean_cosine_similarity():
  model, features = KNN
  batch = make_batch([3, 1, 0])
  bound_model = model.bind({})
  scores = (
    bound_model.query(features, batch) @ bound_model.item_vectors(features).T
  )
  unit = TEXT / np.linalg.norm(TEXT, axis=1, keepdims=True)
  for row, length in enumerate([3, 1]):
    expected = [
      np.mean([unit[i] @ unit[j] for j in batch.history[row, :length]])
      for i in range(NUM_ITEMS)
    ]
    np.testing.assert_allclose(scores[row], expected, atol=1e-5)
  np.testing.assert_array_equal(scores[2], 0)


def test_two_tower_query_equals_numpy():
  """The query is the mean of the item vectors, plus an MLP of this mean."""
  batch = make_batch([6, 2])
  params = random_params('two_tower')
  text = np.asarray(TEXT) @ params['text']['kernel']
  items = params['items']['embedding'] + text
  model = TRAINED['two_tower'][0].bind({'params': params})
  np.testing.assert_allclose(model.item_vectors(TEXT), items, atol=1e-5)
  queries = call('two_tower', 'query', batch)
  for row, length in enumerate([6, 2]):
    mean = items[batch.history[row, :length]].mean(0)
    hidden, out = params['user_hidden'], params['user_out']
    x = np.maximum(mean @ hidden['kernel'] + hidden['bias'], 0)
    expected = mean + x @ out['kernel'] + out['bias']
    np.testing.assert_allclose(queries[row], expected, atol=1e-5)


def test_vq_rec_item_vectors_are_means_of_code_vectors():
  params = random_params('vq_rec')
  model = TRAINED['vq_rec'][0].bind({'params': params})
  table = params['codes']['embedding']
  expected = [
    (table[a] + table[4 + b] + table[9 + c]) / 3
    for a, b, c in np.asarray(CODES)
  ]
  np.testing.assert_allclose(model.item_vectors(CODES), expected, atol=1e-6)


def test_matrix_factorization_has_a_zero_query_for_unknown_users():
  batch = make_batch([2, 2])._replace(user=np.array([-1, 3], np.int32))
  query = call('mf', 'query', batch)
  np.testing.assert_array_equal(query[0], 0)
  assert np.abs(query[1]).max() > 0
