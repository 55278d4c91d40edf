"""How the recommender learns: from what, on which devices, and judged how."""

from collections.abc import Callable, Iterable, Iterator
import functools
import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config import Config, EvaluationConfig
from tiger_jax.data import batches
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples, split
from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.evaluation.evaluator import evaluate
from tiger_jax.interfaces import Batch, Recommendations, Retriever
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.registry import Material
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import MetricsWriter, progress_line
from tiger_jax.training import loop
from tiger_jax.training.schedule import Rewind, Schedule
from tiger_jax.training.step import Replica, init_params

_BEST = 'ndcg@10'
# Picking a checkpoint does not depend on how it will be evaluated.
_VALIDATION = EvaluationConfig(num_beams=20)


def make_mesh(config: Config) -> Mesh:
  """Returns the mesh of all devices, however many there are.

  `config.parallel.tensor` is lowered to its greatest common divisor with the
  number of devices, `fsdp` likewise with the number of remaining devices, and
  the axis `data` gets the rest. A model can therefore be evaluated and served
  on any number of devices. Training calls `check_devices` first.
  """
  c = config.parallel
  num_devices = len(jax.devices())
  tensor = math.gcd(c.tensor, num_devices)
  fsdp = math.gcd(c.fsdp, num_devices // tensor)
  return sharding.make_mesh(fsdp=fsdp, tensor=tensor)


def check_devices(config: Config) -> None:
  """Refuses to train on devices that do not fit the config.

  Raises:
    UsageError: The devices cannot be divided as the config says, or cannot
      share a batch evenly.
  """
  c, mesh = config.parallel, make_mesh(config)
  if (mesh.shape['fsdp'], mesh.shape['tensor']) != (c.fsdp, c.tensor):
    raise UsageError(
      f'config.parallel.fsdp {c.fsdp} x tensor {c.tensor} does not divide the '
      f'number of devices, {mesh.size}: lower them, or train on more devices'
    )
  batch_size, num_shards = config.train.batch_size, mesh.size // c.tensor
  if batch_size % num_shards:
    near = max(1, batch_size // num_shards) * num_shards
    raise UsageError(
      f'config.train.batch_size is {batch_size}, which {num_shards} devices '
      f'cannot share evenly: try {near}'
    )


def replicas(config: Config) -> list[Replica]:
  """Returns the runs that are trained at once, usually one."""
  c = config.train
  if c.learning_rates:
    base = c.optimizer.learning_rate
    return [Replica(config.seed, rate / base) for rate in c.learning_rates]
  # More bits than these, and jax.random.key would drop them.
  return [Replica((config.seed + i) % 2**32) for i in range(c.replicas)]


def one_replica(params: Any, num_replicas: int, index: int) -> Any:
  """Returns the parameters of one of the runs that were trained at once."""
  if num_replicas == 1:
    return params
  return jax.tree.map(lambda x: x[index], params)


def every_replica(params: Any, num_replicas: int) -> Iterator[Any]:
  """Yields the parameters of each of the runs that were trained at once."""
  return (one_replica(params, num_replicas, i) for i in range(num_replicas))


def over_replicas(
  fn: Callable[[list[float]], Any], found: list[dict[str, float]]
) -> dict[str, float]:
  """Returns what a function makes of every metric's values."""
  return {name: float(fn([x[name] for x in found])) for name in found[0]}


def make_batches(config: Config, dataset: Dataset) -> batches.TrainBatches:
  """Returns what the recommender is trained on.

  Raises:
    UsageError: See `check_devices`.
  """
  check_devices(config)
  c = config.train
  return batches.TrainBatches(
    dataset,
    registry.make_examples(config, dataset),
    c.batch_size,
    c.length_buckets,
    config.seed,
    c.steps_per_call,
  )


def train(
  config: Config, material: Material, folder: Path, writer: MetricsWriter
) -> None:
  """Trains the recommender; validation NDCG@10 picks the checkpoint.

  Args:
    config: The run.
    material: What the model is made from.
    folder: Gets the checkpoints.
    writer: Gets the metrics.
  """
  if not config.model.is_trained:
    return
  c = config.train
  dataset = material.dataset
  mesh = make_mesh(config)
  source = make_batches(config, dataset)
  # With few examples, calls are shorter than `train.steps_per_call`.
  rewind = Rewind(*c.rewind, source.steps_per_call) if c.rewind else None
  retriever = registry.make_retriever(config, material, mesh, _VALIDATION)
  examples = some(split(dataset, 'validation'), c.evaluate_users, config.seed)
  runs = replicas(config)

  def validate(params: Any) -> dict[str, float]:
    found = [
      measure(config, material, retriever, x, examples)
      for x in every_replica(params, len(runs))
    ]
    if len(runs) == 1:
      return found[0]
    # Of seeds the mean counts, of rates the best is what one is after.
    values = over_replicas(max if c.learning_rates else np.mean, found)
    each = {
      f'{name}/replica_{i}': x[name] for i, x in enumerate(found) for name in x
    }
    return values | each

  loop.train(
    registry.make_task(config, material, source.events),
    functools.partial(batches.prefetch, source),
    Schedule(c.steps, c.log_every, c.evaluate_every, rewind),
    c.optimizer,
    replicas=runs,
    mesh=mesh,
    folder=folder,
    writer=writer,
    label='train',
    about=registry.about(config, material),
    evaluate=validate,
    best_metric=_BEST,
  )


def restore_params(
  config: Config, material: Material, folder: Path
) -> tuple[Any, int]:
  """Returns the parameters that validation picked, of all replicas.

  Args:
    config: As trained.
    material: As trained.
    folder: The train stage's.

  Returns:
    The parameters, and which replica validation found best.

  Raises:
    CheckpointError: They cannot be read, or do not fit the config.
  """
  if not config.model.is_trained:
    return {}, 0
  task = registry.make_task(config, material)
  runs = replicas(config)
  like = jax.eval_shape(lambda: init_params(task, runs))
  about = registry.about(config, material)
  with Checkpoints(folder / 'checkpoints', about, _BEST, writes=False) as saved:
    mesh = make_mesh(config)
    found = saved.restore_params(saved.by_metric(), like, mesh)
    if found is None:
      raise CheckpointError(
        f'{saved.folder} holds no checkpoint: run --mode=train'
      )
  _, params, meta = found
  best = max(
    range(len(runs)),
    key=lambda i: meta['metrics'].get(f'{_BEST}/replica_{i}', 0.0),
  )
  shardings = sharding.state_shardings(
    mesh, params, num_leading=int(len(runs) > 1)
  )
  return sharding.put(params, shardings), best


def measure(
  config: Config,
  material: Material,
  retriever: Retriever,
  params: Any,
  examples: Examples,
  label: str = '',
) -> dict[str, float]:
  """Evaluates a model.

  Args:
    config: The run.
    material: What the model is made from.
    retriever: From `registry.make_retriever`.
    params: The model's parameters.
    examples: Whom to recommend for.
    label: Names the progress line; none is drawn without.

  Returns:
    See `evaluation.evaluator.evaluate`.
  """
  generated = None
  if isinstance(retriever, TigerRetriever):
    generated = on_mesh(config, retriever.generated_validity, params)
  found: Iterable[Batch] = evaluation_batches(
    config, material.dataset, examples
  )
  if label:
    found = _counted(found, label, len(examples.user))
  return evaluate(
    on_mesh(config, retriever.recommend, params),
    found,
    material.prefixes,
    generated,
  )


def measure_masked(
  config: Config,
  material: Material,
  retriever: Retriever,
  params: Any,
  examples: Examples,
) -> dict[str, float]:
  """Evaluates a model that leaves out what a user has already.

  Args:
    config: The run.
    material: What the model is made from.
    retriever: From `registry.make_retriever`.
    params: The model's parameters.
    examples: Whom to recommend for, by user; each user once.

  Returns:
    `recall@k` and `ndcg@k`.
  """
  answer = on_mesh(config, retriever.recommend, params)

  def recommend(batch: Batch, k: int) -> Recommendations:
    return answer(batch, k, owned(material, examples, batch))

  return evaluate(
    recommend, evaluation_batches(config, material.dataset, examples)
  )


def owned(material: Material, examples: Examples, batch: Batch) -> ItemLists:
  """Returns what the users of a batch have, to be left out.

  Args:
    material: What the model is made from.
    examples: What the batch is of, by user; each user once.
    batch: Whom to recommend for.
  """
  user = np.asarray(batch.user)
  rows = np.searchsorted(examples.user, user[user >= 0])
  lists = [
    material.dataset.history[start:end].tolist()
    for _, start, end in zip(*examples.at(rows), strict=True)
  ]
  return ItemLists.of([*lists, *[[]] * (len(user) - len(lists))])


def on_mesh(
  config: Config, answer: Callable[..., Any], params: Any
) -> Callable[..., Any]:
  """Returns what asks with batches of the host and answers there.

  Args:
    config: The run.
    answer: `(params, batch, k, *lists)`, on the devices.
    params: The model's parameters.
  """
  mesh = make_mesh(config)

  def ask(batch: Batch, k: int, *lists: Any) -> Any:
    placed = sharding.shard_batch(mesh, (batch, *lists))
    return sharding.fetch(answer(params, placed[0], k, *placed[1:]))

  return ask


def some(examples: Examples, num: int, seed: int) -> Examples:
  """Returns examples drawn at random, in their order.

  Args:
    examples: What to draw from.
    num: How many; 0 for all.
    seed: Of the draw.
  """
  if not num:
    return examples
  order = np.random.default_rng(seed).permutation(len(examples.user))
  return examples.at(np.sort(order[:num]))


def evaluation_batches(
  config: Config, dataset: Dataset, examples: Examples
) -> Iterator[Batch]:
  """Returns batches of users, each of whom comes once."""
  return batches.evaluation_batches(
    dataset,
    examples,
    config.evaluation.batch_size,
    config.train.length_buckets,
  )


def _counted(found: Iterable[Batch], label: str, total: int) -> Iterator[Batch]:
  """Draws a progress line while batches pass."""
  with progress_line(label, total, unit='user') as bar:
    for batch in found:
      yield batch
      bar.update(int((batch.target >= 0).sum()))
