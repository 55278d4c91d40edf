"""The RQ-VAE: a residual-quantized autoencoder of item embeddings.

Sections 3.1 and 4.1 of the paper. Here are its network and its loss.
"""

import functools
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.semantic_ids import residual


class RqVaeParams(NamedTuple):
  """Everything that training changes and that assigning codes needs.

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


def autoencoder(config: SemanticIdsConfig, dim: int) -> Autoencoder:
  """Returns the network of a config, for embeddings of width `dim`."""
  return Autoencoder(dim, config.hidden_dims, config.latent_dim)


@functools.partial(jax.jit, static_argnames='config')
def encode(
  params: RqVaeParams, x: Float[Array, 'b dim'], config: SemanticIdsConfig
) -> Float[Array, 'b z']:
  """Maps item embeddings, not standardised, to the latent space.

  Args:
    params: The parameters.
    x: Item embeddings.
    config: The network's sizes.

  Returns:
    The latent vectors, not quantized.
  """
  model = autoencoder(config, x.shape[1])
  x = _standardise(params, x)
  return cast(Array, model.apply(params.network, x, method=model.encode))


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
  model = autoencoder(config, x.shape[1])
  z = encode(params, x, config=config)
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

  # Summed over dimensions, as the paper writes it. A mean, which several
  # implementations take, lets the other terms outweigh the reconstruction.
  terms = Losses(
    reconstruction=distance(_standardise(params, x), x_hat),
    codebook=distance(lax.stop_gradient(residuals), chosen),
    commitment=distance(residuals, lax.stop_gradient(chosen)),
  )
  return terms, codes


def _standardise(params, x):
  mean, std = lax.stop_gradient((params.mean, params.std))
  return (x - mean[None]) / std[None]
