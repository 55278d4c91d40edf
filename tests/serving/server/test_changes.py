"""Tests of changes of the catalog and the model while the server runs."""

import concurrent.futures
import dataclasses
import gc
import threading
import weakref

import pytest

from tests.serving import shop as shops
from tests.serving.server import conftest, live
from tiger_jax.config import EmbeddingConfig
from tiger_jax.errors import CheckpointError
from tiger_jax.semantic_ids import collisions, tokenizer
from tiger_jax.serving.server import edits, models

HISTORY = ['i101', 'i105', 'i106']


@pytest.fixture(name='own')
def _own(shop, root):
  """A server for one test, which changes its catalog."""
  with live.serving(shop, root) as server:
    yield server


def new_item(item, value=0.5):
  return {'id': item, 'title': f'New {item}', 'vector': [value] * conftest.DIM}


def ids_of(reply):
  assert reply.status == 200, reply.body
  return [x['item_id'] for x in reply.body['items']]


def reaches(server, item):
  return ids_of(server.recommend(HISTORY, 1, options={'allow': [item]}))


def test_added_items_are_recommended_and_removed_items_are_not(own):
  reply = own.admin(
    'POST', '/admin/items', {'items': [new_item('n1'), new_item('n2', -1)]}
  )
  assert ids_of(reply) == ['n1', 'n2']
  assert reply.body['catalog'] == 2
  for item in ('n1', 'n2'):
    assert reaches(own, item) == [item]
    details = own.ask('GET', f'/v1/items/{item}').body
    assert (details['title'], details['catalog']) == (f'New {item}', 2)
  reply = own.recommend([*HISTORY, 'n1'], 100)
  assert set(ids_of(reply)) == {f'i{100 + i}' for i in range(14)} | {'n1', 'n2'}
  assert reply.body['catalog'] == 2

  reply = own.admin('DELETE', '/admin/items', {'ids': ['n1', 'i103']})
  assert (reply.status, reply.body['num_items']) == (200, 14)
  reply = own.recommend([*HISTORY, 'n1'], 100)
  assert not {'n1', 'i103'} & set(ids_of(reply))
  assert reply.body['catalog'] == 3
  assert own.ask('GET', '/v1/items/n1').code == 'unknown_item'


def test_the_first_addition_compiles_nothing(shop, root):
  programs = tokenizer._codes, collisions._distances
  for program in programs:
    program.clear_cache()
  with live.serving(shop, root) as server:
    compiled = [x._cache_size() for x in programs]
    assert min(compiled) > 0
    items = [new_item(f'n{i}', 1 / (1 + i)) for i in range(5)]
    reply = server.admin('POST', '/admin/items', {'items': items})
    assert ids_of(reply) == [f'n{i}' for i in range(5)]
    assert [x._cache_size() for x in programs] == compiled


def test_titles_are_changed(own):
  reply = own.admin('POST', '/admin/titles', {'titles': {'i101': 'Lamp'}})
  assert (reply.status, reply.body['catalog']) == (200, 2)
  assert own.ask('GET', '/v1/items/i101').body['title'] == 'Lamp'
  assert ids_of(own.ask('GET', '/v1/items?q=lamp')) == ['i101']


def test_a_rollback_undoes_the_last_change_under_a_new_version(own):
  assert own.admin('POST', '/admin/rollback').code == 'conflict'
  before = own.recommend(HISTORY, 5).body
  own.admin('DELETE', '/admin/items', {'ids': [before['items'][0]['item_id']]})
  assert own.recommend(HISTORY, 5).body['items'] != before['items']
  reply = own.admin('POST', '/admin/rollback')
  assert (reply.status, reply.body['catalog']) == (200, 3)
  assert own.recommend(HISTORY, 5).body == before | {'catalog': 3}


@pytest.mark.parametrize(
  ('status', 'code', 'method', 'path', 'body'),
  [
    (409, 'conflict', 'POST', 'items', {'items': [new_item('i101')]}),
    *(
      (422, 'invalid_request', 'POST', 'items', {'items': items})
      for items in (
        [new_item('n1'), new_item('n1')],
        [new_item('n1') | {'vector': [1.0]}],
        [new_item('n1') | {'vector': None}],
        [new_item('n1', 1e300)],
        [new_item('n1', True)],
      )
    ),
    (
      422, 'invalid_request', 'DELETE', 'items',
      {'ids': [f'i{100 + i}' for i in range(14)]},
    ),
    (404, 'unknown_item', 'DELETE', 'items', {'ids': ['i101', 'none']}),
    (404, 'unknown_item', 'POST', 'titles', {'titles': {'none': 'Lamp'}}),
    (409, 'conflict', 'POST', 'reload', {'model': 'corrupt'}),
  ],
)  # fmt: skip
def test_an_impossible_change_changes_nothing(
  server, root, status, code, method, path, body
):
  (root / 'corrupt').mkdir(exist_ok=True)
  before = server.recommend(HISTORY, 5).body
  reply = server.admin(method, f'/admin/{path}', body)
  assert (reply.status, reply.code) == (status, code)
  assert str(root) not in reply.body['message']
  assert 'vector=' not in reply.body['message']
  assert server.recommend(HISTORY, 5).body == before
  assert server.ask('GET', '/readyz').status == 200
  assert 'outcome="refused"}' in server.ask('GET', '/metrics').body


