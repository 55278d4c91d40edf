"""The train loop of all models: TIGER, the RQ-VAE and every baseline."""

from collections.abc import Callable, Iterable, Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np
from tqdm import tqdm

from tiger_jax.checkpoints import skipped
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.checkpoints.ledger import Ledger
from tiger_jax.config import OptimizerConfig
from tiger_jax.data.packing import split_plan
from tiger_jax.errors import CheckpointError, NotFiniteError, Preempted
from tiger_jax.runtime import goodput, processes
from tiger_jax.runtime.preemption import StopSignal
from tiger_jax.runtime.printing import say
from tiger_jax.runtime.sharding import (
  fetch,
  put,
  replicate,
  shard_batch,
  state_shardings,
)
from tiger_jax.runtime.writers import MetricsWriter, progress_line, say_above
from tiger_jax.storage import os_errors
from tiger_jax.training.log import StepLog
from tiger_jax.training.optimizer import learning_rate, make_optimizer
from tiger_jax.training.schedule import Schedule
from tiger_jax.training.step import (
  Params,
  Task,
  TrainState,
  init_state,
  make_steps,
  tensor_names,
)

# The maximum number of rewinds. If a run needs more, rewinding is no remedy.
_MAX_REWINDS = 10


def train(
  task: Task,
  batches: Callable[[int, int], Iterable[Any]],
  schedule: Schedule,
  optimizer_config: OptimizerConfig,
  *,
  seeds: Sequence[int],
  mesh: Mesh,
  folder: Path,
  writer: MetricsWriter,
  label: str,
  identity: dict[str, Any],
  evaluate: Callable[[Params], dict[str, float]] | None = None,
  best_metric: str | None = None,
) -> Params:
  """Trains a model, or resumes an earlier call in the same folder.

  Every process with devices in the mesh must call this function with the same
  arguments.

  Args:
    task: The training task.
    batches: A function `(start, stop)` that yields the batches `start` to
      `stop - 1` in stacks.
    schedule: The number of steps, and the intervals of logs and checkpoints.
    optimizer_config: The optimizer and its learning rate schedule.
    seeds: One seed per replica. With several replicas, the parameters have a
      leading replica axis.
    mesh: The devices. Batches and parameters are sharded over them.
    folder: Holds `checkpoints/`, `ledger` and `goodput.jsonl`.
    writer: Receives the metrics.
    label: The name of the stage in the metrics and the progress line.
    identity: JSON that describes what is trained, see `Checkpoints`.
    evaluate: A function from parameters to metrics, called at every checkpoint.
    best_metric: The metric whose best checkpoint is kept, in addition to the
      latest; None for no metric.

  Returns:
    The parameters after the last step.

  Raises:
    NumbersError: A value is not finite. Earlier checkpoints are kept.
    CheckpointError: A checkpoint cannot be saved, or belongs to another run.
    Preempted: SIGTERM, SIGHUP or Ctrl-C was received. The state is saved.
  """
  with contextlib.ExitStack() as stack:
    watch = goodput.Stopwatch()
    stack.callback(watch.close)
    checkpoints = stack.enter_context(
      Checkpoints(
        folder / 'checkpoints',
        identity,
        best_metric,
        reach=schedule.reach,
        writes=processes.is_main(),
      )
    )
    checkpoints.require_same_run()
    run = _Run(
      batches=batches,
      schedule=schedule,
      mesh=mesh,
      folder=folder,
      writer=writer,
      label=label,
      evaluate=evaluate,
      best_metric=best_metric,
      watch=watch,
      checkpoints=checkpoints,
    )
    run.prepare(task, optimizer_config, seeds)
    with StopSignal() as stop:
      for num_rewinds in range(_MAX_REWINDS + 1):
        try:
          run.resume(stop)
          break
        except NotFiniteError as error:
          run.rewind(error, num_rewinds)
        except OSError as error:
          reason, remedy = os_errors.explain(error)
          raise CheckpointError(
            f'{folder}: {label} stopped ({reason}); {remedy}'
          ) from error
    return run.params


