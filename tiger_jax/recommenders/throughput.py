"""Measures the training speed, for --mode=bench."""

import functools
from pathlib import Path
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tiger_jax.data.packing import split_plan
from tiger_jax.errors import UsageError
from tiger_jax.models.flops import training_flops
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import goodput, sharding
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

# Peak dense bfloat16 FLOP/s as stated by the manufacturer, for each prefix of
# JAX's device kind. The first matching prefix applies.
_PEAK_FLOPS = (
  ('NVIDIA H100 PCIe', 756e12),
  ('NVIDIA H100 NVL', 835e12),
  ('NVIDIA H100', 989e12),
  ('NVIDIA H200', 989e12),
  ('NVIDIA A100', 312e12),
  ('NVIDIA L40S', 362e12),
  ('NVIDIA L40', 181e12),
  ('NVIDIA L4', 121e12),
  ('TPU v6', 918e12),
  ('TPU v5 lite', 197e12),
  ('TPU v5e', 197e12),
  ('TPU v5', 459e12),
  ('TPU v4', 275e12),
)


def measure(
  session: Session, profile: Path | None = None, seconds: float = 10.0
) -> dict[str, Any]:
  """Trains for some seconds and measures the speed; nothing is saved.

  Args:
    session: The run to measure.
    profile: The folder for a profile of up to five jitted calls, in the format
      of TensorBoard and Perfetto; None for no profile.
    seconds: The duration of the measurement.

  Raises:
    UsageError: The model has no parameters to train.
  """
  config, mesh, seeds = session.config, session.mesh, session.seeds
  if not session.entry.is_trained:
    raise UsageError(
      f'config.model.name is {config.model.name!r}, which is not trained: '
      'choose a trained model for --mode=bench'
    )
  source, task = session.own_batches, session.training_task
  optimizer = make_optimizer(config.train.optimizer, config.train.steps)
  init = functools.partial(init_state, task, optimizer, seeds)
  shardings = sharding.state_shardings(
    mesh, jax.eval_shape(init), num_leading=int(len(seeds) > 1)
  )
  steps_fn = make_steps(task, optimizer, seeds, shardings)
  state = jax.jit(init, out_shardings=shardings)()
  tables = sharding.replicate(mesh, task.tables)

  def run_call(state: Any, call: int) -> tuple[Any, Any]:
    first = call * source.steps_per_call
    _, stack = split_plan(source.stack(first, first + source.steps_per_call))
    return steps_fn(state, tables, sharding.shard_batch(mesh, stack, axis=1))

  calls_per_epoch = source.steps_per_epoch // source.steps_per_call
  watch = goodput.Stopwatch()
  # One call of each width compiles every program.
  call_by_width = {source.width(call): call for call in range(calls_per_epoch)}
  outputs = None
  for call in call_by_width.values():
    state, outputs = run_call(state, call)
  jax.block_until_ready(outputs)
  watch.close()
  compile_seconds = watch.seconds().get('compile', 0.0)

  if profile:
    with jax.profiler.trace(str(profile)):
      for call in range(min(calls_per_epoch, 5)):
        state, outputs = run_call(state, call)
      jax.block_until_ready(outputs)

  num_calls = 0
  start = time.perf_counter()
  while (elapsed := time.perf_counter() - start) < seconds or not num_calls:
    previous = outputs
    state, outputs = run_call(state, num_calls % calls_per_epoch)
    num_calls += 1
    jax.block_until_ready(previous)
  jax.block_until_ready(outputs)
  elapsed = time.perf_counter() - start
  timed_calls = [call % calls_per_epoch for call in range(num_calls)]
  return _report(session, timed_calls, elapsed, compile_seconds)


def format_table(report: dict[str, Any]) -> str:
  """Returns a table with one line for each value of a report."""
  return '\n'.join(
    f'  {name:<28} {value if isinstance(value, str) else f"{value:,.4g}"}'
    for name, value in report.items()
  )


def peak_flops() -> tuple[float, str]:
  """Returns the peak FLOP/s of a device, and the source of this value.

  For an unknown device, the value is the measured speed of a large matrix
  product.
  """
  device_kind = jax.devices()[0].device_kind
  for prefix, flops in _PEAK_FLOPS:
    if device_kind.startswith(prefix):
      return flops, 'stated, bfloat16'
  size = 2048
  x = jnp.ones((size, size))
  multiply = jax.jit(jnp.matmul)
  jax.block_until_ready(multiply(x, x))
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready(multiply(x, x))
    seconds.append(time.perf_counter() - start)
  return 2 * size**3 / min(seconds), 'measured with a large float32 product'


def _report(
  session: Session, calls: list[int], elapsed: float, compile_seconds: float
) -> dict[str, Any]:
  config, source = session.config, session.batches
  num_replicas = config.train.replicas
  lengths = np.concatenate([source.lengths(call) for call in calls])
  batch_size = config.train.batch_size
  slots = sum(
    source.width(call) * source.steps_per_call * batch_size for call in calls
  )
  every_prefix = session.entry.trains_every_prefix(config.model)
  targets = lengths if every_prefix else np.ones_like(lengths)
  num_devices = len(jax.devices())
  num_steps = len(calls) * source.steps_per_call
  speed = num_replicas / elapsed
  report = {
    'device': f'{num_devices} x {jax.devices()[0].device_kind}',
    'batch': f'{config.train.batch_size}, {config.model.dtype}',
    'replicas': num_replicas,
    'compilation, seconds': compile_seconds,
    'steps/s': num_steps / elapsed,
    'sequences/s': len(lengths) * speed,
    'targets/s': targets.sum() * speed,
    'share of padding': 1 - lengths.sum() / slots,
  }
  if config.model.name != 'tiger':
    return report
  sizes = session.inputs.semantic_ids.level_sizes
  tokens = len(sizes) * (lengths.sum() + targets.sum())
  flops = training_flops(config.model, sizes, lengths)
  peak, peak_source = peak_flops()
  return report | {
    'tokens/s, no padding counted': tokens * speed,
    'useful flop/s': flops * speed,
    'MFU': flops * speed / (peak * num_devices),
    'peak of a device': f'{peak:.3g} flop/s ({peak_source})',
  }
