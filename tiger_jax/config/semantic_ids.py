"""The config section `semantic_ids`."""

import dataclasses

from tiger_jax.config.checks import (
  require_at_most,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.config.train import OptimizerConfig
from tiger_jax.errors import UsageError

# The rules of `semantic_ids.collisions`.
COLLISIONS = ('extra_code', 'optimal')


@dataclasses.dataclass(frozen=True)
class SemanticIdsConfig:
  """The quantizer that makes the Semantic IDs, and its training.

  Only `rq_vae` and `vq_vae` use `latent_dim` and the fields after it.

  Attributes:
    quantizer: A key of `semantic_ids.quantizers.registry.QUANTIZERS`.
    codebook_sizes: Number of codes at each level, without the collision code;
      `()` for the default of the quantizer.
    collisions: The rule for items with the same codes. `extra_code` appends a
      number to the codes. `optimal` reassigns the last codes so that their
      total distance to the items is minimal. If a branch has more items than
      last codes, the surplus items move to other branches.
    shared_with: Workdirs of other runs. The quantizer is also fitted to their
      items, so that all items share one ID space.
    latent_dim: Width of the latent space and of every code vector.
    hidden_dims: Widths of the encoder's hidden layers. The decoder has the same
      layers in reverse order.
    beta: Weight of the commitment loss.
    batch_size: Items per batch.
    epochs: Number of passes over the items.
    kmeans_init: The items from which k-means initializes the codebooks,
      `all_items` or `first_batch`.
    restart_epochs: Number of epochs from the start of training. Unused codes
      are restarted at the end of each of these epochs.
    optimizer: The optimizer of the quantizer.
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
  # Departs from the paper: the paper's Adagrad collapses in replications.
  optimizer: OptimizerConfig = OptimizerConfig(
    learning_rate=5e-3, weight_decay=0.01
  )

  def __post_init__(self):
    """Checks the values."""
    require_one_of(self, 'collisions', COLLISIONS)
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
