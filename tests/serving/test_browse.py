"""Tests of look-ups in the catalog, against brute force."""

import dataclasses
import re

import numpy as np
import pytest

from tests.serving.conftest import NUM_ITEMS
from tests.serving.shop import VECTORS, make_shop
from tiger_jax.errors import UsageError
from tiger_jax.serving import browse
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import NewItem
from tiger_jax.serving.snapshot import Snapshot


def num_shared(one, other):
  shared = 0
  for a, b in zip(one, other, strict=True):
    if a != b:
      break
    shared += 1
  return shared


def cosine(one, other):
  return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


@pytest.mark.parametrize('k', [1, 5, 50])
def test_similar_items_equal_brute_force(shop, k):
  shop.remove_items(['i104'])
  shop.add_items([NewItem('n0', 'New', vector=2 * VECTORS[6] + 0.1)])
  vectors = {f'i{100 + i}': x.astype(float) for i, x in enumerate(VECTORS)}
  vectors['n0'] = (2 * VECTORS[6] + 0.1).astype(float)
  del vectors['i104']
  for item in vectors:
    own = shop.semantic_id(item)
    expected = sorted(
      (
        (-num_shared(own, shop.semantic_id(x)), -cosine(vectors[item], v), x)
        for x, v in vectors.items()
        if x != item
      ),
    )
    actual = shop.similar_items(item, k)
    assert len(actual) == min(k, NUM_ITEMS - 1)
    for entry, (shared, similarity, other) in zip(
      actual, expected[:k], strict=True
    ):
      assert entry[:3] == shop.item(other)
      assert entry.num_shared == -shared
      assert entry.similarity == pytest.approx(-similarity, abs=1e-6)


def test_without_vectors_similar_items_are_in_row_order(model):
  model = dataclasses.replace(model, read_vectors=lambda: None)
  shop = make_shop(model)
  own = shop.semantic_id('i102')
  others = [f'i{100 + i}' for i in range(NUM_ITEMS) if i != 2]
  others.sort(key=lambda x: -num_shared(own, shop.semantic_id(x)))
  assert [x.item_id for x in shop.similar_items('i102', 50)] == others
  assert shop.similar_items('i102', 1)[0].similarity is None


def test_every_semantic_id_has_at_most_one_item(shop):
  sizes = shop.snapshot.catalog.level_sizes
  owners = {shop.semantic_id(f'i{100 + i}'): f'i{100 + i}' for i in range(14)}
  assert len(owners) == NUM_ITEMS
  for codes in np.ndindex(*sizes):
    assert shop.item_of(codes) == owners.get(codes)
  assert shop.item_of(np.array([0, 0])) is None
  assert shop.item_of([99, 0, 0]) is None


def test_titles_are_found_by_the_beginnings_of_words(shop):
  shop.update_titles({
    'i100': 'Blue-Green LAMP', 'i101': 'Green lamp shade', 'i106': 'A lamp',
    'i107': 'Clamp, straße', 'i110': "Chef's green knife",
  })  # fmt: skip

  def found(text, k=20):
    return [x.item_id for x in shop.search_titles(text, k)]

  # Items 100 and 101 have two events each, and the others have one.
  assert found('lamp') == ['i100', 'i101', 'i106']
  assert found('GREEN la') == ['i100', 'i101']
  assert found('lam', 1) == ['i100']
  assert found('een') == found('lamp mug') == []
  assert found('STRASSE') == ['i107']
  assert found('i10') == [f'i10{i}' for i in (0, 1, 2, *range(3, 10))]
  assert found('blue-green') == ['i100'] and found("chef's") == ['i110']
  assert found('lamp LAMP la lamp') == found('la lamp') == found('lamp')
  # The exact id comes first.
  shop.add_items([NewItem('i1', 'X', vector=VECTORS[0])])
  assert found('I1')[0] == 'i1' and len(found('i1')) == NUM_ITEMS + 1
  # A text without a word matches no title.
  assert found('') == found(' \n') == found('-') == []
  shop.remove_items(['i100'])
  assert found('lamp') == ['i101', 'i106']


