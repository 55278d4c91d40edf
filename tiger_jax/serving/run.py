"""Loads the model of a finished run."""

import contextlib
import functools
from pathlib import Path
from typing import Any

from jaxtyping import Float
import numpy as np

from tiger_jax.config import Config
from tiger_jax.config.recorded import config_of
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import CheckpointError, DataError, UsageError
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.serving.bundle_files import MANIFEST
from tiger_jax.serving.model import Model
from tiger_jax.stages import embedding, training
from tiger_jax.storage import record
from tiger_jax.storage.artifacts import (
  RESULTS,
  find_artifact,
  input_folder,
  read_artifact,
)


def load(workdir: Path) -> Model:
  """Loads the model of a run, see `Recommender.from_workdir`.

  The tokenizer and the item vectors are read when they are first needed.
  """
  if not workdir.is_dir():
    raise CheckpointError(
      f'there is no folder {workdir}: name the folder of a finished run'
    )
  if (workdir / MANIFEST).is_file():
    raise CheckpointError(
      f'{workdir} is a bundle, and not the folder of a run: load it with '
      'from_bundle, or serve it with --mode=serve'
    )
  trained = read_artifact(workdir, 'train')
  if trained is None:
    raise CheckpointError(
      f"{workdir} has no finished stage 'train': repeat the command of the "
      f'run with --workdir={workdir} --mode=train first'
    )
  config = config_of(trained, lambda config: registry.entry(config.model))
  entry = registry.entry(config.model)
  if not entry.is_generative:
    raise UsageError(
      f'{workdir} holds a run of {config.model.name}, a baseline that can be '
      'evaluated but not served: choose a run of tiger or dsi'
    )
  dataset = Dataset.load(input_folder(trained, 'data'))
  ids_folder = input_folder(trained, 'semantic_ids')
  ids = SemanticIds.load(ids_folder)
  embeddings = None
  if 'embeddings' in entry.needs:
    embeddings = embedding.load(input_folder(trained, 'embedding'))
  # Each process of a run with several processes answers its own requests.
  session = Session.open(
    config,
    Inputs(dataset, ids, embeddings),
    devices=sharding.local_devices(),
  )
  params = training.load_served(session, trained.folder).params
  return Model(
    session,
    params,
    dataset,
    functools.partial(
      _read_vectors, workdir, config, ids_folder, dataset.num_items
    ),
    functools.partial(Tokenizer.load, ids_folder),
    functools.partial(_read_results, workdir),
  )


def _read_vectors(
  workdir: Path, config: Config, ids_folder: Path, num_items: int
) -> Float[np.ndarray, 'items dim'] | None:
  """Returns the vectors that the Semantic IDs were made from, or None."""
  made_from = record.read(ids_folder).metadata.get('embedding')
  if isinstance(made_from, str):
    stage = find_artifact(workdir, 'embedding', made_from)
    return None if stage is None else embedding.load(stage.folder)
  # Runs of older versions do not record the embedding stage.
  with contextlib.suppress(DataError):
    stage = read_artifact(workdir, 'embedding')
    if stage and _same_vectors(config_of(stage), config):
      vectors = embedding.load(stage.folder)
      return vectors if len(vectors) == num_items else None
  return None


def _same_vectors(one: Config, other: Config) -> bool:
  return (one.dataset, one.embedding) == (other.dataset, other.embedding)


def _read_results(workdir: Path) -> dict[str, Any]:
  """Returns the content of `results.json`; {} if the file is missing."""
  path = workdir / RESULTS
  return record.read_object(path) if path.exists() else {}
