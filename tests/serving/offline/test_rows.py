"""Tests that the written rows equal those of a Recommender."""

import dataclasses
import io
import json

from hypothesis import given
from hypothesis import strategies as st
import jax
import numpy as np
import pandas as pd
import pytest

from tests.serving import conftest
from tests.serving.shop import make_model, make_shop, with_weight
from tiger_jax.config import EvaluationConfig, TrainConfig
from tiger_jax.errors import DataError, UsageError
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.serving.offline import job
from tiger_jax.serving.offline.job import part_size, recommend_all
from tiger_jax.serving.offline.tables import Writer
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import NewItem
from tiger_jax.serving.recommender import Recommender
from tiger_jax.training.step import init_params

NUM_USERS = 41
COLUMNS = ['user', 'rank', 'item', 'title', 'score']


def with_users(model):
  """Returns a model of a run with more users."""
  rng = np.random.default_rng(5)
  lengths = rng.integers(3, 9, NUM_USERS)
  dataset = dataclasses.replace(
    model.dataset,
    user_ids=tuple(f'u{i}' for i in range(NUM_USERS)),
    history=rng.integers(0, conftest.NUM_ITEMS, lengths.sum(), np.int32),
    offsets=np.cumsum([0, *lengths]).astype(np.int64),
  )
  old = model.session
  inputs = Inputs(dataset, old.inputs.ids)
  session = Session(old.config, inputs, old.mesh)
  return dataclasses.replace(model, session=session, dataset=dataset)


@pytest.fixture(name='model', scope='module')
def _model():
  return with_users(make_model())


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
  monkeypatch.setattr(job, '_MIN_USERS', 16)


def read(folder):
  return pd.read_parquet(folder)


def lists(table):
  """Returns the items, titles and scores of each user, in the order given."""
  found = {}
  for user, rank, *entry in table.itertuples(index=False):
    found.setdefault(user, []).append(tuple(entry))
    assert rank == len(found[user])
  return found


def expected_lists(shop, k, options):
  # Searches with the same number of histories as `recommend_all` run the same
  # program, or one for shorter histories.
  users = shop.dataset.user_ids
  expected = {}
  for start in range(0, len(users), 8):
    part = users[start : start + 8]
    for user, items in zip(
      part, shop.recommend_users(part, k, options), strict=True
    ):
      expected[user] = [(x.item_id, x.title, x.score) for x in items]
  return expected


def assert_equal(found, expected):
  assert list(found) == [user for user, items in expected.items() if items]
  for user, entries in found.items():
    assert [x[:2] for x in entries] == [x[:2] for x in expected[user]], user
    np.testing.assert_allclose(
      [x[2] for x in entries], [x[2] for x in expected[user]], rtol=1e-5
    )


@pytest.mark.parametrize(
  ('k', 'options'),
  [
    (5, {}),
    (20, {'exclude_seen': True, 'deny': ['i104']}),
    (5, {'allow': ['i101', 'i103', 'i109']}),
    (3, {'exact': True}),
    (4, {'temperature': 1.5, 'seed': 3}),
    (5, {'transition_weight': 0.5, 'transition_kappa': 2}),
  ],
)
def test_rows_equal_those_of_the_recommender(model, tmp_path, k, options):
  shop, options = make_shop(model), Options(**options)
  counts = recommend_all(
    shop.snapshot, tmp_path / 'out', k=k, options=options, batch_size=8
  )
  table = read(tmp_path / 'out')
  assert list(table.columns) == COLUMNS
  assert (counts.users, counts.rows) == (NUM_USERS, len(table))
  assert_equal(lists(table), expected_lists(shop, k, options))
  names = [path.name for path in (tmp_path / 'out').glob('part-*')]
  assert sorted(names) == [f'part-0000{i}.parquet' for i in range(3)]


def test_the_mixture_of_the_run_is_the_default(model, tmp_path):
  shop = make_shop(with_weight(model, 0.9))
  recommend_all(shop.snapshot, tmp_path / 'a', k=5, batch_size=8)
  found = lists(read(tmp_path / 'a'))
  assert_equal(found, expected_lists(shop, 5, Options()))
  alone = expected_lists(shop, 5, Options(transition_weight=0))
  assert [x[0] for x in found['u0']] != [x[0] for x in alone['u0']]