def test_models_are_loaded_by_name(own, root, make_shop, monkeypatch):
  shops = {'second': make_shop(1.5)}

  def load(folder):
    if folder.name not in shops:
      raise CheckpointError(f'{folder}/train is damaged')
    return shops[folder.name]

  monkeypatch.setattr(models, 'load', load)
  for name in ('second', 'third'):
    (root / name).mkdir(exist_ok=True)
  first = own.recommend(HISTORY, 5).body
  reply = own.admin('POST', '/admin/reload', {'model': 'third'})
  assert (reply.status, reply.code) == (409, 'conflict')
  assert reply.body['message'] == 'train is damaged'
  assert own.recommend(HISTORY, 5).body == first

  reply = own.admin('POST', '/admin/reload', {'model': 'second'})
  assert (reply.body['name'], reply.body['catalog']) == ('second', 2)
  second = own.recommend(HISTORY, 5).body
  assert second['model'] == shops['second'].model_version != first['model']
  assert second['items'] != first['items']
  assert own.ask('GET', '/v1/model').body['name'] == 'second'
  own.admin('POST', '/admin/rollback')
  assert own.recommend(HISTORY, 5).body == first | {'catalog': 3}


def test_a_model_without_finite_scores_is_refused(
  server, root, make_shop, monkeypatch
):
  (root / 'broken').mkdir(exist_ok=True)
  monkeypatch.setattr(models, 'load', lambda folder: make_shop(float('nan')))
  reply = server.admin('POST', '/admin/reload', {'model': 'broken'})
  assert (reply.status, reply.code) == (409, 'conflict')
  assert server.recommend(HISTORY, 5).status == 200


@pytest.mark.parametrize(
  'name',
  [
    '..', '.', '../first', '/etc', 'a/b', '~', 'file:///etc', 'a\\b', ' ',
    'http://shop.example/model', 'link', 'nul\0', 'none', '.hidden', '%2e%2e',
    '\u2024\u2024', 'line\nbreak', 'file', 'x' * 101,
  ],
)  # fmt: skip
def test_only_folders_of_the_root_are_loaded(
  server, root, tmp_path, monkeypatch, name
):
  loaded = []
  monkeypatch.setattr(models, 'load', loaded.append)
  if not (root / 'link').exists():
    (root / 'link').symlink_to(tmp_path)
    (root / 'file').write_text('')
    (root / '.hidden').mkdir()
  reply = server.admin('POST', '/admin/reload', {'model': name})
  assert reply.code == (
    'invalid_request' if len(name) > 100 else 'unknown_model'
  )
  assert not loaded


def test_only_new_programs_are_warmed(own, root, make_shop, monkeypatch):
  (root / 'other').mkdir(exist_ok=True)
  other, check, searches = make_shop(1.5), models._check_search, []

  def checked(served, *search):
    searches.append(search)
    check(served, *search)

  monkeypatch.setattr(models, 'load', lambda folder: other)
  monkeypatch.setattr(models, '_check_search', checked)
  for method, path, body in (
    ('POST', 'titles', {'titles': {'i101': 'Lamp'}}),
    ('POST', 'items', {'items': [new_item('n1')]}),
    ('DELETE', 'items', {'ids': ['i100']}),
    ('POST', 'rollback', None),
  ):
    assert own.admin(method, f'/admin/{path}', body).status == 200
    assert searches == [(1,)]
    searches.clear()
  reply = own.admin('POST', '/admin/reload', {'model': 'other'})
  assert reply.status == 200
  assert searches == [(1,), (8,)]


def test_a_catalog_that_has_grown_has_other_programs(shop):
  old = shop.snapshot
  catalog = old.catalog.grown(old.codes[:0], 2 * old.catalog.capacity)
  retriever = old.retriever.with_catalog(catalog)
  new = dataclasses.replace(old, retriever=retriever)
  assert models._same_programs(old, dataclasses.replace(old))
  assert not models._same_programs(old, new)


