"""Measures how varied the categories of recommended items are (section 4.3)."""

from collections.abc import Sequence

from jaxtyping import Float, Int
import numpy as np

# The paper names categories of two levels, such as Skin Face and Tools Nail.
CATEGORY_DEPTH = 2


def entropy(
  items: Int[np.ndarray, 'n k'], categories: Sequence[str]
) -> Float[np.ndarray, ' n']:
  """Returns the entropy of the categories of each list, in nats.

  Entries of -1 stand for no item and do not count.
  """
  _, codes = np.unique(np.asarray(categories), return_inverse=True)
  listed_codes = np.where(items >= 0, codes[items], -1)
  values = np.zeros(len(items))
  for row, listed in enumerate(listed_codes):
    _, counts = np.unique(listed[listed >= 0], return_counts=True)
    shares = counts / max(1, counts.sum())
    values[row] = -(shares * np.log(shares)).sum()
  return values
