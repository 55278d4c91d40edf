"""The default codebook sizes of the table of quantizers."""

import pytest

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.semantic_ids.quantizers.registry import with_sizes


@pytest.mark.parametrize(
  ('quantizer', 'expected'),
  [('rq_vae', (256,) * 3), ('lsh', (256,) * 4), ('random', (255,) * 4)],
)
def test_codebooks_are_the_papers_where_none_are_named(quantizer, expected):
  filled = with_sizes(SemanticIdsConfig(quantizer=quantizer, epochs=7))
  assert filled == SemanticIdsConfig(quantizer, expected, epochs=7)


def test_given_sizes_are_kept():
  config = SemanticIdsConfig(codebook_sizes=(4, 16))
  assert with_sizes(config) == config
