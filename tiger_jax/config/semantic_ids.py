"""The section of the quantizer."""

import dataclasses

from tiger_jax.config.checks import (
  require_at_most,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.config.train import OptimizerConfig
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class SemanticIdsConfig:
  """The quantizer that makes the IDs, and its training.

  Only quantizers that are trained read the fields from `latent_dim` on.

  Attributes:
    quantizer: A key of `semantic_ids.quantizers.registry.QUANTIZERS`.
    codebook_sizes: Codes at each level, before the collision code is
      appended; `()` takes the default of the quantizer.
    collisions: `extra_code` numbers the items whose codes are the same;
      `nearest_free` moves all but the first of them to the nearest free codes.
    shared_with: Workdirs of other runs, whose items the quantizer is fitted to
      as well, so that their items and these share one ID space.
    latent_dim: Width of the latent space and of every code.
    hidden_dims: Widths of the encoder's hidden layers; the decoder mirrors
      them.
    beta: Weight of the commitment loss.
    batch_size: Items in a batch.
    epochs: Passes over the items.
    kmeans_init: What k-means makes the first codebooks of, `all_items` or
      `first_batch`.
    restart_epochs: Dead codes are restarted once an epoch for so many epochs.
    optimizer: The recipe.
  """

  quantizer: str = 'rq_vae'
  codebook_sizes: tuple[int, ...] = ()
  collisions: str = 'extra_code'
  shared_with: tuple[str, ...] = ()
  latent_dim: int = 32
  hidden_dims: tuple[int, ...] = (512, 256, 128)
  beta: float = 0.25
  batch_size: int = 256
  epochs: int = 120
  kmeans_init: str = 'all_items'
  restart_epochs: int = 100
  # Departs from the paper: its Adagrad collapses in replications.
  optimizer: OptimizerConfig = OptimizerConfig(
    learning_rate=5e-3, weight_decay=0.01
  )

  def __post_init__(self):
    """Checks the values."""
    require_one_of(self, 'collisions', ('extra_code', 'nearest_free'))
    require_one_of(self, 'kmeans_init', ('all_items', 'first_batch'))
    require_positive(self, 'latent_dim', 'batch_size', 'epochs')
    require_not_negative(self, 'beta', 'restart_epochs')
    require_at_most(self, 2**16, 'latent_dim', 'hidden_dims')
    require_at_most(self, 2**24, 'batch_size', 'codebook_sizes')
    require_at_most(self, 2**31 - 1, 'epochs', 'restart_epochs')
    if min(self.hidden_dims, default=1) < 1:
      raise UsageError(
        f'hidden_dims is {self.hidden_dims}: widths must be positive'
      )
    sizes = self.codebook_sizes
    if min(sizes, default=1) < 1:
      raise UsageError(f'codebook_sizes is {sizes}: sizes must be positive')
