"""The training step of every model; one jitted call runs many steps."""

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
  """A training objective."""

  @property
  def tables(self) -> Any:
    """A pytree of constant arrays that every step reads.

    They are an argument of the jitted call and are replicated on every device.
    """
    ...

  def init(self, rng: Array) -> Params:
    """Returns the initial parameters."""
    ...

  def loss(
    self, params: Params, tables: Any, batch: Any, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], Any]:
    """Returns `(loss, metrics, seen)` for a batch.

    `loss` is minimized. `metrics` holds scalars to log; a metric named `loss`
    is logged in place of the minimized loss. `seen` is passed to
    `UpdatingTask.after_update`.
    """
    ...


@runtime_checkable
class UpdatingTask(Task, Protocol):
  """A task that also changes parameters without a gradient."""

  def after_update(
    self, params: Params, tables: Any, seen: Any, step: Array, rng: Array
  ) -> Params:
    """Returns the changed parameters.

    `seen` comes from `loss`, and `step` is the number of earlier steps.
    """
    ...


class TrainState(NamedTuple):
  """The state that a step takes and returns; `step` counts the steps done."""

  step: Int[Array, '']
  params: Params
  opt_state: Any


class StepResults(NamedTuple):
  """The results of one call, which runs n steps.

  With several replicas, each array has an axis `r` for them.

  Attributes:
    metrics: `loss`, `gradient_norm` and the metrics of the task.
    finite: Whether each of the tensors in `tensor_names` was finite.
  """

  metrics: dict[str, Float[Array, 'n *r']]
  finite: Bool[Array, 'n *r x']


StepsFn = Callable[[TrainState, Any, Any], tuple[TrainState, StepResults]]


def init_params(task: Task, seeds: Sequence[int]) -> Params:
  """Returns the initial parameters, with replicas as in `init_state`."""

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
  """Returns the initial state.

  There is one replica per seed. With several replicas, every array except
  `step` has a leading axis for them.
  """
  params = init_params(task, seeds)
  init = optimizer.init if len(seeds) == 1 else jax.vmap(optimizer.init)
  # Without `jit`, a separate program would be compiled to create each array.
  opt_state = jax.jit(init)(params)
  return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def make_steps(
  task: Task,
  optimizer: optax.GradientTransformation,
  seeds: Sequence[int],
  shardings: TrainState | None = None,
) -> StepsFn:
  """Returns a jitted function that runs one step per batch of a stack.

  The function maps `(state, tables, stack)` to `(state, results)` and donates
  the state. The first axis of every array of the stack indexes the batches. The
  host does nothing between the steps of a call, because host overhead would
  dominate the training time of a small model.

  All randomness is a function of the seed and the step, so a resumed run
  repeats the steps of an uninterrupted run. Replicas share the batches. Each
  replica learns the same parameters as if it were trained alone.

  Args:
    task: The training task.
    optimizer: The optimizer.
    seeds: One seed per replica.
    shardings: The shardings of the returned state.
  """
  if len(seeds) == 1:
    step = functools.partial(_step, task, optimizer, seeds[0])
  else:
    axes = TrainState(None, 0, 0)  # pyrefly: ignore[bad-argument-type]
    step_all = jax.vmap(
      functools.partial(_step, task, optimizer),
      in_axes=(0, axes, None, None),
      out_axes=(axes, 0),
    )
    step = functools.partial(step_all, np.array(seeds, np.uint32))

  def steps(
    state: TrainState, tables: Any, stack: Any
  ) -> tuple[TrainState, StepResults]:
    return lax.scan(
      lambda state, batch: step(state, tables, batch), state, stack
    )

  return jax.jit(steps, donate_argnums=0, out_shardings=(shardings, None))


def tensor_names(state: TrainState) -> list[str]:
  """Returns the names of the tensors in `StepResults.finite`, in order."""
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
) -> tuple[TrainState, StepResults]:
  rng = jax.random.fold_in(jax.random.key(seed), state.step)
  rng_loss, rng_update = jax.random.split(rng)

  def objective(params: Params) -> tuple[Float[Array, ''], Any]:
    loss, metrics, seen = task.loss(params, tables, batch, rng_loss)
    return loss, (metrics, seen)

  (loss, (metrics, seen)), gradients = jax.value_and_grad(
    objective, has_aux=True
  )(state.params)
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  if isinstance(task, UpdatingTask):
    params = task.after_update(params, tables, seen, state.step, rng_update)
  # `tensor_names` has the same order.
  tensors = [
    *jax.tree.leaves(state.params),
    loss,
    *jax.tree.leaves(gradients),
  ]
  finite = jnp.stack([jnp.isfinite(x).all() for x in tensors])
  norm = optax.tree.norm(gradients)
  metrics = {'loss': loss, 'gradient_norm': norm, **metrics}
  results = StepResults(metrics, finite)
  return TrainState(state.step + 1, params, opt_state), results
