"""Tests of changes of the catalog."""

import sys
import types

import numpy as np
import pytest

from tests.serving.conftest import NUM_ITEMS
from tests.serving.shop import DIM, VECTORS, make_shop, with_weight
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import EmbeddingConfig
from tiger_jax.errors import UsageError
from tiger_jax.retrieval import tiger
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Item, NewItem

# Near the vectors of three existing items, whose prefixes have free codes.
NEW = [
  NewItem(f'n{i}', f'New {i}', vector=VECTORS[row] + 0.01)
  for i, row in enumerate((0, 1, 4))
]
HISTORY = ['i105', 'i101']


def ranked(shop, history=HISTORY, k=50, **options):
  return [x.item_id for x in shop.recommend(history, k, Options(**options))]


def test_new_items_are_recommended_without_compilation(shop):
  def request(item):
    """Returns items for a history with an item, and the item alone."""
    return shop.recommend([item], 5), shop.recommend(
      HISTORY, 5, Options(allow=[item])
    )

  others, _ = request('i100')
  compiled = tiger._search._cache_size()
  before = shop.snapshot
  items = shop.add_items(NEW)
  assert [x[:2] for x in items] == [('n0', 'New 0'), ('n1', 'New 1'),
                                    ('n2', 'New 2')]  # fmt: skip
  # The IDs are those of the tokenizer, and existing IDs do not change.
  ids = shop.snapshot.model.session.inputs.semantic_ids
  vectors = np.stack([x.vector for x in NEW])
  assigned = shop.snapshot.model.tokenizer.assign(vectors, ids)
  assert assigned.level_sizes == ids.level_sizes
  np.testing.assert_array_equal(shop.snapshot.codes, assigned.codes)
  for item, codes in zip(items, assigned.codes[NUM_ITEMS:], strict=True):
    assert shop.item(item.item_id) == item
    assert item.semantic_id == shop.semantic_id(item.item_id) == tuple(codes)
    assert shop.item_of(item.semantic_id) == item.item_id
    # New items may be in histories, and influence the answer.
    own, (only,) = request(item.item_id)
    assert (only.item_id, only.title) == (item.item_id, item.title)
    assert only.semantic_id == item.semantic_id
    assert len(own) == 5 and own != others
  assert tiger._search._cache_size() == compiled
  assert (shop.catalog_version, shop.num_items) == (2, NUM_ITEMS + 3)
  assert (before.catalog_version, before.num_items) == (1, NUM_ITEMS)


def test_removed_items_are_not_recommended(shop):
  removed = ['i103', 'i107', 'i110']
  expected = [x for x in ranked(shop) if x not in removed]
  with_removed = ranked(shop, ['i103', 'i102'])
  shop.remove_items(removed)
  assert ranked(shop) == expected
  assert shop.num_items == NUM_ITEMS - 3
  # Histories and filters may still contain them.
  assert ranked(shop, ['i103', 'i102']) == [
    x for x in with_removed if x not in removed
  ]
  assert ranked(shop, allow=['i103', 'i104']) == ['i104']
  assert ranked(shop, deny=['i103', 'i104']) == [
    x for x in expected if x != 'i104'
  ]
  assert set(ranked(shop, temperature=2.0, seed=1)) == set(expected)
  assert set(ranked(shop, [])) == set(expected)
  for users in (['ann', 'cem'],):
    for items in shop.recommend_users(users, 50):
      assert {x.item_id for x in items} == set(expected)
  assert not {x.item_id for x in shop.similar_items('i100', 50)} & set(removed)
  assert not {x.item_id for x in shop.search_titles('i10', 50)} & set(removed)
  for call in (shop.item, shop.semantic_id, shop.similar_items):
    with pytest.raises(UsageError, match="'i103' was removed from the catalog"):
      call('i103')
  with pytest.raises(UsageError, match="'i103' was removed"):
    shop.remove_items(['i104', 'i103'])
  with pytest.raises(UsageError, match="no item 'x' in the catalog"):
    shop.remove_items(['x'])
  with pytest.raises(UsageError, match='keep at least one'):
    shop.remove_items(expected)
  assert (shop.catalog_version, ranked(shop)) == (2, expected)


