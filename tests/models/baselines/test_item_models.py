"""Properties of all models that score items, tested on random histories."""

import dataclasses

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


def bound(name):
  model, features = TRAINED[name]
  params = ItemTask(model, features).init(jax.random.key(1))
  # With the small initial vectors, all results would be nearly equal.
  params = jax.tree.map(
    lambda x: x + jax.random.normal(jax.random.key(x.size), x.shape) / 3, params
  )
  return model.bind({'params': params}), features


@pytest.mark.parametrize('name', SEQUENTIAL)
def test_one_pass_equals_one_pass_per_prefix(name):
  model, features = bound(name)
  batch = make_batch([6, 4, 1])
  queries, targets = model.queries_and_targets(features, batch)
  assert targets.shape == queries.shape[:2]
  for row, length in enumerate([6, 4, 1]):
    for end in range(1, length + 1):
      history = np.full((1, LONGEST), -1, np.int32)
      history[0, :end] = batch.history[row, :end]
      prefix = Batch(
        history, batch.user[row : row + 1], np.array([0], np.int32)
      )
      np.testing.assert_allclose(
        queries[row, end - 1], model.query(features, prefix)[0], atol=1e-5
      )
      next_item = (*batch.history[row, :length], batch.target[row])[end]
      assert targets[row, end - 1] == next_item
    assert (targets[row, length:] == -1).all()


@pytest.mark.parametrize('name', TRAINED)
def test_padding_changes_nothing(name):
  model, features = bound(name)
  batch = make_batch([3, 2], width=3)
  wider = np.pad(batch.history, ((0, 0), (0, 3)), constant_values=-1)
  np.testing.assert_allclose(
    model.query(features, batch),
    model.query(features, batch._replace(history=wider)),
    atol=1e-5,
  )


@pytest.mark.parametrize('name', TRAINED)
def test_an_empty_history_has_a_finite_query(name):
  model, features = bound(name)
  batch = make_batch([0, 2])
  assert jnp.isfinite(model.query(features, batch)).all()


@pytest.mark.parametrize('name', sorted({*TRAINED} - {'mf'}))
def test_queries_depend_on_the_history_but_not_the_target(name):
  model, features = bound(name)
  batch = make_batch([4])
  before = model.query(features, batch)
  other = model.query(features, batch._replace(target=np.array([0], np.int32)))
  np.testing.assert_array_equal(before, other)
  history = batch.history.copy()
  history[0, 1] = (history[0, 1] + 11) % NUM_ITEMS
  changed = model.query(features, batch._replace(history=history))
  assert np.abs(before - changed).max() > 1e-4


@pytest.mark.parametrize('loss', ['cross_entropy', 'sampled_softmax', 'bce'])
@pytest.mark.parametrize('name', TRAINED)
def test_every_model_learns_with_every_loss(name, loss):
  """In every sequence, item i is followed by item i + 1."""
  model, features = TRAINED[name]
  model = model.clone(config=dataclasses.replace(CONFIG, loss=loss))
  start = np.arange(NUM_USERS) * 6
  sequences = ((start[:, None] + np.arange(7)) % NUM_ITEMS).astype(np.int32)
  user = np.arange(NUM_USERS, dtype=np.int32)
  batch = Batch(sequences[:, :6], user, sequences[:, 6])
  task = ItemTask(model, features)
  params = task.init(jax.random.key(0))
  optimizer = optax.adam(0.02)

  @jax.jit
  def steps(params, opt_state):
    def step(carry, i):
      params, opt_state = carry
      rng = jax.random.fold_in(jax.random.key(3), i)

      def loss_fn(p):
        return task.loss(p, task.tables, batch, rng)[0]

      value, gradient = jax.value_and_grad(loss_fn)(params)
      updates, opt_state = optimizer.update(gradient, opt_state)
      return (optax.apply_updates(params, updates), opt_state), value

    return jax.lax.scan(step, (params, opt_state), jnp.arange(300))

  (params, _), values = steps(params, optimizer.init(params))
  assert values[-20:].mean() < 0.8 * values[:5].mean()
  bound_model = model.bind({'params': params})
  scores = bound_model.query(features, batch) @ (
    bound_model.item_vectors(features).T
  )
  rank = (scores > scores[user, sequences[:, 6]][:, None]).sum(1)
  # The mean rank by chance is 14.5. Models that read the order of items learn
  # more from losses with many negatives.
  learns_order = name in ('sasrec', 'gru4rec', 'bert4rec') and loss != 'bce'
  assert rank.mean() < (2.5 if learns_order else 7)


def test_bert4rec_masks_the_last_item_and_some_others():
  model, features = TRAINED['bert4rec']
  batch = make_batch([6, 3] * 50)
  params = ItemTask(model, features).init(jax.random.key(1))
  bound_model = model.bind(
    {'params': params}, rngs={'dropout': jax.random.key(0)}
  )
  _, targets = bound_model.queries_and_targets(features, batch)
  sequence = whole_sequence(batch)
  length = (sequence >= 0).sum(1)
  assert (targets[jnp.arange(100), length - 1] == batch.target).all()
  masked = targets >= 0
  assert (targets == jnp.where(masked, sequence, -1)).all()
  share = (masked.sum() - 100) / (length.sum() - 100)
  assert 0.2 < share < 0.4


def test_bert4rec_query_equals_the_encoding_of_a_masked_last_item():
  """If only the last item is masked, training and inference agree."""
  model, features = bound('bert4rec')
  batch = make_batch([4, 2])
  sequence = whole_sequence(batch)
  length = (sequence >= 0).sum(1)
  row = jnp.arange(2)
  masked = sequence.at[row, length - 1].set(NUM_ITEMS)
  np.testing.assert_allclose(
    model._encode(masked, True)[row, length - 1],
    model.query(features, batch),
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
  model, features = bound('two_tower')
  batch = make_batch([6, 2])
  params = jax.tree.map(np.asarray, model.variables['params'])
  text = np.asarray(TEXT) @ params['text']['kernel']
  items = params['items']['embedding'] + text
  np.testing.assert_allclose(model.item_vectors(features), items, atol=1e-5)
  for row, length in enumerate([6, 2]):
    mean = items[batch.history[row, :length]].mean(0)
    hidden, out = params['user_hidden'], params['user_out']
    x = np.maximum(mean @ hidden['kernel'] + hidden['bias'], 0)
    expected = mean + x @ out['kernel'] + out['bias']
    query = model.query(features, batch)[row]
    np.testing.assert_allclose(query, expected, atol=1e-5)


def test_vq_rec_item_vectors_are_means_of_code_vectors():
  model, _ = bound('vq_rec')
  table = np.asarray(model.variables['params']['codes']['embedding'])
  expected = [
    (table[a] + table[4 + b] + table[9 + c]) / 3
    for a, b, c in np.asarray(CODES)
  ]
  np.testing.assert_allclose(model.item_vectors(CODES), expected, atol=1e-6)


def test_matrix_factorization_has_a_zero_query_for_unknown_users():
  model, features = bound('mf')
  batch = make_batch([2, 2])._replace(user=np.array([-1, 3], np.int32))
  query = model.query(features, batch)
  np.testing.assert_array_equal(query[0], 0)
  assert np.abs(query[1]).max() > 0
