"""Tests which arguments the Python API accepts, and its error messages."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tiger_jax.errors import UsageError
from tiger_jax.serving import arguments
from tiger_jax.serving.options import Options

IDS = ['i102', 'i103', 'i105']


FORMS = {
  'list': list,
  'tuple': tuple,
  'iterator': iter,
  'generator': lambda x: (entry for entry in x),
  'map': lambda x: map(lambda entry: entry, x),
  'dict_keys': lambda x: dict.fromkeys(x).keys(),
  'dict_values': lambda x: dict(enumerate(x)).values(),
  'numpy': np.array,
  'numpy_objects': lambda x: np.array(x, object),
  'pandas_series': pd.Series,
  'pandas_index': pd.Index,
  'pandas_categories': lambda x: pd.Series(x, dtype='category'),
  'arrow': pa.array,
  'arrow_chunks': lambda x: pa.chunked_array([x[:1], x[1:]]),
  'arrow_scalars': lambda x: list(pa.array(x)),
}


@pytest.fixture(name='form', params=FORMS)
def _form(request):
  return FORMS[request.param]


def test_ids_are_accepted_in_every_form(form):
  assert arguments.item_ids(form(IDS), 'history') == IDS
  assert Options(deny=form(IDS)).deny == tuple(IDS)
  assert Options(allow=form(IDS)).allow == tuple(IDS)


def test_iterators_are_read_once(recommender):
  histories = [IDS, IDS[::-1]]
  expected = recommender.recommend_batch(histories, 5)
  iterators = (iter(history) for history in histories)
  assert recommender.recommend_batch(iterators, 5) == expected
  expected = recommender.recommend_users(['bob', 'ann'])
  assert recommender.recommend_users(iter(['bob', 'ann'])) == expected
  expected = recommender.recommend(IDS, 5)
  assert recommender.recommend(iter(IDS), 5) == expected


def test_histories_may_be_the_rows_of_an_array(recommender):
  histories = np.array([IDS, IDS[::-1]])
  expected = recommender.recommend_batch(histories.tolist(), 5)
  assert recommender.recommend_batch(histories, 5) == expected
  assert recommender.recommend_batch([], 5) == []
  assert recommender.recommend_batch(np.zeros((0, 3), str), 5) == []


def test_deny_and_allow_iterators_apply_to_every_batch(recommender):
  ranked = [entry.item_id for entry in recommender.recommend(IDS, 14)]
  histories = [[f'i{100 + i % 14}'] for i in range(130)]
  for options in (
    Options(deny=iter(ranked[:4])),
    Options(allow=iter(ranked[4:])),
  ):
    for _ in range(2):
      for items in recommender.recommend_batch(histories, 14, options):
        assert {entry.item_id for entry in items} == set(ranked[4:])


def test_sets_are_accepted_where_order_does_not_matter():
  assert set(Options(deny={'a', 'b'}).deny) == {'a', 'b'}
  assert Options(allow=frozenset('a')).allow == ('a',)
  with pytest.raises(UsageError, match='history is a set, which has no order'):
    arguments.item_ids({'a', 'b'}, 'history')


@pytest.mark.parametrize(
  'ids', [[7, 12], np.array([7, 12]), pa.array([7, 12]), [np.int8(7), '12']]
)
def test_integers_are_converted_to_decimal_ids(ids):
  assert arguments.item_ids(ids, 'history') == ['7', '12']


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ('i102', "history is the text 'i102': put it in a list, ['i102']"),
    (np.array('i102'), "history is the text 'i102'"),
    (b'i102', "history is the text b'i102': pass a list of item ids"),
    ([10**5000], 'history[0] is too large'),
    (pd.Series([503, None]), 'pandas turns integers with missing values'),
    (None, 'history is None: pass a list of item ids'),
    (5, 'history is 5: pass a list'),
    ({'a': 1}, 'history is a mapping'),
    (pa.table({'item': ['a']}), 'history is a table: pass one of its columns'),
    (['a', 503.0], 'history[1] is 503.0: pass text, or integers'),
    (np.array([503.0]), 'pandas turns integers with missing values into'),
    (['a', None], 'history[1] is None'),
    (pa.array(['a', None]), 'history[1] is None'),
    ([True], 'history[0] is True'),
    ([np.True_], 'history[0] is True'),
    ([b'a'], "history[0] is b'a'"),
    ([['a']], "history[0] is ['a']"),
    (np.array([['a']]), "history[0] is ['a']"),
  ],
)
def test_invalid_item_ids_are_refused(values, message):
  with pytest.raises(UsageError) as error:
    arguments.item_ids(values, 'history')
  assert message in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('value', [3, np.int64(3), np.uint8(3), np.array(3)])
def test_integers_are_converted_to_int(value):
  number = arguments.whole_number(value, 'k', 1, 5)
  assert type(number) is int and number == 3


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (2.0, 'k is 2.0: pass an integer'),
    (np.float32(2), 'k is 2.0: pass an integer'),
    (True, 'k is True'),
    ('3', "k is '3'"),
    (None, 'k is None'),
    ([3], 'k is [3]'),
    (np.array([3]), 'k is array([3])'),
    (0, 'k is 0: choose 1 to 5'),
    (-1, 'k is -1: choose 1 to 5'),
    (6, 'k is 6: choose 1 to 5'),
  ],
)
def test_invalid_integers_are_refused(value, message):
  with pytest.raises(UsageError) as error:
    arguments.whole_number(value, 'k', 1, 5)
  assert message in str(error.value)


@pytest.mark.parametrize('value', ['hot', None, True, [1.0], 1j, float('nan')])
def test_invalid_numbers_are_refused(value):
  with pytest.raises(UsageError, match='temperature is '):
    arguments.real_number(value, 'temperature', 1e-3, 1e3)
  assert arguments.real_number(np.float32(0.5), 'temperature', 0, 1) == 0.5


@pytest.mark.parametrize('value', ['no', 0, None])
def test_invalid_bools_are_refused(value):
  with pytest.raises(UsageError, match='exact is .*: pass True or False'):
    arguments.switch(value, 'exact')
  assert arguments.switch(np.True_, 'exact') is True


def test_shown_values_are_short_and_have_no_control_characters():
  shown = arguments.shown('\x1b[2J' + 'x' * 10**6)
  assert len(shown) < 80 and '\x1b' not in shown
  assert '\n' not in arguments.shown(np.zeros((3, 3)))


@pytest.mark.parametrize(
  ('item', 'nearest'),
  [(' i103', 'i103'), ('I103', 'i103'), ('i1O3', 'i1'), ('x' * 10**6, '')],
)
def test_unknown_ids_get_suggestions(recommender, item, nearest):
  with pytest.raises(UsageError) as error:
    recommender.recommend([item])
  assert f"did you mean '{nearest}" in str(error.value) or not nearest
  assert len(str(error.value)) < 250
