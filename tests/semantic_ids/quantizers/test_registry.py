"""Tests the registry of quantizers and their default codebook sizes."""

import pytest

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.quantizers.registry import (
  QUANTIZERS,
  check,
  entry,
  with_sizes,
)


@pytest.mark.parametrize(
  ('quantizer', 'expected'),
  [('rq_vae', (256,) * 3), ('lsh', (256,) * 4), ('random', (255,) * 4)],
)
def test_default_codebook_sizes_are_those_of_the_paper(quantizer, expected):
  config = with_sizes(SemanticIdsConfig(quantizer=quantizer, epochs=7))
  assert config == SemanticIdsConfig(quantizer, expected, epochs=7)


def test_given_codebook_sizes_are_kept():
  config = SemanticIdsConfig(codebook_sizes=(4, 16))
  assert with_sizes(config) == config


def test_registry_knows_every_quantizer():
  for name in QUANTIZERS:
    config = SemanticIdsConfig(quantizer=name)
    check(config)
    assert entry(config) is QUANTIZERS[name]
  for fn in (check, entry, with_sizes):
    with pytest.raises(UsageError) as error:
      fn(SemanticIdsConfig(quantizer='none'))
    choices = str(error.value).split('Choose from ')[1].split(', ')
    assert choices == list(QUANTIZERS)


def test_only_autoencoders_are_trained():
  trained = {name for name, x in QUANTIZERS.items() if x.is_trained}
  assert trained == {'rq_vae', 'vq_vae'}
