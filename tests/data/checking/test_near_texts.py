"""Tests of equal and nearly equal texts, against brute force."""

import itertools
import random

import pytest

from tiger_jax.data.checking import near_texts

LONG = 'a waxed canvas rucksack with brass buckles and two side pockets, '


def words(rng, number):
  return ' '.join(
    ''.join(rng.choices('abcdefghij', k=6)) for _ in range(number)
  )


def test_equal_words_make_equal_texts():
  texts = ['Red Mug', 'red  mug!', 'Red Mug 2', 'blue mug', 'RED; MUG']
  found = near_texts.find(texts)
  assert (found.equal, found.equal_rows) == (2, ((0, 1), (0, 4)))
  assert found.sampled == 3


def test_nearly_equal_texts_are_found():
  texts = [LONG + 'green', 'a steel kettle', LONG + 'greet', 'a clock']
  found = near_texts.find(texts)
  assert (found.equal, found.near, found.near_rows) == (0, 2, ((0, 2),))


@pytest.mark.parametrize(
  'texts', [[], ['one'], ['', ''], ['a', 'b'], ['é', 'ü'], ['', 'x' * 5000]]
)
def test_short_empty_and_long_texts_are_no_near_duplicates(texts):
  assert near_texts.find(texts).near == 0


def test_only_the_start_of_a_long_text_is_compared():
  rng = random.Random(1)
  start = words(rng, 200)
  found = near_texts.find([f'{start} {words(rng, 50)}' for _ in range(2)])
  assert (found.equal, found.near) == (0, 2)


def test_the_pairs_equal_those_of_brute_force():
  rng = random.Random(3)
  texts = []
  for _ in range(60):
    text = words(rng, 30)
    texts.append(text)
    for _ in range(rng.randrange(2)):
      changed = list(text)
      for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(len(changed))] = rng.choice('klmno')
      texts.append(''.join(changed))

  def grams(text):
    return {text[i : i + 5] for i in range(len(text) - 4)}

  pairs = {
    (i, j)
    for i, j in itertools.combinations(range(len(texts)), 2)
    if len(grams(texts[i]) & grams(texts[j]))
    >= near_texts.NEAR * len(grams(texts[i]) | grams(texts[j]))
  }
  assert 5 < len(pairs) < len(texts) - 60  # Some changes are too large.
  found = near_texts.find(texts)
  assert found.near == 2 * len(pairs)
  assert found.near_rows == tuple(sorted(pairs)[:3])


def test_the_blocks_make_no_difference(monkeypatch):
  rng = random.Random(5)
  texts = [words(rng, 20) for _ in range(30)]
  texts += [f'{text}x' for text in texts]
  whole = near_texts.find(texts)
  monkeypatch.setattr(near_texts, '_BLOCK', 7)
  assert near_texts.find(texts) == whole
  assert whole.near == 60


def test_a_sample_bounds_the_comparisons():
  texts = [f'{LONG} number {i}' for i in range(50)]
  found = near_texts.find(texts, sample=10)
  assert (found.sampled, found.equal) == (10, 0)
  assert near_texts.find(texts, sample=50).sampled == 50
