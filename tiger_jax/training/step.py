"""One training step, of every model, and many of them in one call."""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import optax

Params = Any


@runtime_checkable
class Task(Protocol):
  """A training objective.

  Attributes:
    tables: A pytree of arrays that every step reads and none changes. They
      enter the compiled step as an argument and lie whole on every device.
  """

  tables: Any

  def init(self, rng: Array) -> Params:
    """Returns the parameters to begin with."""
    ...

  def loss(
    self, params: Params, tables: Any, batch: Any, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], Any]:
    """Returns the loss of a batch, scalars to log, and arrays to hand on.

    A scalar called `loss` is logged instead of what is minimised.
    """
    ...


@runtime_checkable
class UpdatingTask(Task, Protocol):
  """A task that also changes parameters by other means than a gradient."""

  def after_update(
    self, params: Params, tables: Any, seen: Any, step: Array, rng: Array
  ) -> Params:
    """Returns the changed parameters.

    `seen` is what `loss` handed on, `step` the number of steps before.
    """
    ...


class TrainState(NamedTuple):
  """The state that a step takes and returns; `step` counts the steps done."""

  step: Int[Array, '']
  params: Params
  opt_state: Any


class Taken(NamedTuple):
  """The results of n steps of a call, for r replicas if there are several.

  `metrics` has `loss`, `gradient_norm` and those of the task, and `finite` says
  whether each of the tensors in `tensor_names` was finite.
  """

  metrics: dict[str, Float[Array, 'n *r']]
  finite: Bool[Array, 'n *r x']


StepsFn = Callable[[TrainState, Any, Any], tuple[TrainState, Taken]]


def init_params(task: Task, seeds: Sequence[int]) -> Params:
  """Returns the parameters before the first step, see `init_state`."""

  def init(seed: Any) -> Params:
    return task.init(jax.random.key(seed))

  if len(seeds) == 1:
    return init(seeds[0])
  return jax.vmap(init)(np.array(seeds, np.uint32))


def init_state(
  task: Task,
  optimizer: optax.GradientTransformation,
  seeds: Sequence[int],
) -> TrainState:
  """Returns the state before the first step.

  With several replicas, which have one seed each, every array except `step` has
  a leading axis for them.
  """
  params = init_params(task, seeds)
  init = optimizer.init if len(seeds) == 1 else jax.vmap(optimizer.init)
  # Jitted; otherwise the creation of each array compiles a program.
  opt_state = jax.jit(init)(params)
  return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def make_steps(
  task: Task,
  optimizer: optax.GradientTransformation,
  seeds: Sequence[int],
  shardings: TrainState | None = None,
) -> StepsFn:
  """Compiles several steps: `(state, tables, stack) -> (state, taken)`.

  The first axis of all arrays of the stack counts the batches. The device does
  not wait for the host between steps, which is most of the time of a small
  model. The state is donated. All randomness is a function of the seed and the
  step, so a resumed run takes the same steps as an uninterrupted one. Replicas,
  one for each seed, share the batches, and each learns what it would alone.
  The state stays where `shardings` put it.
  """
  if len(seeds) == 1:
    step = functools.partial(_step, task, optimizer, seeds[0])
  else:
    axes = TrainState(None, 0, 0)  # pyrefly: ignore[bad-argument-type]
    together = jax.vmap(
      functools.partial(_step, task, optimizer),
      in_axes=(0, axes, None, None),
      out_axes=(axes, 0),
    )
    step = functools.partial(together, np.array(seeds, np.uint32))

  def steps(
    state: TrainState, tables: Any, stack: Any
  ) -> tuple[TrainState, Taken]:
    return lax.scan(
      lambda state, batch: step(state, tables, batch), state, stack
    )

  return jax.jit(steps, donate_argnums=0, out_shardings=(shardings, None))


def tensor_names(state: TrainState) -> list[str]:
  """Returns what `Taken.finite` tells of, in the order of their making."""
  paths = [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, _ in jax.tree.leaves_with_path(state.params)
  ]
  return [
    *(f'parameter {path}' for path in paths),
    'loss',
    *(f'gradient of {path}' for path in paths),
  ]


def _step(
  task: Task,
  optimizer: optax.GradientTransformation,
  seed: Any,
  state: TrainState,
  tables: Any,
  batch: Any,
) -> tuple[TrainState, Taken]:
  rng = jax.random.fold_in(jax.random.key(seed), state.step)
  rng_loss, rng_update = jax.random.split(rng)

  def objective(params: Params) -> tuple[Float[Array, ''], Any]:
    loss, *rest = task.loss(params, tables, batch, rng_loss)
    return loss, rest

  (loss, (metrics, seen)), gradients = jax.value_and_grad(
    objective, has_aux=True
  )(state.params)
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  if isinstance(task, UpdatingTask):
    params = task.after_update(params, tables, seen, state.step, rng_update)
  tensors = [
    *jax.tree.leaves(state.params),
    loss,
    *jax.tree.leaves(gradients),
  ]
  finite = jnp.stack([jnp.isfinite(x).all() for x in tensors])
  norm = optax.tree.norm(gradients)
  metrics = {'loss': loss, 'gradient_norm': norm, **metrics}
  return TrainState(state.step + 1, params, opt_state), Taken(metrics, finite)