def test_all_members_of_an_ensemble_rank(tmp_path):
  config = dataclasses.replace(
    conftest.CONFIG,
    train=TrainConfig(replicas=2, length_buckets=(2, 4)),
    evaluation=EvaluationConfig(num_beams=10, ensemble=True),
  )
  model = with_users(make_model(config))
  members = init_params(model.session.task, [0, 1])
  shop = make_shop(dataclasses.replace(model, params=Ensemble(members)))
  recommend_all(shop.snapshot, tmp_path / 'a', k=5, batch_size=8)
  assert_equal(lists(read(tmp_path / 'a')), expected_lists(shop, 5, Options()))


def test_a_model_with_user_tokens_reads_the_users(tmp_path):
  config = dataclasses.replace(
    conftest.CONFIG,
    model=dataclasses.replace(conftest.CONFIG.model, num_user_tokens=7),
  )
  shop = make_shop(with_users(make_model(config)))
  recommend_all(shop.snapshot, tmp_path / 'a', k=5, batch_size=8)
  assert_equal(lists(read(tmp_path / 'a')), expected_lists(shop, 5, Options()))


def test_scores_are_the_same_numbers_in_every_format(model, tmp_path):
  shop = make_shop(model)
  history = ['i105', 'i101', 'i102']
  line = json.dumps({'user': 'ann', 'history': history})
  path = tmp_path / 'histories.jsonl'
  path.write_text(f'{line}\n')
  for file_format in ('parquet', 'jsonl'):
    recommend_all(
      shop.snapshot, tmp_path / file_format, histories=path,
      file_format=file_format, k=5,
    )  # fmt: skip
  # The same program answers both.
  expected = shop.recommend(history, 5)
  found = lists(read(tmp_path / 'parquet'))
  assert found == {'ann': [(x.item_id, x.title, x.score) for x in expected]}
  text = (tmp_path / 'jsonl' / 'part-00000.jsonl').read_text()
  assert [json.loads(line) for line in text.splitlines()] == [
    {
      'user': 'ann', 'rank': place, 'item': x.item_id, 'title': x.title,
      'score': x.score,
    }
    for place, x in enumerate(expected, 1)
  ]  # fmt: skip


@pytest.mark.parametrize('file_format', ['parquet', 'jsonl'])
def test_long_titles_are_cut(model, file_format):
  """A popular title of 100 KB would otherwise make a file of gigabytes."""
  snapshot = make_shop(model).snapshot
  titles = ('ä' * 5000, 'Lamp', '', *snapshot.titles[3:])
  snapshot = dataclasses.replace(snapshot, titles=titles)
  users = tuple(map(str, range(5000)))
  rows = np.tile(np.int32([0, 2, 1, -1]), (len(users), 1))
  data = Writer(snapshot, file_format).encode(users, rows, rows / 4)
  if file_format == 'parquet':
    table = pd.read_parquet(io.BytesIO(data))
  else:
    table = pd.read_json(io.BytesIO(data), lines=True, dtype={'user': str})
  assert list(table['title']) == ['ä' * 1024, 'i102', 'Lamp'] * len(users)
  assert list(table['user']) == list(np.repeat(users, 3))
  assert list(table['score']) == [0, 0.5, 0.25] * len(users)


