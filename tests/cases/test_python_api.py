"""Tests of the Python API in a process without type checks at run time."""

import json

import pytest

from tests import typed

# Maps a wrong call to a part of its error message.
WRONG_CALLS = {
  "model.recommend('A001')": "history is the text 'A001': put it in a list",
  "model.recommend({'A001'})": 'history is a set, which has no order',
  "model.recommend(['A001', None])": 'history[1] is None',
  "model.recommend(['A001'], 2.0)": 'k is 2.0: pass an integer',
  "model.recommend(['A001'], True)": 'k is True',
  "model.recommend(['A001'], 0)": 'k is 0: choose at least 1',
  "model.recommend(['A001'], options={})": 'options is {}: pass an Options',
  "model.recommend(['A0O1'])": "did you mean 'A0",
  "model.recommend_batch(['A001'])": "histories[0] is the text 'A001'",
  "model.recommend_batch([['A001'], [None]])": 'histories[1][0] is None',
  'model.recommend_batch([1, 2])': 'histories[0] is 1: pass a list of item ids',
  "model.recommend_batch('12')": "histories is the text '12'",
  "model.recommend_users('u1')": "users is the text 'u1'",
  "model.recommend_users(['u99'])": "no user 'u99' in the data of the run",
  "model.semantic_id('A0O1')": "no item 'A0O1' in the catalog: did you mean",
  'model.item(None)': 'item[0] is None',
  'model.item_of(3)': 'semantic_id is 3: pass a list of codes',
  'model.item_of([0.5])': 'semantic_id[0] is 0.5: pass an integer',
  "model.similar_items('A001', -1)": 'k is -1: choose at least 0',
  'model.search_titles(None)': 'text is None: pass text',
  'model.add_items(3)': 'items is 3: pass a list of NewItem objects',
  'model.add_items([{}])': 'items[0] is {}: pass a NewItem(...)',
  "model.add_items([NewItem('x')])": "the title of item 'x' is ''",
  "model.add_items([NewItem('x', 3)])": "the title of item 'x' is 3",
  "model.add_items([NewItem('', 'X')])": "the id '' is empty",
  "model.add_items([NewItem('A001', 'X')])": "item 'A001' exists already",
  "model.add_items([NewItem('x', 'X', 'blue')])": "the text of item 'x' is",
  "model.remove_items('A001')": "ids is the text 'A001'",
  "model.update_titles(['A001'])": 'pass a mapping of ids to titles',
  "model.update_titles({'A001': ''})": "the title of item 'A001' is ''",
  "Options(exclude_seen='no')": "exclude_seen is 'no': pass True or False",
  'Options(exact=1)': 'exact is 1: pass True or False',
  "Options(temperature='hot')": "temperature is 'hot': pass a number",
  "Options(temperature=float('nan'))": 'temperature is nan',
  'Options(temperature=1, seed=1.0)': 'seed is 1.0: pass an integer',
  'Options(temperature=1, drawn_levels=1.5)': 'drawn_levels is 1.5',
  "Options(deny='A001')": "deny is the text 'A001'",
  'Options(deny=None)': 'deny is None',
  'Options(allow=[1.0])': 'allow[0] is 1.0',
  'catalog.add([[0.5, 1.0]])': 'type float64: give integers',
  'catalog.grown([[0.5, 1.0]])': 'type float64: give integers',
  # Items have two codes. These six codes must not be read as three items.
  'catalog.grown([[0, 1, 1], [1, 0, 0]])': 'does not hold 2 codes',
  'catalog.grown([0, 1])': 'does not hold 2 codes',
  'catalog.add([[True, False]])': 'type bool',
  'catalog.add([[0, -1]])': 'outside the level sizes',
  'catalog.contains([[0.5, 0.5]])': 'type float64: give integers',
  'catalog.remove([True, False])': 'np.flatnonzero converts a mask',
  'catalog.remove([0.5])': 'type float64',
  'catalog.remove([-1])': 'no item in row -1',
  'searches.recommend(0, batch, -1)': 'k is -1: pass an integer',
  'searches.recommend(0, batch, 2.0)': 'k is 2.0: pass an integer',
  'searches.recommend(0, batch, 2, lists)': 'lists has 3 entries',
  'searches.recommend(0, far, 2)': 'a history contains row 10000',
  'tokenizer.assign([1.0] * 8, ids)': 'give a row of 8 numbers',
  "tokenizer.assign([['1'] * 8], ids)": 'give real numbers',
  'tokenizer.assign([[1.0] * 7], ids)': 'fitted to width 8',
}
SCRIPT = """
import json, os, signal, sys
import numpy as np
from tiger_jax.errors import TigerError, UsageError
from tiger_jax import NewItem, Options, Recommender

imported = sorted({name.split('.')[0] for name in sys.modules})
model = Recommender.from_workdir(sys.argv[1])
expected = model.recommend(['A001', 'A008'], 3)
built = sorted(vars(model.snapshot.model.session))

from pathlib import Path
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.interfaces import Batch, ItemLists

catalog = Catalog.from_codes([[0, 0], [1, 1]], [2, 2])
folder = Path(sys.argv[1]) / 'semantic_ids'
tokenizer, ids = Tokenizer.load(folder), SemanticIds.load(folder)
searches = model.snapshot.retriever
batch = Batch(*np.full((3, 1, 1), -1, np.int32))
far = batch._replace(history=np.array([[10_000]]))
lists = ItemLists.of([[1], [2], [3]])

errors = {}
for call in json.loads(sys.argv[2]):
  try:
    errors[call] = f'accepted: {eval(call)}'
  except TigerError as error:
    errors[call] = str(error)
  except Exception as error:
    errors[call] = f'raised {error!r}'

forked = {}
for name, call in {
  'recommend': lambda: model.recommend(['A001']),
  'from_workdir': lambda: Recommender.from_workdir(sys.argv[1]),
}.items():
  output, child_output = os.pipe()
  if not os.fork():
    signal.alarm(30)
    try:
      message = repr(call())
    except UsageError as error:
      message = str(error)
    os.write(child_output, message.encode())
    os._exit(0)
  os.close(child_output)
  os.wait()
  with open(output) as file:
    forked[name] = file.read()
options = Options(exclude_seen=np.True_, temperature=np.float32(1),
                  seed=np.int64(3))
accepted = [
  len(model.recommend(iter(['A001']), np.int64(4), options)),
  model.recommend(map(str, ['A001', 'A008']), 3) == expected,
  catalog.add([[0, 1]]).remove([0]).contains([[0, 1], [0, 0]]).tolist(),
  len(tokenizer.assign([[1.0] * 8], ids).codes),
]
print(json.dumps([imported, errors, forked, accepted, built]))
"""


@pytest.fixture(name='outcome', scope='module')
def _outcome(trained):
  done = typed.python(
    '-W', 'ignore', '-c', SCRIPT, trained, json.dumps(list(WRONG_CALLS)),
    cwd=trained.parent, timeout=120,
  )  # fmt: skip
  assert done.code == 0, done.err
  return json.loads(done.out.splitlines()[-1])


def test_wrong_calls_raise_a_one_line_error(outcome):
  for call, message in outcome[1].items():
    assert WRONG_CALLS[call] in message, (call, message)
    assert '\n' not in message


def test_a_recommender_in_a_forked_process_raises_an_error(outcome):
  for message in outcome[2].values():
    assert 'load the Recommender only after the fork' in message


def test_accepts_numpy_scalars_and_iterators(outcome):
  assert outcome[3] == [4, True, [True, False], 41]


def test_serving_does_not_import_plotting_or_raw_data_modules(outcome):
  unused = {'matplotlib', 'tensorflow_datasets', 'sklearn', 'grain'}
  assert not unused & set(outcome[0])


def test_serving_does_not_build_training_data(outcome):
  built = set(outcome[4])
  assert {'catalog', 'task'} <= built
  assert not {'batches', 'training_trie'} & built