def test_changes_wait_in_a_bounded_queue(own, monkeypatch):
  release, entered = threading.Event(), threading.Event()
  edit = edits.update_titles

  def wait(shop, titles):
    entered.set()
    assert release.wait(60)
    edit(shop, titles)

  monkeypatch.setattr(edits, 'update_titles', wait)
  size = own.state.settings.max_changes
  with concurrent.futures.ThreadPoolExecutor(size) as pool:
    titles = [f'Lamp {i}' for i in range(size)]
    waiting = [
      pool.submit(own.admin, 'POST', '/admin/titles', {'titles': {'i101': x}})
      for x in titles
    ]
    try:
      assert entered.wait(30)
      live.until(lambda: own.state._num_changes == size)
      reply = own.admin('POST', '/admin/rollback')
      assert (reply.status, reply.code) == (429, 'queue_full')
      assert reply.headers['retry-after'] == '1'
      # Many changes that wait leave the threads of the look-ups free.
      assert own.ask('GET', '/v1/items?q=item').status == 200
    finally:
      release.set()
    versions = sorted(x.result().body['catalog'] for x in waiting)
  assert versions == list(range(2, 2 + size))
  assert own.admin('POST', '/admin/rollback').status == 200


def test_a_request_moves_to_the_slow_lane_if_the_new_model_has_fewer_beams(
  own, monkeypatch
):
  """The number of beams changes between the look-up and the search."""
  fewer = dataclasses.replace(own.state.models.current, catalog=7)
  monkeypatch.setattr(models.Served, 'num_beams', property(beams_of))
  answer, used = own.state.fast._answer, []

  def swap(key, requests):
    own.state.models._current = fewer
    return answer(key, requests)

  monkeypatch.setattr(own.state.fast, '_answer', swap)
  slow = own.state.slow._answer
  monkeypatch.setattr(
    own.state.slow, '_answer', lambda *x: used.append(x) or slow(*x)
  )
  reply = own.recommend(HISTORY, 5)
  assert (len(ids_of(reply)), reply.body['catalog']) == (5, 7)
  assert [key[1] for key, _ in used] == [5]
  assert len(ids_of(own.recommend(HISTORY, 2))) == 2
  assert len(used) == 1


def beams_of(served):
  return 3 if served.catalog == 7 else 10


def test_each_answer_under_load_is_of_one_catalog(own):
  """Items come and go while threads ask. No answer mixes two catalogs."""
  catalogs = {1: {f'i{100 + i}' for i in range(14)}}
  answers, failed, stopped = [], [], threading.Event()

  def ask():
    while not stopped.is_set():
      reply = own.recommend(HISTORY, 100)
      if reply.status != 200:
        failed.append(reply)
        return
      answers.append((reply.body['catalog'], set(ids_of(reply))))

  threads = [threading.Thread(target=ask) for _ in range(3)]
  for thread in threads:
    thread.start()
  for turn in range(6):
    item = f'n{turn}'
    reply = own.admin('POST', '/admin/items', {'items': [new_item(item)]})
    catalogs[reply.body['catalog']] = catalogs[2 * turn + 1] | {item}
    version = 2 * turn + 2
    live.until(lambda x=version: failed or (answers and answers[-1][0] == x))
    reply = own.admin('DELETE', '/admin/items', {'ids': [f'i{100 + turn}']})
    before = catalogs[2 * turn + 2]
    catalogs[reply.body['catalog']] = before - {f'i{100 + turn}'}
  stopped.set()
  for thread in threads:
    thread.join()
  assert not failed
  assert sorted(catalogs) == list(range(1, 14))
  assert len({version for version, _ in answers}) > 2
  for version, items in answers:
    assert items == catalogs[version]


def test_only_the_current_and_the_previous_model_stay_in_memory(
  own, root, make_shop, monkeypatch
):
  (root / 'next').mkdir(exist_ok=True)
  monkeypatch.setattr(models, 'load', lambda folder: make_shop())
  alive = []
  for _ in range(4):
    assert own.admin('POST', '/admin/reload', {'model': 'next'}).status == 200
    alive.append(weakref.ref(own.state.models.current.shop.snapshot))
  gc.collect()
  assert [x() is not None for x in alive] == [False, False, True, True]


def test_the_page_may_add_items_only_in_a_demo(root):
  encoder = EmbeddingConfig('tfidf-svd', dim=conftest.DIM)
  config = dataclasses.replace(conftest.CONFIG, embedding=encoder)
  shop = shops.make_shop(shops.make_model(config))
  settings = dataclasses.replace(live.SETTINGS, demo=True, admin_token=None)
  with live.serving(shop, root, settings) as server:
    assert server.ask('GET', '/v1/model').body['demo'] is True
    body = {'id': 'n1', 'title': 'Lamp', 'text': {'brand': 'Harbor'}}
    assert ids_of(server.ask('POST', '/v1/items', body)) == ['n1']
    assert reaches(server, 'n1') == ['n1']
    assert server.ask('POST', '/v1/items', body).code == 'conflict'
    reply = server.ask('POST', '/v1/items', new_item('n2'))
    assert reply.code == 'invalid_request'
    assert 'vector' in reply.body['message']
