"""The RQ-VAE at work: `RqVaeTask` trains one, `assign` gives items codes."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.errors import DataError
from tiger_jax.semantic_ids import item_batches, residual, rq_vae_model
from tiger_jax.semantic_ids.rq_vae_model import RqVaeParams


class RqVaeTask:
  """Trains an RQ-VAE on the items of one catalogue.

  A batch is `[b, dim]` item embeddings as `ItemBatches` gives them.

  Attributes:
    tables: The `mean` and `std` of every dimension.
  """

  def __init__(
    self,
    config: SemanticIdsConfig,
    embeddings: Float[np.ndarray, 'items dim'],
  ):
    """Measures the embeddings.

    Args:
      config: The RQ-VAE and its training.
      embeddings: One row per item, in any float type.

    Raises:
      DataError: There are no items.
      NumbersError: A value is not finite.
    """
    self._config = config
    self._embeddings = embeddings
    mean, std = item_batches.statistics(embeddings)
    self.tables = {'mean': mean, 'std': std}
    self._steps_per_epoch = item_batches.num_steps_per_epoch(
      len(embeddings), config.batch_size
    )

  def init(self, rng: jax.Array) -> RqVaeParams:
    """Makes the first parameters.

    Args:
      rng: The key of the network's weights and of k-means.

    Returns:
      A random network, with codebooks fitted to what it makes of the items.

    Raises:
      UsageError: There are fewer items than codes.
    """
    config, dim = self._config, self._embeddings.shape[1]
    rng_network, rng_codebooks = jax.random.split(rng)
    model = rq_vae_model.autoencoder(config, dim)
    network = jax.jit(model.init)(rng_network, jnp.zeros((1, dim)))
    shape = (config.num_levels, config.codebook_size)
    params = RqVaeParams(
      network=network,
      codebooks=jnp.zeros((*shape, config.latent_dim)),
      mean=jnp.array(self.tables['mean']),
      std=jnp.array(self.tables['std']),
      idle=jnp.zeros(shape),
    )
    encode = functools.partial(rq_vae_model.encode, params, config=config)
    # Departs from the paper: it fits the codebooks to the first batch, which
    # has only four items a code.
    codebooks = residual.fit_codebooks(
      rng_codebooks,
      jnp.asarray(item_batches.map_items(encode, self._embeddings)),
      config.num_levels,
      config.codebook_size,
    )
    return params._replace(codebooks=codebooks)

  def loss(
    self,
    params: RqVaeParams,
    tables: dict[str, Float[Array, ' dim']],
    batch: Float[Array, 'b dim'],
    rng: jax.Array,
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Computes the loss of a batch.

    Args:
      params: The parameters.
      tables: Not used: the parameters hold the same.
      batch: Item embeddings.
      rng: Not used: nothing is random.

    Returns:
      The loss, and the metrics `reconstruction` and `quantization` (squared
      errors an item) and `batch_usage` (the share of codes that the batch
      chose, at the level where it is smallest).
    """
    del tables, rng
    terms, codes = rq_vae_model.losses(params, batch, self._config)
    metrics = {
      'reconstruction': terms.reconstruction,
      'quantization': terms.codebook,
      'batch_usage': _chosen(codes, params.idle).mean(axis=1).min(),
    }
    commitment = self._config.beta * terms.commitment
    return terms.reconstruction + terms.codebook + commitment, metrics

  def after_update(
    self,
    params: RqVaeParams,
    tables: dict[str, Float[Array, ' dim']],
    batch: Float[Array, 'b dim'],
    step: Int[Array, ''],
    rng: jax.Array,
  ) -> RqVaeParams:
    """Restarts dead codes, once an epoch for the first `restart_epochs`.

    A code that no item chose for an epoch becomes the residual of a random
    item of the batch, at the code's level.

    Args:
      params: The parameters after the optimizer's step.
      tables: What `mean` and `std` are set back to.
      batch: Item embeddings.
      step: Steps taken before this one.
      rng: The key of the items drawn.

    Returns:
      The parameters to go on with.
    """
    # Departs from the paper: it has no restarts.
    params = lax.cond(
      step < self._config.restart_epochs * self._steps_per_epoch,
      self._restart,
      lambda params, *_: params,
      *(params, batch, step, rng),
    )
    # Weight decay must not touch what is not trained.
    return params._replace(**tables)

  def _restart(self, params, batch, step, rng):
    z = rq_vae_model.encode(params, batch, config=self._config)
    codes, _, residuals = residual.quantize(z, params.codebooks)
    # Rounded, because weight decay may have touched the counts.
    idle = jnp.round(params.idle) + 1
    idle = jnp.where(_chosen(codes, idle), 0, idle)
    epoch_ends = (step + 1) % self._steps_per_epoch == 0
    dead = (idle >= self._steps_per_epoch) & epoch_ends

    def draw(rng, residuals):
      rows = jax.random.permutation(rng, len(residuals))
      return residuals[rows[jnp.arange(dead.shape[1]) % len(rows)]]

    fresh = jax.vmap(draw, in_axes=(0, 1))(
      jax.random.split(rng, len(dead)), residuals
    )
    return params._replace(
      codebooks=jnp.where(dead[:, :, None], fresh, params.codebooks),
      idle=jnp.where(dead, 0, idle),
    )


def assign(
  params: RqVaeParams,
  embeddings: Float[np.ndarray, 'items dim'],
  config: SemanticIdsConfig,
) -> Int[np.ndarray, 'items l']:
  """Gives items their codes, the items of training or new ones.

  Args:
    params: Of a trained RQ-VAE.
    embeddings: One row per item, from the encoder that training used.
    config: What the RQ-VAE was trained with.

  Returns:
    The codes, int32, of the levels that carry meaning.

  Raises:
    DataError: The embeddings are of another width than those of training.
  """
  dim = len(params.mean)
  if embeddings.shape[1] != dim:
    raise DataError(
      f'the embeddings have {embeddings.shape[1]} dimensions, but the RQ-VAE '
      f'was trained on {dim}: use the encoder it was trained with'
    )
  return item_batches.map_items(
    functools.partial(_assign, params, config=config), embeddings
  )


@functools.partial(jax.jit, static_argnames='config')
def _assign(params, x, config):
  z = rq_vae_model.encode(params, x, config=config)
  return residual.quantize(z, params.codebooks).codes


def _chosen(
  codes: Int[Array, 'b l'], idle: Float[Array, 'l v']
) -> Float[Array, 'l v']:
  """Marks the codes that occur in a batch with 1, the others with 0."""
  levels = jnp.arange(len(idle))[None]
  return jnp.zeros_like(idle).at[levels, codes].set(1)
