"""The training stage: trains the recommender."""

from collections.abc import Iterable
import contextlib
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config import Config
from tiger_jax.config.recorded import config_of, identity
from tiger_jax.data import batches
from tiger_jax.data.splits import split
from tiger_jax.errors import CheckpointError, TigerError
from tiger_jax.evaluation.measure import measure
from tiger_jax.evaluation.ranking import Search, Trained, sample_users
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.storage.artifacts import read_artifact
from tiger_jax.training import loop, replicas
from tiger_jax.training.schedule import Rewind, Schedule
from tiger_jax.training.step import init_params

_BEST = 'ndcg@10'
# Fixed, so that the best checkpoint does not depend on `config.evaluation`.
_VALIDATION = Search(num_beams=20)


def made_from(config: Config, inputs: dict[str, str]) -> list[Any]:
  """Returns the values that determine the model, for fingerprints.

  `inputs` maps the stages that the model reads to their fingerprints.
  """
  settings = [identity(config.model), identity(config.train), config.seed]
  # Earlier versions had another order of packed rows.
  version = ['packed rows 2'] if config.train.packed else []
  return [*settings, inputs, *version]


def build(session: Session, folder: Path, writer: MetricsWriter) -> None:
  """Trains the recommender. Validation NDCG@10 selects the best checkpoint."""
  if not session.entry.is_trained:
    return
  c, source = session.config.train, session.batches
  # With few examples, `source.steps_per_call` is less than in the config.
  rewind = Rewind(*c.rewind, source.steps_per_call) if c.rewind else None
  examples = sample_users(
    split(session.inputs.dataset, 'validation'),
    c.evaluate_users,
    session.config.seed,
  )

  def validate(params: Any) -> dict[str, float]:
    values = [
      measure(Trained(session, x), examples, _VALIDATION)[0]
      for x in replicas.split(params, c.replicas)
    ]
    if c.replicas == 1:
      return values[0]
    return replicas.aggregate(np.mean, values) | {
      f'{name}/replica_{i}': x[name] for i, x in enumerate(values) for name in x
    }

  loop.train(
    session.training_task,
    functools.partial(batches.prefetch, session.own_batches),
    Schedule(c.steps, c.log_every, c.evaluate_every, rewind),
    c.optimizer,
    seeds=session.seeds,
    mesh=session.mesh,
    folder=folder,
    writer=writer,
    label='train',
    identity=session.identity,
    evaluate=validate,
    best_metric=_BEST,
  )


def load(session: Session, folder: Path) -> tuple[Any, int]:
  """Reads the parameters of the checkpoint with the best validation metric.

  Returns:
    The parameters of all replicas, and the index of the best replica.

  Raises:
    CheckpointError: The checkpoint cannot be read, or does not fit the config.
  """
  if not session.entry.is_trained:
    return {}, 0
  num_replicas = session.config.train.replicas
  task = session.task
  like = jax.eval_shape(lambda: init_params(task, session.seeds))
  with Checkpoints(
    folder / 'checkpoints', session.identity, _BEST, writes=False
  ) as saved:
    restored = saved.restore_params(saved.by_metric(), like, session.mesh)
    if restored is None:
      raise CheckpointError(
        f'{saved.folder} holds no checkpoint: run --mode=train'
      )
  _, params, meta = restored
  best = max(
    range(num_replicas),
    key=lambda i: meta['metrics'].get(f'{_BEST}/replica_{i}', 0.0),
  )
  shardings = sharding.state_shardings(
    session.mesh, params, num_leading=int(num_replicas > 1)
  )
  return sharding.put(params, shardings), best


def served(session: Session, params: Any, best: int) -> Any:
  """Returns the parameters that rank items, from those of all replicas.

  Args:
    session: The session of the run.
    params: The parameters of all replicas.
    best: The index of the best replica.
  """
  if session.config.evaluation.ensemble and session.entry.is_generative:
    return Ensemble(params)
  return replicas.select(params, session.config.train.replicas, best)


def load_served(session: Session, folder: Path) -> Trained:
  """Reads the parameters of the best replica or of the ensemble."""
  return Trained(session, served(session, *load(session, folder)))


def is_finished(config: Config, workdirs: Iterable[Path]) -> bool:
  """Returns whether a workdir holds finished training with these settings.

  The settings are compared, but not the data.
  """
  if not registry.entry(config.model).is_trained:
    return True
  wanted = (config.model, config.train, config.seed)
  damage = (TigerError, OSError, LookupError, TypeError, AttributeError)
  for workdir in workdirs:
    for record in workdir.glob('train*/stage.json'):
      # Skips damaged records. A stage that reads such a record raises an error.
      with contextlib.suppress(*damage):
        if trained := read_artifact(workdir, record.parent.name):
          former = config_of(trained)
          if (former.model, former.train, former.seed) == wanted:
            return True
  return False
