"""The RQ-VAE: a residual-quantized autoencoder of item embeddings.

Sections 3.1 and 4.1 of the paper. `RqVaeTask` is what the train loop trains;
`assign` gives items, old or new, the codes of a trained one.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.errors import DataError
from tiger_jax.semantic_ids import item_batches, residual

# Items encoded at once where no gradient is needed.
_ENCODE_BATCH = 4096


class RqVaeParams(NamedTuple):
  """Everything that `assign` needs and training changes.

  Attributes:
    network: The variables of `Autoencoder`.
    codebooks: One codebook per level `[l, v, z]`.
    mean: What is subtracted from every dimension of an embedding `[dim]`.
    std: What the difference is divided by `[dim]`.
    idle: Batches since each code was last chosen `[l, v]`, counted as long as
      dead codes are restarted.
  """

  network: Any
  codebooks: Float[Array, 'l v z']
  mean: Float[Array, ' dim']
  std: Float[Array, ' dim']
  idle: Float[Array, 'l v']


class Mlp(nn.Module):
  """Dense layers with ReLU between them.

  Attributes:
    dims: The widths of the outputs of all layers.
  """

  dims: tuple[int, ...]

  @nn.compact
  def __call__(self, x: Float[Array, 'b _']) -> Float[Array, 'b _']:
    """Applies the layers."""
    for i, dim in enumerate(self.dims):
      if i:
        x = nn.relu(x)
      # Full precision, so that an item gets the same codes on every device.
      x = nn.Dense(dim, precision='highest')(x)
    return x


class Autoencoder(nn.Module):
  """The encoder and the decoder, without the quantizer between them.

  Attributes:
    dim: Width of an item embedding.
    hidden_dims: Widths of the encoder's hidden layers.
    latent_dim: Width of the latent space.
  """

  dim: int
  hidden_dims: tuple[int, ...]
  latent_dim: int

  def setup(self):
    """Makes the decoder the encoder's mirror image."""
    self.encoder = Mlp((*self.hidden_dims, self.latent_dim))
    self.decoder = Mlp((*self.hidden_dims[::-1], self.dim))

  def encode(self, x: Float[Array, 'b dim']) -> Float[Array, 'b z']:
    """Maps standardised embeddings to the latent space."""
    return self.encoder(x)

  def decode(self, z: Float[Array, 'b z']) -> Float[Array, 'b dim']:
    """Maps latent vectors back to standardised embeddings."""
    return self.decoder(z)

  def __call__(self, x: Float[Array, 'b dim']) -> Float[Array, 'b dim']:
    """Reconstructs standardised embeddings without quantizing them."""
    return self.decode(self.encode(x))


class Losses(NamedTuple):
  """The terms of the loss, each a mean over the batch.

  Attributes:
    reconstruction: `||x - x_hat||^2`; moves the encoder and the decoder.
    codebook: `sum_d ||sg[r_d] - e_d||^2`; moves the codebooks.
    commitment: `sum_d ||r_d - sg[e_d]||^2`; moves the encoder.
  """

  reconstruction: Float[Array, '']
  codebook: Float[Array, '']
  commitment: Float[Array, '']


def losses(
  params: RqVaeParams, x: Float[Array, 'b dim'], config: SemanticIdsConfig
) -> tuple[Losses, Int[Array, 'b l']]:
  """Computes the terms of the loss.

  Args:
    params: The parameters.
    x: Item embeddings, not standardised.
    config: The network's sizes.

  Returns:
    The terms, `beta` not applied, and the codes the items were given.
  """
  model = _autoencoder(config, x.shape[1])
  z = _encode(params, x, config=config)
  codes, quantized, residuals = residual.quantize(z, params.codebooks)
  # Straight through: the decoder reads the codes, and its gradient passes to
  # the encoder as if there were no quantizer.
  x_hat = model.apply(
    params.network, z + lax.stop_gradient(quantized - z), method=model.decode
  )
  levels = jnp.arange(config.num_levels)[None]
  chosen = params.codebooks[levels, codes]

  def distance(a, b):
    return jnp.sum((a - b) ** 2) / len(x)

  # Departs from the paper: it does not say whether the reconstruction error is
  # summed or averaged over dimensions. Averaged, the other terms swamp it and
  # the codebooks collapse.
  terms = Losses(
    reconstruction=distance(_standardise(params, x), x_hat),
    codebook=distance(lax.stop_gradient(residuals), chosen),
    commitment=distance(residuals, lax.stop_gradient(chosen)),
  )
  return terms, codes


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
    model = _autoencoder(config, dim)
    network = jax.jit(model.init)(rng_network, jnp.zeros((1, dim)))
    shape = (config.num_levels, config.codebook_size)
    params = RqVaeParams(
      network=network,
      codebooks=jnp.zeros((*shape, config.latent_dim)),
      mean=jnp.array(self.tables['mean']),
      std=jnp.array(self.tables['std']),
      idle=jnp.zeros(shape),
    )
    encode = functools.partial(_encode, params, config=config)
    # Departs from the paper: it fits the codebooks to the first batch, which
    # has only four items a code.
    codebooks = residual.fit_codebooks(
      rng_codebooks,
      jnp.asarray(_in_batches(encode, self._embeddings)),
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
    terms, codes = losses(params, batch, self._config)
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
    z = _encode(params, batch, config=self._config)
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
  return _in_batches(
    functools.partial(_assign, params, config=config), embeddings
  )


def _autoencoder(config: SemanticIdsConfig, dim: int) -> Autoencoder:
  return Autoencoder(dim, config.hidden_dims, config.latent_dim)


def _standardise(params, x):
  mean, std = lax.stop_gradient((params.mean, params.std))
  return (x - mean[None]) / std[None]


@functools.partial(jax.jit, static_argnames='config')
def _encode(params, x, config):
  model = _autoencoder(config, x.shape[1])
  x = _standardise(params, x)
  return model.apply(params.network, x, method=model.encode)


@functools.partial(jax.jit, static_argnames='config')
def _assign(params, x, config):
  z = _encode(params, x, config=config)
  return residual.quantize(z, params.codebooks).codes


def _chosen(
  codes: Int[Array, 'b l'], idle: Float[Array, 'l v']
) -> Float[Array, 'l v']:
  """Marks the codes that occur in a batch with 1, the others with 0."""
  levels = jnp.arange(len(idle))[None]
  return jnp.zeros_like(idle).at[levels, codes].set(1)


def _in_batches(
  fn: Callable[[np.ndarray], jax.Array], embeddings: np.ndarray
) -> np.ndarray:
  """Applies `fn` to all rows, a batch of one fixed shape at a time."""
  outputs = []
  for start in range(0, len(embeddings), _ENCODE_BATCH):
    x = embeddings[start : start + _ENCODE_BATCH].astype(np.float32)
    padding = _ENCODE_BATCH - len(x)
    y = fn(np.pad(x, ((0, padding), (0, 0))))
    outputs.append(np.asarray(y)[: len(x)])
  return np.concatenate(outputs)
