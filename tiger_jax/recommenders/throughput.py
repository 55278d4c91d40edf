"""How fast the recommender trains, for --mode=bench."""

import functools
from pathlib import Path
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tiger_jax.errors import UsageError
from tiger_jax.models.flops import training_flops
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import goodput, sharding
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

# Dense bfloat16 operations per second of a chip, as its maker states them, by
# the beginning of what JAX calls it.
_PEAKS = (
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

  `profile` gets a profile of some steps, for TensorBoard or Perfetto.
  """
  config, mesh, seeds = session.config, session.mesh, session.seeds
  if not session.entry.is_trained:
    raise UsageError(
      f'config.model.name is {config.model.name!r}, which learns nothing: '
      'choose another to measure the steps of'
    )
  source, task = session.batches, session.training_task
  optimizer = make_optimizer(config.train.optimizer, config.train.steps)
  init = functools.partial(init_state, task, optimizer, seeds)
  shardings = sharding.state_shardings(
    mesh, jax.eval_shape(init), num_leading=int(len(seeds) > 1)
  )
  steps_fn = make_steps(task, optimizer, seeds, shardings)
  state = jax.jit(init, out_shardings=shardings)()
  tables = sharding.replicate(mesh, task.tables)

  def take(state: Any, call: int) -> tuple[Any, Any]:
    first = call * source.steps_per_call
    stack = source.stack(first, first + source.steps_per_call)
    placed = sharding.shard_batch(mesh, stack, axis=1)
    return steps_fn(state, tables, placed)

  calls = source.steps_per_epoch // source.steps_per_call
  watch = goodput.Stopwatch()
  widths = {source.width(call): call for call in range(calls)}
  taken = None
  for call in widths.values():
    state, taken = take(state, call)
  jax.block_until_ready(taken)
  watch.close()
  compile_seconds = watch.seconds().get('compile', 0.0)

  if profile:
    with jax.profiler.trace(str(profile)):
      for call in range(min(calls, 5)):
        state, taken = take(state, call)
      jax.block_until_ready(taken)

  num_calls = 0
  start = time.perf_counter()
  while (elapsed := time.perf_counter() - start) < seconds or not num_calls:
    before = taken
    state, taken = take(state, num_calls % calls)
    num_calls += 1
    jax.block_until_ready(before)
  jax.block_until_ready(taken)
  elapsed = time.perf_counter() - start
  timed = [call % calls for call in range(num_calls)]
  return _report(session, timed, elapsed, compile_seconds)


def format_table(found: dict[str, Any]) -> str:
  """Returns one line per figure."""
  return '\n'.join(
    f'  {name:<28} {value if isinstance(value, str) else f"{value:,.4g}"}'
    for name, value in found.items()
  )


def peak_flops() -> tuple[float, str]:
  """Returns the peak FLOP/s of a device, and the source of the figure.

  For an unknown device, it times a large matrix product.
  """
  kind = jax.devices()[0].device_kind
  for name, flops in _PEAKS:
    if kind.startswith(name):
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
  return 2 * size**3 / min(seconds), 'of a large float32 product, measured'


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
  num_steps = len(lengths) / batch_size
  speed = num_replicas / elapsed
  found = {
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
    return found
  sizes = session.inputs.semantic_ids.level_sizes
  tokens = len(sizes) * (lengths.sum() + targets.sum())
  flops = training_flops(config.model, sizes, lengths)
  peak, whose = peak_flops()
  return found | {
    'tokens/s, no padding counted': tokens * speed,
    'useful flop/s': flops * speed,
    'MFU': flops * speed / (peak * num_devices),
    'peak of a device': f'{peak:.3g} flop/s ({whose})',
  }
