import numpy as np
import pytest

from tiger_jax.data import splits
from tiger_jax.data.sources import synthetic, synthetic_items


@pytest.fixture(scope='module')
def shop():
  return synthetic.make(1500, seed=0)


def slow_probabilities(items, history):
  """Computes the documented distribution of `synthetic` item by item."""

  def aisle(row):
    return items.fields['categories'][row].split(' > ')

  def next_aisle(row):
    department, _, name = aisle(row)
    names = [
      x.name
      for aisles in synthetic_items.DEPARTMENTS[department].values()
      for x in aisles
    ]
    return names[(names.index(name) + 1) % len(names)]

  def popularity(row):
    (line,) = [
      line
      for line in synthetic_items.LINES
      if f' {line} ' in items.fields['title'][row]
    ]
    return synthetic_items.LINES[line][1]

  def share(weights):
    total = sum(weights)
    return [weight / total for weight in weights]

  rows = range(len(items))
  mixed = share([popularity(row) for row in rows])
  if history:
    last = history[-1]
    brand = items.fields['brand']
    loyal = [
      popularity(row)
      * (synthetic.LOYALTY if brand[row] == brand[last] else 1.0)
      for row in rows
    ]
    stay = share([loyal[r] * (aisle(r) == aisle(last)) for r in rows])
    companion = (aisle(last)[0], next_aisle(last))
    move = share(
      [loyal[r] * ((aisle(r)[0], aisle(r)[2]) == companion) for r in rows]
    )
    roam = 1 - synthetic.STAY - synthetic.MOVE_ON
    mixed = [
      synthetic.STAY * s + synthetic.MOVE_ON * m + roam * a
      for s, m, a in zip(stay, move, mixed, strict=True)
    ]
  return share([p * (row not in history) for row, p in enumerate(mixed)])


def test_the_shop_has_the_documented_sizes_and_histories(shop):
  assert shop.num_items == 600
  assert shop.num_users == 1500
  lengths = np.diff(shop.offsets)
  assert (lengths.min(), lengths.max()) == (5, 20)
  assert len(set(shop.items.ids)) == 600
  assert all(shop.items.fields['title'])
  for user in range(shop.num_users):
    history = shop.history_of(user)
    assert len(set(history.tolist())) == len(history)
    times = shop.timestamps[shop.offsets[user] : shop.offsets[user + 1]]
    assert (np.diff(times) > 0).all()


def test_the_same_seed_gives_the_same_shop(tmp_path):
  first, second = synthetic.make(40, seed=3), synthetic.make(40, seed=3)
  first.save(tmp_path / 'first')
  second.save(tmp_path / 'second')
  for name in ('items.parquet', 'users.parquet', 'histories.npz'):
    assert (tmp_path / 'first' / name).read_bytes() == (
      tmp_path / 'second' / name
    ).read_bytes()
  other = synthetic.make(40, seed=4)
  assert other.items.fields['title'] != first.items.fields['title']
  assert other.history.tolist() != first.history.tolist()


def test_probabilities_equal_the_slow_version(shop):
  histories = [shop.history_of(user)[: user + 1] for user in range(6)]
  histories.append(shop.history_of(6)[:0])
  result = synthetic.next_item_probabilities(shop, histories)
  expected = [slow_probabilities(shop.items, h.tolist()) for h in histories]
  np.testing.assert_allclose(result, expected, rtol=1e-12, atol=0)
  np.testing.assert_allclose(result.sum(axis=1), 1)


def test_purchases_follow_the_probabilities(shop):
  """The counts of purchases have the expected means and deviations."""
  examples = splits.split(shop, 'train')
  histories = [
    shop.history[start:end]
    for start, end in zip(examples.start, examples.end, strict=True)
  ]
  probabilities = synthetic.next_item_probabilities(shop, histories)
  targets = shop.history[examples.end]
  order = np.argsort(-probabilities, axis=1, kind='stable')
  ranked = np.take_along_axis(probabilities, order, axis=1)
  ranks = np.argmax(order == targets[:, None], axis=1)
  for low, high in [(0, 1), (1, 3), (3, 10), (10, 40), (40, 600)]:
    chance = ranked[:, low:high].sum(axis=1)
    hits = ((ranks >= low) & (ranks < high)).sum()
    spread = np.sqrt((chance * (1 - chance)).sum())
    assert abs(hits - chance.sum()) < 4 * spread
  seen = np.bincount(targets, minlength=600)
  spread = np.sqrt((probabilities * (1 - probabilities)).sum(axis=0))
  deviations = (seen - probabilities.sum(axis=0)) / spread
  assert 0.9 < deviations.std() < 1.1


def test_the_best_recall_is_far_above_the_recall_of_popular_items(shop):
  examples = splits.split(shop, 'test')
  best = [synthetic.best_possible_recall(shop, examples, k) for k in (1, 10)]
  assert 0.1 < best[0] < best[1]
  assert 0.55 < best[1] < 0.65
  assert synthetic.best_possible_recall(shop, examples, 600) == pytest.approx(1)
  train = splits.split(shop, 'train')
  counts = np.bincount(shop.history[train.end], minlength=600)
  popular = np.argsort(-counts)[:10]
  assert np.isin(shop.history[examples.end], popular).mean() < 0.08


def test_best_ranking_reaches_the_best_recall(shop):
  examples = splits.split(shop, 'test')
  histories = [shop.history_of(user)[:-1] for user in range(shop.num_users)]
  probabilities = synthetic.next_item_probabilities(shop, histories)
  top = np.argsort(-probabilities, axis=1)[:, :10]
  hits = (top == shop.history[examples.end][:, None]).any(axis=1)
  best = synthetic.best_possible_recall(shop, examples, 10)
  assert hits.mean() == pytest.approx(best, abs=4 * 0.5 / np.sqrt(len(hits)))
