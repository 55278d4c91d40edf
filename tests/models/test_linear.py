"""Tests of `tiger_jax.models.linear`, against Flax's `DenseGeneral`."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.models.linear import Linear

_INIT = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')


# Fewer inputs than outputs, more, several axes, and equal numbers.
@pytest.mark.parametrize(
  'inner, features',
  [((6,), (10,)), ((10,), (6,)), ((6,), (4, 5)), ((4, 5), (6,)), ((6,), (6,))],
)
@pytest.mark.parametrize('outer', [(7,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize('dtype', [np.dtype('float32'), jnp.dtype('bfloat16')])
def test_values_and_gradients_are_those_of_dense_general(
  inner, features, outer, dtype
):
  layer = Linear(features, _INIT, dtype, len(inner))
  expected = nn.DenseGeneral(
    features,
    axis=tuple(range(-len(inner), 0)),
    use_bias=False,
    kernel_init=_INIT,
    dtype=dtype,
  )
  rng, x_rng, weights_rng = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(x_rng, (*outer, *inner))
  weights = jax.random.normal(weights_rng, (*outer, *features))
  params = layer.init(rng, x)
  jax.tree.map(np.testing.assert_array_equal, params, expected.init(rng, x))

  def weighted(module, params, x):
    y = module.apply(params, x)
    assert y.dtype == dtype
    return (y.astype(jnp.float32) * weights).sum(), y

  results = [
    jax.jit(
      jax.value_and_grad(
        lambda p, x, m=module: weighted(m, p, x), (0, 1), has_aux=True
      )
    )(params, x)
    for module in (layer, expected)
  ]
  tolerance = 1e-5 if dtype == np.float32 else 0.05
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a, np.float32),
      np.asarray(b, np.float32),
      rtol=tolerance,
      atol=tolerance,
    ),
    *results,
  )


@pytest.mark.parametrize('width', [4, 16])
def test_every_product_of_the_gradient_has_two_matrices(width):
  layer = Linear((width,), _INIT, np.dtype('float32'))
  x = jnp.ones((2, 3, 8))
  params = layer.init(jax.random.key(0), x)

  def loss(params, x):
    return (layer.apply(params, x) ** 2).sum()

  text = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).as_text()
  products = re.findall(r'dot_general .* : \((.*?)\)', text)
  assert len(products) == 3  # The output and both gradients.
  for product in products:
    assert re.fullmatch(r'(tensor<\d+x\d+xf32>(, )?){2}', product)
  # The gradient of a kernel with more rows than columns is computed transposed.
  assert ('optimization_barrier' in text) == (width < 8)


def test_replicas_have_the_gradients_of_single_layers():
  layer = Linear((3,), _INIT, np.dtype('float32'))
  x = jax.random.normal(jax.random.key(1), (5, 8))
  params = [layer.init(jax.random.key(seed), x) for seed in (0, 1)]

  def gradient(params):
    return jax.grad(lambda p: (layer.apply(p, x) ** 2).sum())(params)

  together = jax.vmap(gradient)(jax.tree.map(lambda *y: jnp.stack(y), *params))
  alone = jax.tree.map(lambda *y: jnp.stack(y), *map(gradient, params))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), together, alone
  )
