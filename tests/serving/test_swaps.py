"""Tests of requests during changes of the catalog."""

import threading

from tests.serving.conftest import NUM_ITEMS
from tests.serving.shop import VECTORS
from tiger_jax.serving.recommendation import NewItem

_NUM_THREADS = 3
_NUM_CHANGES = 12


def test_each_answer_belongs_to_one_catalog(shop):
  """Items have another title and other members in every version."""
  contents = {}

  def record():
    snapshot = shop.snapshot
    contents[snapshot.catalog_version] = {
      snapshot.ids[row]: snapshot.title(row) for row in snapshot.rows.tolist()
    }

  record()
  answers, errors, stop = [], [], threading.Event()

  def request(history):
    try:
      while not stop.is_set():
        answers.append(shop.recommend(history, 50))
        answers.extend(shop.recommend_batch([history, []], 50))
    except Exception as error:
      errors.append(error)

  shop.recommend_batch([['i100'], []], 50)
  threads = [
    threading.Thread(target=request, args=([f'i{100 + i}'],))
    for i in range(_NUM_THREADS)
  ]
  for thread in threads:
    thread.start()
  for i in range(_NUM_CHANGES):
    new = NewItem(f'n{i}', 'New', vector=VECTORS[i % NUM_ITEMS])
    shop.add_items([new])
    record()
    shop.update_titles({'i100': f'Title {i}'})
    record()
    shop.remove_items([f'n{i}', *(['i113'] if not i else [])])
    record()
    # Each version answers some requests.
    num_answers = len(answers)
    while len(answers) < num_answers + 4 and not errors:
      stop.wait(0.001)
  stop.set()
  for thread in threads:
    thread.join()
  assert not errors
  assert shop.catalog_version == 1 + 3 * _NUM_CHANGES
  versions = {x.catalog_version for x in answers}
  assert len(versions) > _NUM_CHANGES
  for items in answers:
    expected = contents[items.catalog_version]
    assert {x.item_id: x.title for x in items} == expected
    assert len(items) == len(expected)
