"""The Python API, over a random network: what it answers has to be coherent."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.retrieval import filters, tiger
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.serving.recommender import Options, Recommender
from tiger_jax.serving.terminal import show_proof
from tiger_jax.storage.artefacts import run_stage

NUM_ITEMS = 14


def log_probabilities(config, ids, params, history):
  """Scores every item one by one, by teacher forcing."""
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
  found = recommender.recommend(['i105', 'i101'], NUM_ITEMS)
  expected = log_probabilities(config, ids, params, [5, 1])
  assert [entry.item_id for entry in found] == [
    f'i{100 + row}' for row in np.argsort(-expected)
  ]
  for entry in found:
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
  found = recommender.recommend(['i102', 'i103'], 10)
  assert len({entry.item_id for entry in found}) == len(found) == 10
  scores = [entry.score for entry in found]
  assert scores == sorted(scores, reverse=True)
  assert recommender.recommend(['i102', 'i103'], 3) == found[:3]


def test_returns_ten_items_by_default(recommender):
  assert len(recommender.recommend(['i102'])) == 10


@pytest.mark.parametrize('k', [NUM_ITEMS, 50])
def test_k_may_exceed_the_beams_and_the_catalog(recommender, k):
  found = recommender.recommend(['i102', 'i103'], k)
  assert len(found) == min(k, NUM_ITEMS)
  assert len({entry.item_id for entry in found}) == len(found)
  # And the answer to a smaller request is as it was before.
  assert len(recommender.recommend(['i102', 'i103'], 10)) == 10


def test_a_batch_equals_single_requests(recommender):
  histories = [[5], [5, 1], [0, 1, 2, 3], [13, 13]]
  together = recommender.recommend_rows(histories, NUM_ITEMS)
  for history, found in zip(histories, together, strict=True):
    (alone,) = recommender.recommend_rows([history], NUM_ITEMS)
    by_id = {entry.item_id: entry for entry in alone}
    assert by_id.keys() == {entry.item_id for entry in found}
    for entry in found:
      assert entry.score == pytest.approx(by_id[entry.item_id].score, abs=1e-5)
      assert entry.semantic_id == by_id[entry.item_id].semantic_id


def test_only_the_latest_items_are_read(recommender):
  latest = ['i102', 'i103', 'i104', 'i105']
  long = recommender.recommend(['i100', 'i101', 'i100', *latest], NUM_ITEMS)
  assert long == recommender.recommend(latest, NUM_ITEMS)
  assert long != recommender.recommend(['i101', *latest[1:]], NUM_ITEMS)


def test_the_order_of_the_history_matters(recommender):
  there = recommender.recommend(['i101', 'i109'], 5)
  assert there != recommender.recommend(['i109', 'i101'], 5)


def test_seen_denied_and_allowed_items(recommender):
  history = ['i102', 'i103', 'i105']
  every = [e.item_id for e in recommender.recommend(history, NUM_ITEMS)]
  unseen = [item for item in every if item not in history]

  def found(k=NUM_ITEMS, **options):
    entries = recommender.recommend(history, k, Options(**options))
    return [entry.item_id for entry in entries]

  assert found(exclude_seen=True) == unseen
  assert found(3, exclude_seen=True) == unseen[:3]
  denied = [every[0], every[2]]
  assert found(deny=denied) == [item for item in every if item not in denied]
  allowed = [every[1], every[9], every[4]]
  assert found(allow=allowed) == [every[1], every[4], every[9]]
  assert found(allow=allowed, deny=allowed[:2]) == [every[4]]
  assert found(allow=[]) == found(deny=every) == []
  assert found(exact=True) == every


def test_the_proof_is_reported(recommender):
  # There are more beams than items: nothing was dropped.
  found = recommender.recommend(['i102'], NUM_ITEMS, Options(exact=True))
  assert all(entry.proven for entry in found)
  assert show_proof(found) == (
    'Proven: no other item ranks above any of these 14.'
  )
  assert 'width draws these 14' in show_proof(found, drawn=True)
  unproven = [e._replace(proven=i < 2) for i, e in enumerate(found)]
  assert show_proof(unproven).startswith('Proven for the first 2 of 14:')


def test_items_excluded_from_one_request_stay_in_others(recommender):
  histories = [[5], [5, 1], [0, 1, 2, 3]]
  together = recommender.recommend_rows(
    histories, NUM_ITEMS, options=Options(exclude_seen=True)
  )
  for history, found in zip(histories, together, strict=True):
    rows = {int(entry.item_id[1:]) - 100 for entry in found}
    assert rows == set(range(NUM_ITEMS)) - set(history)


def test_draws(recommender):
  def found(**options):
    return recommender.recommend(['i102'], 5, Options(**options))

  drawn = found(temperature=1.0, seed=7)
  assert len({entry.item_id for entry in drawn}) == 5
  assert found(temperature=1.0, seed=7) == drawn
  assert len({tuple(found(temperature=3.0, seed=s)) for s in range(5)}) > 1
  first = found(temperature=3.0, seed=1, drawn_levels=1)
  assert len({entry.item_id for entry in first}) == 5
  # Scores are the log-probabilities, however items were picked.
  plain = recommender.recommend(['i102'], NUM_ITEMS)
  scores = {entry.item_id: entry.score for entry in plain}
  for entry in (*drawn, *first):
    assert entry.score == pytest.approx(scores[entry.item_id], abs=1e-5)


@pytest.fixture(name='sparse', scope='module')
def _sparse(config):
  """A shop whose items use few of the possible IDs."""
  num, sizes = 60, (32, 32)
  codes = np.random.default_rng(0).permutation(32 * 32)[:num]
  codes = np.stack(np.unravel_index(codes, sizes), 1).astype(np.int32)
  dataset = Dataset(
    'files',
    Items(tuple(map(str, range(num))), dict.fromkeys(FIELDS, ('',) * num)),
    ('ann',),
    np.arange(3, dtype=np.int32),
    np.array([0, 3]),
  )
  ids = SemanticIds(codes, sizes, 1, {})
  task = TigerTask(Tiger(config.model, sizes), jnp.asarray(codes))
  return Recommender(
    Session.open(config, Inputs(dataset, ids)), task.init(jax.random.key(0))
  )


def test_a_draw_widens_until_it_is_proven(sparse, monkeypatch):
  options = Options(temperature=2.0, seed=3)
  # With 64 beams nothing is dropped.
  every = sparse.recommend(['5', '1'], 64, options)
  assert len(every) == 60 and all(entry.proven for entry in every)
  drawn = sparse.recommend(['5', '1'], 5, options)
  assert drawn == every[:5]
  # A search with 10 beams misses some of these, and does not prove them.
  monkeypatch.setattr(tiger, '_MAX_PROOF_BEAMS', 10)
  narrow = sparse.recommend(['5', '1'], 5, options)
  proven = [entry.proven for entry in narrow]
  assert narrow != every[:5] and not all(proven)
  num_proven = sum(proven)
  assert proven == [place < num_proven for place in range(5)]
  assert narrow[:num_proven] == every[:num_proven]
  said = show_proof(narrow, drawn=True)
  assert said.startswith(f'Proven for the first {num_proven} of 5: a wider')
  assert said.endswith('after them. The search is limited to 4,096 beams.')


@pytest.mark.parametrize(
  ('options', 'named'),
  [
    ({'deny': ['i100', 'gone']}, "'gone' in the catalog .1 of 2 in deny"),
    ({'allow': ['gone']}, "'gone' in the catalog .1 of 1 in allow"),
    ({'temperature': 0.0}, 'temperature is 0.0'),
    ({'temperature': float('nan')}, 'temperature is nan'),
    ({'temperature': 1.0, 'drawn_levels': 0}, 'drawn_levels is 0'),
    ({'temperature': 1.0, 'seed': -1}, 'seed is -1'),
    ({'drawn_levels': 1}, 'set a temperature too'),
    ({'seed': 5}, 'set a temperature too'),
    ({'temperature': 1e-38}, 'temperature is 1e-38'),
    ({'temperature': 1.0, 'drawn_levels': 9}, 'Semantic IDs have [23] codes'),
  ],
)
def test_invalid_options_are_refused(recommender, options, named):
  with pytest.raises(UsageError, match=named):
    recommender.recommend(['i100'], 3, Options(**options))


def test_many_histories_are_split_into_batches(recommender):
  histories = [[i % NUM_ITEMS] for i in range(131)]
  found = recommender.recommend_rows(histories, 3)
  assert len(found) == 131
  for i in (0, 127, 128, 130):
    ids = [entry.item_id for entry in found[i]]
    alone = recommender.recommend([f'i{100 + i % NUM_ITEMS}'], 3)
    assert ids == [entry.item_id for entry in alone]


@pytest.mark.parametrize(
  ('history', 'k', 'named'),
  [
    ([], 10, 'history is empty'),
    (['i100', 'nowhere'], 10, "'nowhere' in the catalog .1 of 2"),
    (['x', 'y'], 10, "'x' in the catalog .2 of 2"),
    ([''], 10, "''"),
    (['i100'], 0, 'k is 0'),
    (['i100'], -1, 'k is -1'),
  ],
)
def test_invalid_requests_are_refused(recommender, history, k, named):
  with pytest.raises(UsageError, match=named) as error:
    recommender.recommend(history, k)
  assert '\n' not in str(error.value)


def test_an_unknown_item_gets_example_or_similar_ids(recommender):
  with pytest.raises(UsageError, match="ids look like 'i100'"):
    recommender.recommend(['B00ZZZZ'])
  with pytest.raises(UsageError, match="did you mean 'i1"):
    recommender.recommend(['i10O'])


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(CheckpointError, match='run --mode=train'):
    Recommender.from_workdir(tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.fixture(name='with_user_tokens', scope='module')
def _with_user_tokens(config, dataset, ids):
  model = dataclasses.replace(config.model, num_user_tokens=7)
  config = dataclasses.replace(config, model=model)
  task = TigerTask(Tiger(model, ids.level_sizes), jnp.asarray(ids.codes))
  return Recommender(
    Session.open(config, Inputs(dataset, ids)), task.init(jax.random.key(0))
  )


def test_models_with_user_tokens_accept_unknown_users(with_user_tokens):
  """Requests come from anybody, also where training knew its users."""
  assert len(with_user_tokens.recommend(['i100'])) == 10


def test_recommend_for_user_reads_the_whole_history(
  recommender, with_user_tokens
):
  # All of cem's five events, the last two included, which training held out.
  history = ['i103', 'i102', 'i101', 'i100', 'i104']
  options = Options(exclude_seen=True)
  expected = recommender.recommend(history, 5, options)
  assert recommender.recommend_for_user('cem', 5, options) == expected
  assert recommender.recommend(history[:-1], 5, options) != expected
  # A user token changes the scores.
  found = with_user_tokens.recommend_for_user('cem', NUM_ITEMS)
  rows = [[3, 2, 1, 0, 4]]
  assert [found] == with_user_tokens.recommend_rows(rows, NUM_ITEMS, [2])
  assert [found] != with_user_tokens.recommend_rows(rows, NUM_ITEMS, [1])
  assert found != with_user_tokens.recommend(history, NUM_ITEMS)


@pytest.mark.parametrize(
  ('user', 'message'),
  [
    ('Bob', "no user 'Bob' in the data of the run: did you mean 'bob'?"),
    ('zoe', "no user 'zoe' in the data of the run: ids look like 'ann'"),
    (7, "no user '7'"),
    (None, r'user\[0\] is None: pass text'),
    (['ann'], r"user\[0\] is \['ann'\]"),
  ],
)
def test_an_unknown_user_is_refused(recommender, user, message):
  with pytest.raises(UsageError, match=message):
    recommender.recommend_for_user(user)


def test_mixed_requests_compile_nothing_new(recommender, monkeypatch):
  """Batches, lengths, lists, temperatures, seeds and k of every kind."""
  # Draws that are not proven would need programs of another width.
  monkeypatch.setattr(tiger, '_MAX_PROOF_BEAMS', 10)

  def ask(num_histories, length, k, **options):
    histories = [[i % NUM_ITEMS] * length for i in range(num_histories)]
    found = recommender.recommend_rows(histories, k, options=Options(**options))
    assert len(found) == num_histories

  def ask_all(num_histories, length, k, temperature):
    ask(num_histories, length, k)
    ask(num_histories, length, k, deny=[f'i{100 + k}'], exclude_seen=True)
    ask(num_histories, length, k, temperature=temperature, seed=k)

  for num_histories in (1, 8, 32):
    for length in (2, 4):
      ask_all(num_histories, length, 10, 1.0)
  compiled = tiger._search._cache_size()
  for num_histories, length, k in ((7, 1, 3), (2, 3, 9), (31, 9, 1), (1, 1, 7)):
    ask_all(num_histories, length, k, 0.5 + k)
    ask(num_histories, length, k, allow=['i100', 'i103'])
  assert tiger._search._cache_size() == compiled


def test_searches_are_split_to_bound_memory(recommender, monkeypatch):
  histories = [[i % NUM_ITEMS, 3] for i in range(20)]
  options = Options(deny=['i100'])
  expected = recommender.recommend_rows(histories, 12, options=options)
  asked = []
  search = tiger._search

  def watched(model, num_beams, constrained, params, catalog, *rest):
    asked.append((len(rest[0].user), num_beams, rest[1].rows.size))
    return search(model, num_beams, constrained, params, catalog, *rest)

  monkeypatch.setattr(tiger, '_search', watched)
  for module, name, most, number in (
    (tiger, '_MAX_TOTAL_BEAMS', 160, 8),
    (filters, '_MAX_LISTED', 8 * 32, 8),
    (tiger, '_MAX_TOTAL_BEAMS', 20, 1),
  ):
    asked.clear()
    with monkeypatch.context() as patch:
      patch.setattr(module, name, most)
      found = recommender.recommend_rows(histories, 12, options=options)
    assert {rows for rows, _, _ in asked} == {number}
    assert {num_beams for _, num_beams, _ in asked} == {20}
    for one, other in zip(found, expected, strict=True):
      assert [x.item_id for x in one] == [x.item_id for x in other]
      scores = [x.score for x in other]
      assert [x.score for x in one] == pytest.approx(scores, abs=1e-5)


def test_k_above_the_maximum_number_of_beams_is_refused(
  recommender, monkeypatch
):
  monkeypatch.setattr(tiger, '_MAX_TOTAL_BEAMS', 12)
  assert len(recommender.recommend(['i100'], 12)) == 12
  with pytest.raises(UsageError, match='k is 13: ask for 12 items at most'):
    recommender.recommend(['i100'], 13)


def test_ids_of_another_catalog_are_refused(config, dataset, ids, params):
  fewer = dataclasses.replace(ids, codes=ids.codes[1:])
  with pytest.raises(UsageError, match='13 Semantic IDs .* 14 items'):
    Recommender(Session.open(config, Inputs(dataset, fewer)), params)


def test_a_model_is_served_from_stages_that_were_replaced(trained, tmp_path):
  """The data and IDs in the workdir are those of another config."""
  workdir = shutil.copytree(trained, tmp_path / 'run')
  expected = Recommender.from_workdir(workdir).recommend(['A001'], 3)
  for name in ('data', 'semantic_ids', 'embedding'):
    run_stage(workdir, name, 64 * 'f', lambda folder: None, about={})
  assert not list((workdir / 'data').glob('*.npz'))
  assert Recommender.from_workdir(workdir).recommend(['A001'], 3) == expected
  (aside,) = workdir.glob('semantic_ids.*')
  shutil.rmtree(aside)
  with pytest.raises(
    CheckpointError, match='semantic_ids is missing, or is not'
  ):
    Recommender.from_workdir(workdir)


def test_a_record_cannot_point_outside_the_workdir(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / 'run')
  record = json.loads((workdir / 'train/stage.json').read_text())
  for wanted in ('/../../x', 5, None, 64 * 'F'):
    record['about']['data'] = wanted
    (workdir / 'train/stage.json').write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match='data is missing, or is not'):
      Recommender.from_workdir(workdir)
