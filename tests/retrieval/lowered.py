"""Checks the precision of lowered programs."""

import re

_PRODUCT = re.compile(r'stablehlo\.dot_general .*')


def assert_full_products(text):
  """Asserts that every product takes float32 and requests full precision.

  Args:
    text: The program in StableHLO.
  """
  products = _PRODUCT.findall(text)
  assert products
  for line in products:
    assert 'precision = [HIGHEST, HIGHEST]' in line, line
    operands = line[line.rindex(' : ') :]
    assert operands.count('xf32>') == 3, line
  assert 'bf16' not in text and 'convolution' not in text
