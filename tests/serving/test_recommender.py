"""Tests of the Python API with an untrained network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.serving.shop import assert_same_items
from tests.sessions import with_limits
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.retrieval import tiger
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.search import recommend_rows

NUM_ITEMS = 14


def log_probabilities(config, ids, params, history):
  """Returns the log-probability of every item, by teacher forcing."""
  rows = np.full((NUM_ITEMS, 4), -1, np.int32)
  rows[:, : len(history)] = history
  batch = Batch(
    rows, np.full(NUM_ITEMS, -1, np.int32), np.arange(NUM_ITEMS, dtype=np.int32)
  )
  model = Tiger(config.model, ids.level_sizes)
  apply = jax.jit(model.apply, static_argnums=3)
  logits = apply({'params': params}, jnp.asarray(ids.codes), batch, True)
  return sum(
    np.asarray(jax.nn.log_softmax(level))[np.arange(NUM_ITEMS), ids.codes[:, i]]
    for i, level in enumerate(logits)
  )


def test_all_items_are_ordered_by_probability(recommender, config, ids, params):
  items = recommender.recommend(['i105', 'i101'], NUM_ITEMS)
  expected = log_probabilities(config, ids, params, [5, 1])
  assert [entry.item_id for entry in items] == [
    f'i{100 + row}' for row in np.argsort(-expected)
  ]
  for entry in items:
    row = int(entry.item_id[1:]) - 100
    assert entry.score == pytest.approx(expected[row], abs=1e-4)
    assert entry.semantic_id == tuple(ids.codes[row])
    assert entry.title == (f'Item {row}' if row != 3 else 'i103')


def test_results_have_python_types(recommender):
  (entry,) = recommender.recommend(['i105'], 1)
  assert type(entry.score) is float
  assert {type(code) for code in entry.semantic_id} == {int}
  assert type(entry.title) is type(entry.item_id) is str


def test_returns_k_items_best_first(recommender):
  items = recommender.recommend(['i102', 'i103'], 10)
  assert len({entry.item_id for entry in items}) == len(items) == 10
  scores = [entry.score for entry in items]
  assert scores == sorted(scores, reverse=True)
  assert recommender.recommend(['i102', 'i103'], 3) == items[:3]


def test_returns_ten_items_by_default(recommender):
  assert len(recommender.recommend(['i102'])) == 10


@pytest.mark.parametrize('k', [NUM_ITEMS, 50])
def test_k_may_exceed_the_beams_and_the_catalog(recommender, k):
  items = recommender.recommend(['i102', 'i103'], k)
  assert len(items) == min(k, NUM_ITEMS)
  assert len({entry.item_id for entry in items}) == len(items)
  # A later request can have a smaller k.
  assert len(recommender.recommend(['i102', 'i103'], 10)) == 10


def assert_same(items, expected):
  """Compares the items and the attributes of two lists."""
  assert vars(items) == vars(expected)
  assert_same_items(items, expected)


def test_a_batch_equals_single_requests(recommender):
  histories = [
    ['i105'], [], ['i105', 'gone', 'i101'], ['i100', 'i101', 'i102', 'i103'],
    ['gone'], *[[f'i{100 + i % NUM_ITEMS}', 'i102'] for i in range(30)],
  ]  # fmt: skip
  for options in (
    Options(),
    Options(exclude_seen=True, deny=['i104']),
    Options(temperature=2.0, seed=5),
    Options(transition_weight=0.5, exact=True),
  ):
    together = recommender.recommend_batch(histories, 6, options, strict=False)
    for history, items in zip(histories, together, strict=True):
      assert_same(items, recommender.recommend(history, 6, options, False))
      assert items.unknown == tuple(x for x in history if x == 'gone')
      assert items.fallback == (None if set(history) - {'gone'} else 'popular')
      assert items.model_version == recommender.model_version
      assert items.catalog_version == recommender.catalog_version == 1


def test_a_batch_names_the_history_of_an_error(recommender):
  with pytest.raises(UsageError, match=r"'x' in the catalog .*histories\[1\]"):
    recommender.recommend_batch([['i100'], ['i100', 'x']])


def test_only_the_latest_items_are_read(recommender):
  latest = ['i102', 'i103', 'i104', 'i105']
  long = recommender.recommend(['i100', 'i101', 'i100', *latest], NUM_ITEMS)
  assert long == recommender.recommend(latest, NUM_ITEMS)
  assert long != recommender.recommend(['i101', *latest[1:]], NUM_ITEMS)


def test_the_order_of_the_history_matters(recommender):
  forward = recommender.recommend(['i101', 'i109'], 5)
  assert forward != recommender.recommend(['i109', 'i101'], 5)


def test_many_histories_are_split_into_batches(recommender):
  histories = [[f'i{100 + i % NUM_ITEMS}'] for i in range(131)]
  recommendations = recommender.recommend_batch(histories, 3)
  assert len(recommendations) == 131
  for i in (0, 127, 128, 130):
    ids = [entry.item_id for entry in recommendations[i]]
    expected = recommender.recommend([f'i{100 + i % NUM_ITEMS}'], 3)
    assert ids == [entry.item_id for entry in expected]


@pytest.mark.parametrize(
  ('history', 'k', 'message'),
  [
    (['i100', 'nowhere'], 10, "'nowhere' in the catalog .1 of 2"),
    (['x', 'y'], 10, "'x' in the catalog .2 of 2"),
    ([''], 10, "''"),
    (['i100'], 0, 'k is 0'),
    (['i100'], -1, 'k is -1'),
  ],
)
def test_invalid_requests_are_refused(recommender, history, k, message):
  with pytest.raises(UsageError, match=message) as error:
    recommender.recommend(history, k)
  assert '\n' not in str(error.value)


def test_the_error_for_an_unknown_item_suggests_ids(recommender):
  with pytest.raises(UsageError, match="ids look like 'i100'"):
    recommender.recommend(['B00ZZZZ'])
  with pytest.raises(UsageError, match="did you mean 'i1"):
    recommender.recommend(['i10O'])


@pytest.fixture(name='with_user_tokens', scope='module')
def _with_user_tokens(config, dataset, ids):
  model = dataclasses.replace(config.model, num_user_tokens=7)
  config = dataclasses.replace(config, model=model)
  task = TigerTask(Tiger(model, ids.level_sizes), jnp.asarray(ids.codes))
  return Recommender(
    Session.open(config, Inputs(dataset, ids)), task.init(jax.random.key(0))
  )


def test_models_with_user_tokens_accept_unknown_users(with_user_tokens):
  assert len(with_user_tokens.recommend(['i100'])) == 10


def test_recommend_users_reads_the_whole_history(recommender, with_user_tokens):
  # The user 'cem' has these five events. The last two were held out.
  history = ['i103', 'i102', 'i101', 'i100', 'i104']
  options = Options(exclude_seen=True)
  expected = recommender.recommend(history, 5, options)
  assert recommender.recommend_users(['cem'], 5, options) == [expected]
  assert recommender.recommend(history[:-1], 5, options) != expected
  # A user token changes the scores.
  (items,) = with_user_tokens.recommend_users(['cem'], NUM_ITEMS)
  snapshot, rows = with_user_tokens.snapshot, [[3, 2, 1, 0, 4]]

  def of_user(row):
    return recommend_rows(snapshot, rows, NUM_ITEMS, Options(), [row])

  assert [items] == of_user(2)
  assert [items] != of_user(1)
  assert items != with_user_tokens.recommend(history, NUM_ITEMS)


def test_recommend_users_answers_in_the_order_of_the_users(recommender):
  users = ['bob', 'ann', 'bob']
  together = recommender.recommend_users(users, 5)
  for user, items in zip(users, together, strict=True):
    (expected,) = recommender.recommend_users([user], 5)
    assert_same(items, expected)
  assert recommender.recommend_users([]) == []


@pytest.mark.parametrize(
  ('user', 'message'),
  [
    ('Bob', "no user 'Bob' in the data of the run: did you mean 'bob'?"),
    ('zoe', "no user 'zoe' in the data of the run: ids look like 'ann'"),
    (7, "no user '7'"),
    (None, r'users\[0\] is None: pass text'),
    (['ann'], r"users\[0\] is \['ann'\]"),
  ],
)
def test_an_unknown_user_is_refused(recommender, user, message):
  with pytest.raises(UsageError, match=message):
    recommender.recommend_users([user])


def test_mixed_requests_compile_nothing_new(session, params):
  """Requests differ in batch size, length, filters, temperature, seed and k."""
  # With a higher limit, unproven draws would be searched again with more beams,
  # which would compile new programs.
  recommender = Recommender(with_limits(session, max_proof_beams=10), params)

  def request(num_histories, length, k, **options):
    histories = [
      [f'i{100 + i % NUM_ITEMS}'] * length for i in range(num_histories)
    ]
    recommendations = recommender.recommend_batch(
      histories, k, Options(**options)
    )
    assert len(recommendations) == num_histories

  def request_all(num_histories, length, k, temperature):
    request(num_histories, length, k)
    request(num_histories, length, k, deny=[f'i{100 + k}'], exclude_seen=True)
    request(num_histories, length, k, temperature=temperature, seed=k)

  for num_histories in (1, 8):
    request_all(num_histories, 2, 10, 1.0)
  compiled = tiger._search._cache_size()
  for num_histories, length, k in ((7, 1, 3), (2, 9, 1), (1, 1, 7)):
    request_all(num_histories, length, k, 0.5 + k)
    request(num_histories, length, k, allow=['i100', 'i103'])
  assert tiger._search._cache_size() == compiled


def test_searches_are_split_to_bound_memory(
  session, params, recommender, monkeypatch
):
  histories = [[f'i{100 + i % NUM_ITEMS}', 'i103'] for i in range(20)]
  options = Options(deny=['i100'])
  expected = recommender.recommend_batch(histories, 12, options)
  searches = []
  search = tiger._search

  def recorded_search(model, num_beams, constrained, params, catalog, *args):
    searches.append((len(args[0].user), num_beams))
    return search(model, num_beams, constrained, params, catalog, *args)

  monkeypatch.setattr(tiger, '_search', recorded_search)
  for max_total_beams, num_denied, num_requests in (
    (160, 1, 8),
    (2**14, 2**14 + 1, 8),
    (20, 1, 1),
  ):
    searches.clear()
    limited = Recommender(
      with_limits(session, max_total_beams=max_total_beams), params
    )
    # A longer deny list of the same item.
    options = Options(deny=['i100'] * num_denied)
    actual = limited.recommend_batch(histories, 12, options)
    assert set(searches) == {(num_requests, 20)}
    for items, desired in zip(actual, expected, strict=True):
      assert [x.item_id for x in items] == [x.item_id for x in desired]
      scores = [x.score for x in desired]
      assert [x.score for x in items] == pytest.approx(scores, abs=1e-5)


def test_k_above_the_maximum_number_of_beams_is_refused(session, params):
  recommender = Recommender(with_limits(session, max_total_beams=12), params)
  assert len(recommender.recommend(['i100'], 12)) == 12
  with pytest.raises(UsageError, match='k is 13: ask for 12 items at most'):
    recommender.recommend(['i100'], 13)
