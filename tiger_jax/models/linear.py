"""A linear layer that trains fast on CPUs."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Linear(nn.Module):
  """A linear layer without additive bias.

  The parameter `kernel` has the shape and the initial values of that of
  `nn.DenseGeneral`. The product has only two axes, tokens and features: with
  more axes, XLA transposes the activations on CPUs to compute the gradient of
  the kernel.

  Attributes:
    features: The shape of the output features of a token.
    kernel_init: Initializes the kernel as a matrix.
    dtype: The dtype of the computation.
    num_axes: The number of axes of the input features of a token.
  """

  features: tuple[int, ...]
  kernel_init: nn.initializers.Initializer
  dtype: jnp.dtype
  num_axes: int = 1

  @nn.compact
  def __call__(self, x: Float[Array, '...']) -> Float[Array, '...']:
    """Transforms the last `num_axes` axes of `x` to `features`."""
    split = x.ndim - self.num_axes
    outer, inner = x.shape[:split], x.shape[split:]
    matrix = (math.prod(inner), math.prod(self.features))
    kernel = self.param(
      'kernel',
      lambda rng, shape: self.kernel_init(rng, matrix).reshape(shape),
      (*inner, *self.features),
    )
    kernel = kernel.reshape(matrix).astype(self.dtype)
    if matrix[0] > matrix[1]:
      kernel = _separate_gradient(kernel.T).T
    y = x.reshape(-1, matrix[0]).astype(self.dtype) @ kernel
    return y.reshape(*outer, *self.features)


@jax.custom_vjp
def _separate_gradient(x: Float[Array, 'n m']) -> Float[Array, 'n m']:
  """Returns `x`, and prevents XLA from changing how its gradient is computed.

  On CPUs, the gradient of a kernel takes twice as long if the matrix has more
  rows than columns. XLA must therefore not merge a transpose into the product.
  """
  return x


def _forward(x: Any) -> tuple[Any, None]:
  return x, None


def _backward(_: None, gradient: Any) -> tuple[Any]:
  return (jax.lax.optimization_barrier(gradient),)


_separate_gradient.defvjp(_forward, _backward)