def test_a_removed_id_may_be_used_again(shop):
  old = shop.item('i103')
  shop.remove_items(['i103'])
  assert shop.item_of(old.semantic_id) is None
  new = NewItem('i103', 'Second life', vector=VECTORS[3])
  (item,) = shop.add_items([new])
  # The Semantic ID of a removed item is free.
  assert item == Item('i103', 'Second life', old.semantic_id)
  assert ranked(shop, allow=['i103']) == ['i103']
  assert shop.item_of(item.semantic_id) == 'i103'
  assert ranked(shop).count('i103') == 1
  # The history of 'cem' begins with this item.
  (items,) = shop.recommend_users(['cem'], 50, Options(exclude_seen=True))
  assert 'i103' not in {x.item_id for x in items}


def test_titles_change(shop):
  before = shop.snapshot
  shop.update_titles({'i101': 'Blue  lamp\n', 'i103': 'No longer empty'})
  assert [shop.item(x).title for x in ('i101', 'i103', 'i102')] == [
    'Blue lamp', 'No longer empty', 'Item 2',
  ]  # fmt: skip
  (entry,) = shop.recommend(HISTORY, 1, Options(allow=['i101']))
  assert entry.title == shop.search_titles('blue')[0].title == 'Blue lamp'
  assert (before.title(1), shop.catalog_version) == ('Item 1', 2)
  for titles, message in (
    ({'i101': ' '}, "the title of item 'i101' is ' '"),
    ({'i102': 'x', 'nowhere': 'y'}, "no item 'nowhere'"),
  ):
    with pytest.raises(UsageError, match=message):
      shop.update_titles(titles)
  assert (shop.item('i102').title, shop.catalog_version) == ('Item 2', 2)


def test_no_change_keeps_the_version(shop):
  shop.add_items([])
  shop.remove_items([])
  shop.update_titles({})
  assert shop.catalog_version == 1


@pytest.mark.parametrize(
  ('items', 'message'),
  [
    (
      [NewItem('a', 'A', vector=[0.0] * 3)],
      r"item 'a' has shape \[3\]: pass 4",
    ),
    ([NewItem('a', 'A', vector=[[0.0] * 4])], r'has shape \[1, 4\]'),
    ([NewItem('a', 'A', vector=[0, 0, 0, np.nan])], "'a' is not finite"),
    ([NewItem('a', 'A', vector=[0, 0, 0, 1e300])], "'a' is not finite"),
    ([NewItem('a', 'A', vector='blue')], "vector of item 'a' is 'blue'"),
    ([NewItem('a', 'A', vector=[[1], [1, 2]])], "vector of item 'a' is"),
    ([NewItem('a', 'A', {}, [0.0] * 4)], "'a' has a text and a vector"),
    ([NewItem('a', '', vector=[0.0] * 4)], "the title of item 'a' is ''"),
    ([NewItem('a', '\n', vector=[0.0] * 4)], "the title of item 'a'"),
    ([NewItem('a', 'A', {'title': 'B'})], "'title': pass it as title="),
    ([NewItem('a', 'A', {'brnd': 'B'})], "'brnd': did you mean brand"),
    ([NewItem('a', 'A')], "'sentence-transformers' cannot be imported"),
    ([NewItem('i104', 'A', vector=[0.0] * 4)], "'i104' exists already"),
    ([*NEW, NewItem('n1', 'A')], "id 'n1' occurs twice"),
    ([NewItem('', 'A')], "the id '' is empty"),
    ([NewItem('a\x1b', 'A')], 'has control characters'),
    ([NewItem(1.5, 'A')], r'ids of the new items\[0\] is 1.5'),
  ],
)
def test_wrong_new_items_are_refused(shop, monkeypatch, items, message):
  monkeypatch.setitem(sys.modules, 'sentence_transformers', None)
  shop.snapshot.model.__dict__.pop('encode', None)
  with pytest.raises(UsageError, match=message) as error:
    shop.add_items(items)
  assert '\n' not in str(error.value)
  assert (shop.catalog_version, shop.num_items) == (1, NUM_ITEMS)


