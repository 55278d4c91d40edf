"""The one train loop: TIGER, the RQ-VAE and every baseline run through it."""

from collections.abc import Callable, Iterable
import functools
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np
import optax

from tiger_jax.config import OptimizerConfig
from tiger_jax.errors import NumbersError, Preempted
from tiger_jax.training.checkpoint import Checkpoints
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.preemption import StopSignal
from tiger_jax.training.sharding import replicate, shard_batch
from tiger_jax.training.writers import MetricsWriter, progress_line

Params = Any
Metrics = dict[str, float]


@runtime_checkable
class Task(Protocol):
  """What is to be learnt.

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
    """Returns the loss of a batch, scalars to log, and arrays to hand on."""
    ...

  def after_update(
    self, params: Params, tables: Any, seen: Any, step: Array, rng: Array
  ) -> Params:
    """Returns the parameters as changed by other means than a gradient.

    `seen` is what `loss` handed on, `step` the number of steps before.
    """
    ...


class TrainState(NamedTuple):
  """What a step takes and returns, and a checkpoint holds.

  Attributes:
    step: Steps done.
    params: The model's parameters.
    opt_state: The optimizer's.
  """

  step: Int[Array, '']
  params: Params
  opt_state: Any


class Schedule(NamedTuple):
  """How long to train and how often to look.

  Attributes:
    num_steps: Optimizer steps.
    log_every: Steps between two lines of metrics.
    save_every: Steps between two checkpoints, and two evaluations.
    scanned: Whether the loop is given stacks of batches, `[n, b, ...]`, and
      takes their n steps in one call of the device. Logs, checkpoints and
      signals then wait for the end of a call.
  """

  num_steps: int
  log_every: int
  save_every: int
  scanned: bool = False


def init_state(
  task: Task, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
  """Returns the state before the first step."""
  params = task.init(jax.random.key(seed))
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_step(
  task: Task, optimizer: optax.GradientTransformation, seed: int
) -> Callable[
  [TrainState, Any, Any], tuple[TrainState, dict[str, Float[Array, '']]]
]:
  """Returns the compiled `(state, tables, batch) -> (state, metrics)`.

  The state is donated. All randomness is a function of the seed and the step,
  so a resumed run takes the very steps an uninterrupted one takes.
  """
  return jax.jit(_step(task, optimizer, seed), donate_argnums=0)


def make_steps(
  task: Task, optimizer: optax.GradientTransformation, seed: int
) -> Callable[
  [TrainState, Any, Any], tuple[TrainState, dict[str, Float[Array, ' n']]]
]:
  """Returns what takes the steps of a stack of batches in one call.

  Like `make_step`, but batches and metrics have one axis more, the first. The
  device need not wait for the host between steps, which is most of the time
  where the model is small.
  """
  step = _step(task, optimizer, seed)

  @functools.partial(jax.jit, donate_argnums=0)
  def steps(
    state: TrainState, tables: Any, stack: Any
  ) -> tuple[TrainState, dict[str, Float[Array, ' n']]]:
    return lax.scan(
      lambda state, batch: step(state, tables, batch), state, stack
    )

  return steps


def _step(task, optimizer, seed):
  def step(
    state: TrainState, tables: Any, batch: Any
  ) -> tuple[TrainState, dict[str, Float[Array, '']]]:
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
    params = task.after_update(params, tables, seen, state.step, rng_update)
    norm = optax.tree.norm(gradients)
    metrics = {'loss': loss, 'gradient_norm': norm, **metrics}
    return TrainState(state.step + 1, params, opt_state), metrics

  return step


def train(
  task: Task,
  batches: Callable[[int, int], Iterable[Any]],
  schedule: Schedule,
  optimizer_config: OptimizerConfig,
  *,
  seed: int,
  mesh: Mesh,
  folder: Path,
  writer: MetricsWriter,
  label: str,
  about: dict[str, Any] | None = None,
  evaluate: Callable[[Params], Metrics] | None = None,
  best_metric: str | None = None,
) -> Params:
  """Trains, or goes on where an earlier call in the same folder stopped.

  Args:
    task: What to learn.
    batches: `(start, stop)` -> the batches of those steps, or stacks of them
      where `schedule.scanned`.
    schedule: How long.
    optimizer_config: The recipe.
    seed: Of everything random.
    mesh: The devices; batches are spread over them.
    folder: Holds the checkpoints.
    writer: Gets the metrics.
    label: Names the stage in the metrics and the progress line.
    about: JSON saved with every checkpoint, to tell what it is of.
    evaluate: Called with the parameters at every checkpoint and at the end.
    best_metric: Which of its metrics picks the parameters that are returned;
      None returns the last.

  Returns:
    The parameters.

  Raises:
    NumbersError: The loss is not finite. What was saved before stays.
    Preempted: SIGTERM or Ctrl-C came; the state is saved.
  """
  optimizer = make_optimizer(optimizer_config, schedule.num_steps)
  step_fn = (make_steps if schedule.scanned else make_step)(
    task, optimizer, seed
  )
  batch_axis = 1 if schedule.scanned else 0
  state = replicate(mesh, init_state(task, optimizer, seed))
  tables = replicate(mesh, task.tables)
  log = _Log(writer, label)
  with Checkpoints(folder, best_metric) as checkpoints, StopSignal() as stop:
    start = checkpoints.latest_step() or 0
    if start:
      state, _ = checkpoints.restore(start, mesh, state)
    writer.rewind(label, start)
    with progress_line(label, schedule.num_steps, start) as bar:
      compiled: set[str] = set()
      before = start
      for batch in batches(start, schedule.num_steps):
        batch = shard_batch(mesh, batch, batch_axis)
        state, metrics = step_fn(state, tables, batch)
        # The device works on this step while the host waits for the last one.
        log.wait()
        step = log.add(before, metrics)
        if (shapes := str(jax.tree.map(np.shape, batch))) not in compiled:
          compiled.add(shapes)
          bar.unpause()  # Compilation says nothing about the time to come.
        bar.update(step - before)
        last = step == schedule.num_steps
        # Read once: a signal that comes later must find its step saved.
        stopping = stop.received
        if _passed(before, step, schedule.log_every) or last or stopping:
          bar.set_postfix(log.flush(), refresh=False)
        if _passed(before, step, schedule.save_every) or last:
          log.flush()
          values = evaluate(state.params) if evaluate else None
          if values:
            writer.write(label, step, values)
            if best_metric:
              found = f'{best_metric} {values[best_metric]:.4f}'
              bar.write(f'{label:>12}: step {step}: validation {found}')
          checkpoints.save(step, state, {'step': step} | (about or {}), values)
          stopping = stop.received
        elif stopping:
          checkpoints.save(step, state, {'step': step} | (about or {}))
        if stopping:
          raise Preempted(
            f'{label}: asked to stop, saved at step {step}; run the same '
            'command to go on'
          )
        before = step
    best = checkpoints.best_step() if best_metric else None
    if best is not None and best != int(state.step):
      state, _ = checkpoints.restore(best, mesh, state)
  return state.params


def _passed(before: int, step: int, every: int) -> bool:
  """Whether a multiple of `every` is after `before` and not after `step`."""
  return step // every > before // every


class _Log:
  """Metrics on their way out, read long after the device was told to go on."""

  def __init__(self, writer: MetricsWriter, label: str):
    self._writer = writer
    self._label = label
    self._pending: list[tuple[int, dict[str, Array]]] = []
    self._shown: Metrics = {}

  def add(self, before: int, metrics: dict[str, Array]) -> int:
    """Takes the metrics of the steps after `before`; returns the last's."""
    step = before + metrics['loss'].size
    self._pending.append((step, metrics))
    return step

  def wait(self) -> None:
    """Blocks until the last step added is done."""
    if self._pending:
      jax.block_until_ready(self._pending[-1])

  def flush(self) -> Metrics:
    """Writes the means since the last call; raises where one is not finite."""
    if self._pending:
      steps, metrics = zip(*self._pending, strict=True)
      self._pending = []
      columns = {
        name: np.hstack(jax.device_get([m[name] for m in metrics]))
        for name in metrics[0]
      }
      for name, column in columns.items():
        if not np.isfinite(column).all():
          first = int(np.argmin(np.isfinite(column)))
          step = steps[-1] - len(column) + 1 + first
          raise NumbersError(
            f'{self._label}: {name} is {column[first]} at step {step}; '
            'lower the learning rate in the config, and training starts again'
          )
      means = {name: float(c.mean()) for name, c in columns.items()}
      self._writer.write(self._label, steps[-1], means)
      self._shown = {'loss': round(means['loss'], 4)}
    return self._shown