@dataclasses.dataclass(kw_only=True)
class _Run:
  """The arguments and the state of one call of `train`."""

  batches: Callable[[int, int], Iterable[Any]]
  schedule: Schedule
  mesh: Mesh
  folder: Path
  writer: MetricsWriter
  label: str
  evaluate: Callable[[Params], dict[str, float]] | None
  best_metric: str | None
  watch: goodput.Stopwatch
  checkpoints: Checkpoints

  def prepare(
    self,
    task: Task,
    optimizer_config: OptimizerConfig,
    seeds: Sequence[int],
  ) -> None:
    """Creates the initial state and the jitted step function."""
    num_steps = self.schedule.num_steps
    self._rate = jax.jit(learning_rate(optimizer_config, num_steps))
    optimizer = make_optimizer(optimizer_config, num_steps)
    # Not traced, because a task may compute its parameters on the host.
    self._initial_state = init_state(task, optimizer, seeds)
    self._shapes = jax.eval_shape(lambda: self._initial_state)
    self._shardings = state_shardings(
      self.mesh, self._shapes, num_leading=int(len(seeds) > 1)
    )
    self._steps_fn = make_steps(task, optimizer, seeds, self._shardings)
    self._tables = replicate(self.mesh, task.tables)
    self._any_process = processes.AnyProcess(self.mesh)
    self._compiled: set[str] = set()
    self._state: Any = None
    self._step = 0
    self._skipped: skipped.Ranges = ()
    self._reported_seconds: dict[str, float] = {}

  @property
  def params(self) -> Params:
    """The current parameters."""
    return self._state.params

  def resume(self, stop: StopSignal) -> None:
    """Trains to the end, from the newest checkpoint or from step 0."""
    start = self._restore()
    with contextlib.ExitStack() as stack:
      ledger = Ledger(
        self.folder / 'ledger' if processes.is_main() else None, start
      )
      stack.callback(ledger.close)
      stack.callback(self._report_goodput, start)
      self.writer.rewind(self.label, start, self.folder)
      bar = stack.enter_context(
        progress_line(self.label, self.schedule.num_steps, start)
      )
      self._train(stop, start, ledger, bar)

  def rewind(self, error: NotFiniteError, num_rewinds: int) -> None:
    """Rewinds to a checkpoint before the bad step, and skips batches."""
    policy = self.schedule.rewind
    if policy is None or num_rewinds == _MAX_REWINDS:
      alternative = 'let the run rewind and skip batches (train.on_non_finite)'
      if policy:
        alternative = f'look at the data ({num_rewinds} rewinds did not help)'
      raise type(error)(
        f'{error}; lower the learning rate in the config (training then starts '
        f'again from step 0), or {alternative}',
        error.step,
      ) from error
    # No value was NaN or infinite before the range of the earlier rewind.
    earliest = skipped.last_start(self._skipped, error.step - 1)
    start, stop = policy.window(error.step, earliest)
    # Without an older checkpoint, training starts again from step 0.
    step = max(x for x in (0, *self.checkpoints.steps()) if x <= start)
    step = processes.from_main(step, self.mesh)
    self.checkpoints.drop(step, aside=False)
    self._skipped = skipped.skip(self._skipped, start, stop)
    problem = str(error).removeprefix(f'{self.label}: ')
    say(
      f'{self.label:>12}: {problem}: back to step {step}; skipped so far: '
      f'batches {skipped.to_text(self._skipped)}'
    )

  def _restore(self) -> int:
    """Restores the newest checkpoint or the initial state; returns its step."""
    steps = self.checkpoints.steps()[::-1]
    like = self._shapes._asdict()
    restored = self.checkpoints.restore_first(steps, like, self.mesh)
    if restored is None:
      # `fetch` copies the state, because the first step donates its input.
      self._state = put(fetch(self._initial_state), self._shardings)
      self._step = 0
      return 0
    self._step, state, meta = restored
    self.checkpoints.drop(self._step, aside=True)
    self._state = put(TrainState(**state), self._shardings)
    # After a rewind, the checkpoint may be older than the last skipped range.
    self._skipped = self._skipped or skipped.from_json(meta.get('skipped', []))
    return self._step

  def _train(
    self, stop: StopSignal, start: int, ledger: Ledger, bar: tqdm
  ) -> None:
    schedule, watch = self.schedule, self.watch
    log = StepLog(self.writer, self.label, tensor_names(self._shapes), watch)
    last = schedule.num_steps
    stream = skipped.read(self.batches, self._skipped, start, last)
    step = start
    while step < last:
      before = step
      with watch.phase('data'):
        number, batch = next(stream)
        plan, batch = split_plan(batch)
        digests = ledger.add(plan, number)
        placed = shard_batch(self.mesh, batch, axis=1)
      shapes = str(jax.tree.structure(placed)) + str(
        [x.shape for x in jax.tree.leaves(placed)]
      )
      is_new = shapes not in self._compiled
      with watch.phase('compile' if is_new else 'step'):
        self._state, results = self._steps_fn(self._state, self._tables, placed)
      if is_new:
        self._compiled.add(shapes)
        bar.unpause()  # Excludes the compilation from the estimated time left.
      with watch.phase('step'):
        # Waits for the previous call, while the device computes this one.
        log.wait()
      num_examples = int(np.prod(jax.tree.leaves(batch)[0].shape[:2]))
      self._step = step = log.add(before, results, digests, num_examples)
      bar.update(step - before)
      # Read once: a signal that arrives later is handled after the next call.
      stopping = self._any_process(stop.received)
      saving = _passed(before, step, schedule.save_every) or step == last
      if saving or stopping or _passed(before, step, schedule.log_every):
        with watch.phase('step'):
          log.wait()
        self._show(
          bar, log.flush({'learning_rate': float(np.asarray(self._rate(step)))})
        )
      if saving or stopping:
        ledger.flush()
        values = self._measure(step) if saving else None
        with watch.phase('save'):
          try:
            self.checkpoints.save(
              step,
              self._state._asdict(),
              {'skipped': self._skipped},
              values,
              last=step == last,
            )
          except NotFiniteError as error:
            raise NotFiniteError(
              f'{self.label}: after batch {digests[-1]}, {error}', step
            ) from error
        # Printed after the save, so that printing cannot prevent the save.
        if values and self.best_metric:
          shown = f'{self.best_metric} {values[self.best_metric]:.4f}'
          line = f'{self.label:>12}: step {step}: validation {shown}'
          say_above(bar, line)
      if stopping:
        with watch.phase('save'):
          self.checkpoints.wait()
        raise self._preempted(stop)
    with watch.phase('save'):
      self.checkpoints.wait()
    # A signal may have arrived since the last step. With several processes, a
    # call returns the answer to the previous call, so two calls are needed.
    self._any_process(stop.received)
    if self._any_process(stop.received):
      raise self._preempted(stop)

  def _preempted(self, stop: StopSignal) -> Preempted:
    return Preempted(
      f'{self.label}: stopped by {stop.name or "another process"} at step '
      f'{self._step}, saved; run the same command to resume'
    )

  def _measure(self, step: int) -> dict[str, float] | None:
    if not self.evaluate:
      return None
    with self.watch.phase('evaluate'):
      values = self.evaluate(self._state.params)
    self.writer.write(self.label, step, values)
    return values

  def _show(self, bar: tqdm, means: dict[str, float]) -> None:
    bar.set_postfix(
      {
        'loss': f'{means["loss"]:.4f}',
        'rate': f'{means["learning_rate"]:.1e}',
        'gradient': f'{means["gradient_norm"]:.2f}',
        'examples/s': f'{means["examples_per_second"]:.0f}',
      },
      refresh=False,
    )

  def _report_goodput(self, start: int) -> None:
    if not processes.is_main():
      return
    total, before = self.watch.seconds(), self._reported_seconds
    self._reported_seconds = total
    seconds = {k: v - before.get(k, 0.0) for k, v in total.items()}
    say(f'{self.label:>12}: {goodput.summary(seconds)}')
    goodput.record(self.folder / 'goodput.jsonl', start, self._step, seconds)


def _passed(before: int, step: int, every: int) -> bool:
  """Returns whether `(before, step]` contains a multiple of `every`."""
  return step // every > before // every
