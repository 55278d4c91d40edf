"""The encoder and decoder of the RQ-VAE and the VQ-VAE.

Sections 3.1 and 4.1 of the paper.
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


class Mlp(nn.Module):
  """Dense layers with ReLU between them.

  Attributes:
    dims: Output width of each layer.
  """

  dims: tuple[int, ...]

  @nn.compact
  def __call__(self, x: Float[Array, '... _']) -> Float[Array, '... _']:
    """Applies the layers."""
    for i, dim in enumerate(self.dims):
      if i:
        x = nn.relu(x)
      # Full precision gives an item the same codes on every device.
      x = nn.Dense(dim, precision='highest')(x)
    return x


class Autoencoder(NamedTuple):
  """The parameters of an encoder and a decoder for embeddings.

  Attributes:
    encoder: Parameters of an `Mlp` from embeddings to latent vectors.
    decoder: Parameters of an `Mlp` with the widths in reverse order.
    mean: Mean of the embeddings.
    std: Standard deviation of the embeddings.
  """

  encoder: Any
  decoder: Any
  mean: Float[Array, ' dim']
  std: Float[Array, ' dim']

  @property
  def latent_dim(self) -> int:
    """Width of the latent space."""
    return _dims(self.encoder)[-1]

  def standardize(self, x: Float[Array, 'b dim']) -> Float[Array, 'b dim']:
    """Scales embeddings to the input of the encoder."""
    # Departs from the paper: the paper does not mention a standardization.
    mean, std = lax.stop_gradient((self.mean, self.std))
    return (x - mean[None]) / std[None]

  def encode(self, x: Float[Array, 'b dim']) -> Float[Array, 'b _']:
    """Maps embeddings to latent vectors."""
    return _apply(self.encoder, self.standardize(x))

  def decode(self, z: Float[Array, '... _']) -> Float[Array, '... dim']:
    """Maps latent vectors to standardized embeddings."""
    return _apply(self.decoder, z)

  def embed(self, z: Float[Array, 'b l _']) -> Float[Array, 'b l dim']:
    """Maps latent vectors to embeddings in the original scale."""
    return self.decode(z) * self.std[None, None] + self.mean[None, None]


def init(
  rng: jax.Array,
  hidden_dims: tuple[int, ...],
  latent_dim: int,
  mean: Float[np.ndarray, ' dim'],
  std: Float[np.ndarray, ' dim'],
) -> Autoencoder:
  """Returns randomly initialized networks.

  `mean` and `std` are the statistics of the embeddings.
  """
  rng_encoder, rng_decoder = jax.random.split(rng)
  dims = (len(mean), *hidden_dims, latent_dim)

  def init_mlp(rng, dims):
    return jax.jit(Mlp(dims[1:]).init)(rng, jnp.zeros((1, dims[0])))['params']

  return Autoencoder(
    encoder=init_mlp(rng_encoder, dims),
    decoder=init_mlp(rng_decoder, dims[::-1]),
    mean=jnp.array(mean),
    std=jnp.array(std),
  )


def _apply(layers: Any, x: Array) -> Array:
  return cast(Array, Mlp(_dims(layers)).apply({'params': layers}, x))


def _dims(layers: Any) -> tuple[int, ...]:
  """Derives the widths of an `Mlp` from its parameters."""
  return tuple(len(layers[f'Dense_{i}']['bias']) for i in range(len(layers)))
