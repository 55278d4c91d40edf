"""The config section `evaluation`."""

import dataclasses

from tiger_jax.config.checks import (
  require_at_most,
  require_fraction,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
  """The measurement of a trained model.

  Attributes:
    num_beams: Number of beams of the search, at least 10.
    batch_size: Number of users per batch.
    num_users: Number of users to measure, drawn at random; 0 for all users.
    search: The top-k search for baselines that score items: `exact`, or
      `approximate`, which is faster on some accelerators and may miss one in
      twenty of the best items.
    transition_weight: Share of the transition counts in the ranking of a
      generative model, from 0 to 1, see `tiger_jax/retrieval/mixture.py`.
    transition_kappa: If positive, the share is multiplied by n / (n + kappa),
      where n is the number of training transitions from the last item of the
      history.
    ensemble: Rank by all replicas together, see
      `tiger_jax/retrieval/ensemble.py`. Only for generative models, and only if
      `train.replicas` is at least 2.
  """

  num_beams: int = 30
  batch_size: int = 256
  num_users: int = 0
  search: str = 'exact'
  transition_weight: float = 0.0
  transition_kappa: float = 0.0
  ensemble: bool = False

  def __post_init__(self):
    """Checks the values."""
    require_not_negative(self, 'num_users', 'transition_kappa')
    require_fraction(self, 'transition_weight')
    require_one_of(self, 'search', ('exact', 'approximate'))
    require_positive(self, 'batch_size')
    require_at_most(self, 2**20, 'batch_size', 'num_beams')
    require_at_most(self, 2**31 - 1, 'num_users')
    if self.num_beams < 10:
      raise UsageError(
        f'num_beams is {self.num_beams}: recall@10 needs at least 10'
      )
