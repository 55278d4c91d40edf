"""The stages in order, and what each is made from."""

from collections.abc import Callable
import dataclasses
import functools
import json
from pathlib import Path
import platform
from typing import Any

import jax
import numpy as np

import tiger_jax
from tiger_jax import stages
from tiger_jax.config import Config
from tiger_jax.data.dataset import Dataset
from tiger_jax.semantic_ids.ids import SemanticIds, format_report, report
from tiger_jax.training.writers import MetricsWriter
from tiger_jax.workdir import (
  Artefact,
  file_states,
  fingerprint,
  run_stage,
  write_json,
)

STAGES = ('data', 'embed', 'semantic_ids', 'train', 'evaluate')


class Pipeline:
  """One run: from raw files to results.

  Every stage is a property that holds its artefact's folder; asking for one
  makes all that it needs. A stage is made again when its section of the
  config, the seed, or what it reads has changed.
  """

  def __init__(self, config: Config, workdir: Path):
    """Opens the run's folder.

    Args:
      config: The run.
      workdir: Is made where it is missing.
    """
    self.config = config
    self.workdir = workdir
    self.writer = MetricsWriter(workdir)
    write_json(workdir / 'config.json', dataclasses.asdict(config))

  def run(self, last: str) -> None:
    """Makes every stage up to `last`, one of `STAGES`."""
    for name in STAGES[: STAGES.index(last) + 1]:
      getattr(self, name)

  @functools.cached_property
  def data(self) -> Artefact:
    """The dataset."""
    c = self.config.dataset
    artefact = self._stage(
      'data',
      [dataclasses.asdict(c), self.config.seed, file_states(c.source_dir)],
      lambda folder: stages.make_dataset(c, self.config.seed, folder),
    )
    self.dataset = Dataset.load(artefact.folder)
    d = self.dataset
    _say(
      'data',
      f'{d.name}: {d.num_users:,} users, {d.num_items:,} items, '
      f'{d.num_interactions:,} interactions',
    )
    return artefact

  @functools.cached_property
  def embed(self) -> Artefact:
    """A vector per item."""
    c = self.config.embedding
    files = file_states(c.path, c.ids_path)
    artefact = self._stage(
      'embedding',
      [dataclasses.asdict(c), files, self.data.fingerprint],
      lambda folder: stages.embed(c, self.dataset.items, folder),
    )
    self.embeddings = np.load(artefact.folder / 'embeddings.npy')
    num_items, dim = self.embeddings.shape
    _say('embedding', f'{num_items:,} items x {dim}, {stages.encoder_name(c)}')
    return artefact

  @functools.cached_property
  def semantic_ids(self) -> Artefact:
    """A Semantic ID per item."""
    c = self.config.semantic_ids
    artefact = self._stage(
      'semantic_ids',
      [dataclasses.asdict(c), self.config.seed, self.embed.fingerprint],
      lambda folder: stages.make_semantic_ids(
        self.config, self.embeddings, folder, self.writer
      ),
      resumable=True,
    )
    self.ids = SemanticIds.load(artefact.folder)
    print(format_report(report(self.ids)), flush=True)
    return artefact

  @functools.cached_property
  def train(self) -> Artefact:
    """A trained recommender."""
    c = self.config
    return self._stage(
      'train',
      [
        dataclasses.asdict(c.model),
        dataclasses.asdict(c.train),
        c.evaluation.num_beams,
        c.seed,
        self.semantic_ids.fingerprint,
      ],
      lambda folder: stages.train(
        c, self.dataset, self.ids, folder, self.writer
      ),
      resumable=True,
      inputs={
        'data': self.data.fingerprint,
        'semantic_ids': self.semantic_ids.fingerprint,
      },
    )

  @functools.cached_property
  def evaluate(self) -> Artefact:
    """The metrics, and `results.json`, which gathers everything."""
    c = self.config
    artefact = self._stage(
      'evaluation',
      [dataclasses.asdict(c.evaluation), self.train.fingerprint],
      lambda folder: stages.evaluate(
        c, self.dataset, self.ids, self.train.folder, folder
      ),
    )
    measured = json.loads((artefact.folder / 'metrics.json').read_text())
    d = self.dataset
    self.results = {
      'dataset': {
        'name': d.name,
        'users': d.num_users,
        'items': d.num_items,
        'interactions': d.num_interactions,
      },
      'embedding': {
        'encoder': stages.encoder_name(c.embedding),
        'dim': self.embeddings.shape[1],
      },
      'semantic_ids': report(self.ids) | {'level_sizes': self.ids.level_sizes},
      **measured,
      'seconds': {
        name: round(stage.seconds, 1)
        for name, stage in (
          ('data', self.data),
          ('embedding', self.embed),
          ('semantic_ids', self.semantic_ids),
          ('train', self.train),
          ('evaluation', artefact),
        )
      },
      'environment': environment() | {'seed': c.seed},
    }
    write_json(self.workdir / 'results.json', self.results)
    return artefact

  def _stage(
    self,
    name: str,
    made_from: list[Any],
    build: Callable[[Path], None],
    resumable: bool = False,
    inputs: dict[str, str] | None = None,
  ) -> Artefact:
    artefact, new = run_stage(
      self.workdir,
      name,
      fingerprint(name, *made_from),
      build,
      about={'config': dataclasses.asdict(self.config)} | (inputs or {}),
      resumable=resumable,
    )
    how = f'made in {artefact.seconds:.0f} s' if new else 'made before, kept'
    _say(name, f'{how} ({artefact.folder})')
    return artefact


def environment() -> dict[str, Any]:
  """Returns the versions and devices that a figure depends on."""
  return {
    'tiger_jax': tiger_jax.__version__,
    'python': platform.python_version(),
    'jax': jax.__version__,
    'devices': [device.device_kind for device in jax.devices()],
    'platform': platform.platform(),
  }


def _say(stage: str, text: str) -> None:
  print(f'{stage:>12}: {text}', flush=True)