def test_searches_equal_brute_force(model):
  """Titles of few words, so that most of the words occur in many titles."""
  rng = np.random.default_rng(0)
  vocabulary = np.array(['Lamp', 'la', 'LAMP-x', '_b', 'ß', 'é☕', 'b2', ''])
  titles = {
    f'i{100 + i}': ' '.join(rng.choice(vocabulary, 3)) + '!' for i in range(14)
  }
  shop = make_shop(model)
  shop.update_titles(titles)
  shop.remove_items(['i102', 'i109'])
  # Each addition extends the index of the text.
  for new in ({'B2': 'Lamp b2'}, {'c1': 'LAMP-x la', 'X': 'la lamp b2'}):
    shop.add_items([NewItem(*x, vector=VECTORS[0]) for x in new.items()])
    titles |= new
  popular = [x.item_id for x in shop.recommend([], 50)]

  def words(text):
    return re.sub(r'[\W_]', ' ', text.casefold()).split()

  for query in ('la', 'lamp b', 'b lamp', 'X la', 'ss la b', 'É', 'i1', 'b2'):
    by_id = [x for x in popular if x.casefold().startswith(query.casefold())]
    by_title = [
      x
      for x in popular
      if all(
        any(own.startswith(word) for own in words(titles[x]))
        for word in words(query)
      )
    ]
    expected = list(dict.fromkeys([*by_id, *by_title]))
    for k in (1, 3, 50):
      actual = [x.item_id for x in shop.search_titles(query, k)]
      assert actual == expected[:k], query


def test_the_index_of_titles_is_made_before_the_first_search(shop):
  index = shop.snapshot.__dict__['searchable']
  shop.remove_items(['i100'])
  assert shop.snapshot.__dict__['searchable'] is index
  shop.update_titles({'i101': 'Lamp'})
  assert shop.snapshot.__dict__['searchable'] is not index
  shop.add_items([NewItem('n0', 'Lamp', vector=VECTORS[0])])
  assert [x.item_id for x in shop.search_titles('lamp')] == ['i101', 'n0']


def test_similarity_copies_a_bounded_part_of_the_vectors(shop, monkeypatch):
  expected = shop.similar_items('i100', 13)
  monkeypatch.setattr(browse, '_PART', 4)
  sizes, read = [], Snapshot.vectors

  def vectors(snapshot, rows):
    sizes.append(len(rows))
    return read(snapshot, rows)

  monkeypatch.setattr(Snapshot, 'vectors', vectors)
  assert shop.similar_items('i100', 13) == expected
  assert max(sizes) == 4 and sum(sizes) == NUM_ITEMS


def test_large_and_zero_vectors_have_a_similarity(model):
  vectors = VECTORS.copy()
  vectors[3] *= 1e30
  vectors[4] = 0
  shop = make_shop(dataclasses.replace(model, read_vectors=lambda: vectors))
  cosines = {x.item_id: x.similarity for x in shop.similar_items('i100', 13)}
  assert cosines['i103'] == pytest.approx(cosine(VECTORS[0], VECTORS[3]), 1e-5)
  assert cosines['i104'] == 0
  assert shop.similar_items('i100', 0) == []


def test_popular_items_are_ordered_by_their_events(shop):
  counts = dict.fromkeys((f'i{100 + i}' for i in range(NUM_ITEMS)), 0)
  dataset = shop.dataset
  for row in dataset.history.tolist():
    counts[dataset.items.ids[row]] += 1
  expected = sorted(counts, key=lambda x: (-counts[x], x))
  popular = shop.recommend([], 50)
  assert [x.item_id for x in popular] == expected
  assert popular.fallback == 'popular' and all(x.proven for x in popular)
  for entry in popular:
    share = (counts[entry.item_id] + 1) / (len(dataset.history) + NUM_ITEMS)
    assert entry.score == pytest.approx(np.log(share))
    assert entry[:2] + (entry.semantic_id,) == shop.item(entry.item_id)
  assert shop.recommend([], 3) == popular[:3]
  options = Options(deny=expected[:2], exclude_seen=True)
  assert shop.recommend([], 3, options) == popular[2:5]
  options = Options(allow=['i113', expected[0]])
  assert [x.item_id for x in shop.recommend([], 3, options)] == [
    expected[0], 'i113',
  ]  # fmt: skip
  drawn = [
    [
      x.item_id
      for x in shop.recommend([], 50, Options(temperature=1.0, seed=i))
    ]
    for i in range(20)
  ]
  assert all(sorted(x) == sorted(expected) for x in drawn)
  assert len({x[0] for x in drawn}) > 3
  # At a low temperature, the noise does not change the order of the counts.
  cold = shop.recommend([], 50, Options(temperature=1e-3, seed=4))
  assert [counts[x.item_id] for x in cold] == [counts[x] for x in expected]


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda shop: shop.similar_items('x'), "no item 'x' in the catalog"),
    (lambda shop: shop.similar_items('x', 0), "no item 'x' in the catalog"),
    (lambda shop: shop.similar_items('i100', -1), 'k is -1'),
    (lambda shop: shop.search_titles('x', 0), 'k is 0'),
    (lambda shop: shop.item('i10O'), "did you mean 'i1"),
    (lambda shop: shop.item_of([0, -1, 0]), r'semantic_id\[1\] is -1'),
  ],
)
def test_wrong_look_ups_are_refused(shop, call, message):
  with pytest.raises(UsageError, match=message):
    call(shop)