def test_a_long_item_id_is_refused(model, tmp_path):
  snapshot = make_shop(model).snapshot
  ids = ('x' * 1025, *snapshot.ids[1:])
  with pytest.raises(DataError, match='item is .* an id of 1,025 characters'):
    recommend_all(dataclasses.replace(snapshot, ids=ids), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_file_gives_the_rows_of_recommend(model, tmp_path):
  shop = make_shop(model)
  rng = np.random.default_rng(0)
  histories = {
    f'c{i}': [f'i{100 + x}' for x in rng.integers(0, 14, rng.integers(0, 7))]
    for i in range(37)
  }
  histories['c3'] = []
  histories['c4'] = ['lamp', 'i101', 'lamp']
  histories['c5'] = ['lamp']
  table = pd.DataFrame(
    {'user': list(histories), 'history': list(histories.values())}
  )
  table.to_parquet(tmp_path / 'h.parquet', row_group_size=10)
  table.to_json(tmp_path / 'h.jsonl', orient='records', lines=True)
  expected = {
    user: shop.recommend(history, 4, strict=False)
    for user, history in histories.items()
  }
  num_popular = sum(x.fallback == 'popular' for x in expected.values())
  for name in ('h.parquet', 'h.jsonl'):
    out = tmp_path / f'{name}.out'
    counts = recommend_all(
      shop.snapshot, out, histories=tmp_path / name, k=4, batch_size=8
    )
    assert counts == (37, 148, num_popular, 3)
    assert num_popular >= 2
    assert_equal(
      lists(read(out)),
      {
        user: [(x.item_id, x.title, x.score) for x in items]
        for user, items in expected.items()
      },
    )


def test_a_bundle_recommends_for_a_file(tmp_path):
  shop = make_shop(make_model())
  shop.remove_items(['i103', 'i105'])
  shop.update_titles({'i101': 'Lamp'})
  shop.add_items([NewItem('n0', 'New', vector=np.ones(4))])
  shop.save_bundle(tmp_path / 'bundle')
  loaded = Recommender.from_bundle(tmp_path / 'bundle')
  path = tmp_path / 'h.jsonl'
  path.write_text('{"user": 7, "history": ["i105", "n0"]}\n')
  recommend_all(loaded.snapshot, tmp_path / 'out', histories=path, k=20)
  expected = shop.recommend(['i105', 'n0'], 20)
  found = lists(read(tmp_path / 'out'))
  assert_equal(found, {'7': [(x.item_id, x.title, x.score) for x in expected]})
  assert len(found['7']) == 13
  with pytest.raises(UsageError, match='no histories: give --histories=FILE'):
    recommend_all(loaded.snapshot, tmp_path / 'other')
  assert not (tmp_path / 'other').exists()


def test_several_devices_give_the_same_rows(model, tmp_path):
  old = model.session
  session = Session.open(old.config, old.inputs)
  assert session.mesh.size == len(jax.devices()) == 8
  shop = make_shop(dataclasses.replace(model, session=session))
  # 3 is rounded up to 8, the number of devices.
  recommend_all(shop.snapshot, tmp_path / 'a', k=5, batch_size=3)
  assert_equal(
    lists(read(tmp_path / 'a')),
    expected_lists(make_shop(model), 5, Options()),
  )


@given(st.integers(1, 10**9), st.integers(1, 2**14))
def test_a_part_bounds_the_rows(num_users, k):
  size = part_size(num_users, k)
  assert size & (size - 1) == 0
  assert size * k <= 2**18
  # Each limit is reached up to a factor of two.
  wanted = max(job._MIN_USERS, num_users // 64)
  assert 2 * size > min(wanted, 2**18 // k)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'k': 0}, 'k is 0: choose at least 1'),
    ({'batch_size': 0}, 'batch_size is 0: choose 1 to 1048576'),
    ({'options': Options(deny=['lamp'])}, "no item 'lamp' in the catalog"),
  ],
)
def test_wrong_arguments_are_refused(model, tmp_path, arguments, message):
  with pytest.raises(UsageError, match=message):
    recommend_all(make_shop(model).snapshot, tmp_path / 'out', **arguments)
  assert not (tmp_path / 'out').exists()


def test_long_lists_of_seen_items_make_smaller_searches(model, monkeypatch):
  shop = make_shop(model)
  query = job.Query.of(shop.snapshot, 3, Options(exclude_seen=True))
  sizes = []
  monkeypatch.setattr(
    job.Query, 'max_histories', lambda _, longest: 2 if longest > 5 else 8
  )
  search = job.Query.search

  def searched(query, histories, users, batch_sizes, widths):
    sizes.append((max(map(len, histories)), batch_sizes))
    return search(query, histories, users, batch_sizes, widths)

  monkeypatch.setattr(job.Query, 'search', searched)
  part = job.RunHistories(shop.snapshot).read(0, NUM_USERS)
  done = []
  rows, _ = job.search_part(query, part, 8, done.append)
  assert sum(done) == NUM_USERS and (rows >= 0).all()
  assert {size for _, (size,) in sizes} >= {8, 2}
  assert all(longest <= 5 or size == 2 for longest, (size,) in sizes)
