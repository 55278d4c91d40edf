"""A linear layer that trains fast on CPUs."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Linear(nn.Module):
  """A linear layer without additive bias.

  The parameter `kernel` has the same shape and initial values as in
  `nn.DenseGeneral`. The factors of the product are matrices. With more axes,
  XLA on a CPU first copies the activations to a transposed array to compute the
  gradient of the kernel (benchmarks/RESULTS.md, products of matrices).

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
  """Returns `x`. XLA does not merge its gradient with a transpose.

  A kernel with more rows than columns is transposed before and after this
  function, so that its gradient is computed as a matrix with more columns than
  rows, which is faster on CPUs. Without the barrier, XLA would undo this.
  """
  return x


def _forward(x: Float[Array, 'n m']) -> tuple[Float[Array, 'n m'], None]:
  return x, None


def _backward(
  _: None, gradient: Float[Array, 'n m']
) -> tuple[Float[Array, 'n m']]:
  return (jax.lax.optimization_barrier(gradient),)


_separate_gradient.defvjp(_forward, _backward)