def test_an_encoder_without_new_text_names_the_argument(model, monkeypatch):
  config = EmbeddingConfig(encoder='precomputed')
  shop = make_shop(model)
  run = shop.snapshot.model.session.config
  monkeypatch.setitem(run.__dict__, 'embedding', config)
  with pytest.raises(
    UsageError, match="'precomputed' .* cannot encode .*vector="
  ):
    shop.add_items([NewItem('a', 'A', {'brand': 'B'})])


def test_text_is_encoded_as_in_the_run(shop, monkeypatch):
  sentences, loaded = [], []

  class SentenceTransformer:
    def __init__(self, name, **options):
      loaded.append(name)

    def encode(self, texts, **options):
      sentences.extend(texts)
      return np.tile(VECTORS[5] + 0.01, (len(texts), 1))

  fake = types.ModuleType('sentence_transformers')
  monkeypatch.setattr(fake, 'SentenceTransformer', SentenceTransformer, False)
  monkeypatch.setitem(sys.modules, 'sentence_transformers', fake)
  monkeypatch.setattr(
    'tiger_jax.embedding.encoders._hub_answers', lambda *args: False
  )
  shop.snapshot.model.__dict__.pop('encode', None)
  text = {'price': '$3', 'brand': 'Acme', 'categories': [['Home', 'Light']]}
  items = shop.add_items([
    NewItem('lamp', 'Lamp', text), NewItem('n9', 'N', vector=VECTORS[2]),
    NewItem(7, 'Seven'),
  ])  # fmt: skip
  shop.add_items([NewItem('mug', 'Mug')])
  assert sentences == [
    'Title: Lamp; Price: 3.00; Brand: Acme; Categories: Home > Light',
    'Title: Seven', 'Title: Mug',
  ]  # fmt: skip
  assert len(loaded) == 1
  near = {x.item_id for x in shop.similar_items('lamp', 2)}
  assert near == {'7', 'mug'} and items[2].item_id == '7'
  np.testing.assert_array_equal(
    shop.snapshot.vectors(np.array([15, 2])), VECTORS[[2, 2]]
  )
  shop.snapshot.model.__dict__.pop('encode')


def test_a_full_catalog_grows(model):
  session = model.session
  ids = session.inputs.semantic_ids
  tight = Catalog.from_codes(ids.codes, ids.level_sizes, capacity=NUM_ITEMS + 1)
  shop = make_shop(type(model)(session.with_catalog(tight), *_rest(model)))
  shop.remove_items(['i102'])
  shop.add_items(NEW)
  assert set(ranked(shop)) == {
    *(f'i{100 + i}' for i in range(NUM_ITEMS) if i != 2), 'n0', 'n1', 'n2',
  }  # fmt: skip
  assert ranked(shop, ['i102'])
  assert ranked(shop, allow=['n2']) == ['n2']


def _rest(model):
  return (
    model.params, model.dataset, model.read_vectors, model.read_tokenizer,
  )  # fmt: skip


def test_a_mixture_has_no_transitions_to_new_items(model):
  shop = make_shop(with_weight(model, 0.6))
  plain = Options(transition_weight=0)
  # In the training data, item 107 follows item 106.
  share = {x.item_id: x.score for x in shop.recommend(['i106'], 50)}
  own = {x.item_id: x.score for x in shop.recommend(['i106'], 50, plain)}
  assert share['i107'] > own['i107']
  shop.add_items(NEW)
  share = {x.item_id: x.score for x in shop.recommend(['i106'], 50)}
  own = {x.item_id: x.score for x in shop.recommend(['i106'], 50, plain)}
  assert share['n0'] - own['n0'] == pytest.approx(np.log(0.4), abs=1e-4)
  # The last item of this history has no transitions.
  assert shop.recommend(['n1'], 50) != []
  assert len(shop.recommend(['n1'], 50)) == NUM_ITEMS + 3


def test_a_failed_preparation_keeps_the_catalog(shop, monkeypatch):
  def fail(snapshot):
    assert snapshot.num_items == NUM_ITEMS + 3
    raise UsageError('out of memory')

  monkeypatch.setattr(type(shop.snapshot), 'prepare', fail)
  with pytest.raises(UsageError, match='out of memory'):
    shop.add_items(NEW)
  assert (shop.catalog_version, shop.num_items) == (1, NUM_ITEMS)
  assert DIM == 4
