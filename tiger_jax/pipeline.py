"""The stages in order, and what each is made from."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from pathlib import Path
from typing import Any

from jaxtyping import Float
import numpy as np

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.config.recorded import to_json
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.loading import made_from as made_from_source
from tiger_jax.data.sources.assembly import ITEM_ORDER
from tiger_jax.embedding.encoders import made_from
from tiger_jax.evaluation.evaluator import INVALID_CUTOFFS
from tiger_jax.evaluation.metrics import CUTOFFS
from tiger_jax.recommenders.registry import Material
from tiger_jax.runtime import processes
from tiger_jax.runtime.environment import environment
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids import quality
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.stages import learning, semantic_ids, stages
from tiger_jax.storage import files, record
from tiger_jax.storage.artefacts import (
  RESULTS,
  Artefact,
  await_stage,
  partial_folder,
  run_stage,
  superseded,
)
from tiger_jax.storage.fingerprints import fingerprint

# What each mode asks a Pipeline for.
STAGES = {
  'data': 'dataset',
  'embed': 'embeddings',
  'semantic_ids': 'ids',
  'train': 'train',
  'evaluate': 'results',
}

# The folders of their artefacts.
_FOLDERS = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')


class Pipeline:
  """One run: from raw files to results.

  Every stage is a property that tells where its artefact is, and beside it is
  one that holds what was read from there; asking for either makes all that it
  needs. A stage is made again when its section of the config, the seed, or
  what it reads has changed.
  """

  def __init__(
    self, config: Config, workdir: Path, elsewhere: Sequence[Path] = ()
  ):
    """Opens the run's folder.

    Args:
      config: The run.
      workdir: Is made where it is missing.
      elsewhere: Folders of other runs, whose stages are taken where they are
        what this run would make.

    Raises:
      UsageError: Another process of the run has another config, another
        version of the code, or another folder.
    """
    processes.require_same(
      {'config': to_json(config), 'version': tiger_jax.__version__},
      'start all processes with the same code and the same command',
    )
    processes.require_shared(workdir)
    self.config = config
    self._elsewhere = elsewhere
    self.workdir = workdir
    self.writer = MetricsWriter(workdir)

  def run(self, last: str) -> None:
    """Makes every stage up to `last`, one of `STAGES`."""
    _ = self.data  # Refuses a folder that holds something else.
    if processes.is_main():
      # Not before: a measurement of the speed must leave a run as it is.
      files.write_json(
        self.workdir / 'config.json', dataclasses.asdict(self.config)
      )
    needs = self.config.model.needs
    unused = {'embed': not needs, 'semantic_ids': 'semantic_ids' not in needs}
    for stage, name in STAGES.items():
      if stage == last or not unused.get(stage):
        getattr(self, name)
      if stage == last:
        break
    if folders := superseded(self.workdir, _FOLDERS):
      names = ', '.join(folders[:5]) + (', ...' if len(folders) > 5 else '')
      _say('kept', f'{names} of other configs; they may be removed')

  @functools.cached_property
  def _source(self) -> list[Any]:
    return made_from_source(self.config.dataset, self.config.seed)

  @functools.cached_property
  def data(self) -> Artefact:
    """The stage that reads the raw files."""
    c = self.config.dataset
    changes: list[Any] = []
    if c.unseen_share or c.shuffle_ties:
      changes = [c.unseen_share, c.shuffle_ties, self.config.seed]
    made_from = self._source + changes
    former = [x for x in made_from if x != ITEM_ORDER]
    if former != made_from and self._holds('data', former):
      _say('data', 'items have new row numbers, so all stages run again')
    return self._stage(
      'data',
      made_from,
      lambda folder: stages.make_dataset(c, self.config.seed, folder),
    )

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The items and who bought them."""
    d = Dataset.load(self.data.folder)
    _say(
      'data',
      f'{d.name}: {d.num_users:,} users, {d.num_items:,} items, '
      f'{d.num_interactions:,} interactions',
    )
    for line in counts.lines(self._counts):
      _say('', line)
    return d

  @functools.cached_property
  def _counts(self) -> dict[str, Any]:
    """The counts of the raw data; empty if an older version has read it."""
    return counts.read(self.data.folder)

  @functools.cached_property
  def embedding(self) -> Artefact:
    """The stage that embeds the items."""
    c = self.config.embedding
    return self._stage(
      'embedding',
      # The items are the same, whatever is done to who bought them.
      [c.encoder, made_from(c), fingerprint('data', *self._source)],
      lambda folder: stages.embed(c, self.dataset.items, folder),
    )

  @functools.cached_property
  def embeddings(self) -> Float[np.ndarray, 'items dim']:
    """A vector per item."""
    vectors = semantic_ids.read_embeddings(self.embedding.folder)
    num_items, dim = vectors.shape
    name = semantic_ids.encoder_name(self.config.embedding)
    _say('embedding', f'{num_items:,} items x {dim}, {name}')
    if rows := self.embedding.about.get('vectors'):
      _say('', f'vectors: {rows["vectors"]:,} read, {rows["used"]:,} used')
    return vectors

  @functools.cached_property
  def semantic_ids(self) -> Artefact:
    """The stage that makes the Semantic IDs."""
    own = self.embedding.fingerprint
    others = semantic_ids.read_shared(self.config, own)
    ids = semantic_ids.made_from(self.config.semantic_ids, others)
    # The IDs are not fitted to items that nobody bought.
    unseen = self.config.dataset.unseen_share
    bought = [self.data.fingerprint] if unseen else []
    return self._stage(
      'semantic_ids',
      [ids, self.config.seed, own, *bought],
      lambda folder: semantic_ids.make_semantic_ids(
        self.config,
        self.dataset,
        semantic_ids.Shop(self.dataset.name, own, self.embeddings),
        others,
        folder,
        self.writer,
      ),
      resumable=True,
    )

  @functools.cached_property
  def ids(self) -> SemanticIds:
    """A Semantic ID per item."""
    ids = SemanticIds.load(self.semantic_ids.folder)
    print(quality.format_table(self.id_quality), flush=True)
    return ids

  @functools.cached_property
  def id_quality(self) -> dict[str, Any]:
    """How good the Semantic IDs are."""
    return record.read_object(self.semantic_ids.folder / 'quality.json')

  @functools.cached_property
  def material(self) -> Material:
    """What the recommender is made from."""
    needs = self.config.model.needs
    return Material(
      self.dataset,
      self.ids if 'semantic_ids' in needs else None,
      self.embeddings if 'embeddings' in needs else None,
    )

  @functools.cached_property
  def train(self) -> Artefact:
    """The stage that trains the recommender."""
    c = self.config
    inputs = {'data': self.data.fingerprint}
    if 'semantic_ids' in c.model.needs:
      inputs['semantic_ids'] = self.semantic_ids.fingerprint
    if 'embeddings' in c.model.needs:
      inputs['embedding'] = self.embedding.fingerprint
    model, train = to_json(c.model), to_json(c.train)
    return self._stage(
      'train',
      [model, train, c.seed, inputs],
      lambda folder: learning.train(c, self.material, folder, self.writer),
      resumable=True,
      together=True,
      inputs=inputs,
    )

  @functools.cached_property
  def evaluation(self) -> Artefact:
    """The stage that measures the recommender and its baselines."""
    c = self.config
    return self._stage(
      'evaluation',
      [
        to_json(c.evaluation),
        self.train.fingerprint,
        # What is measured: results of fewer metrics are made anew.
        CUTOFFS,
        INVALID_CUTOFFS,
        'test_masked',
      ],
      lambda folder: stages.evaluate(
        c, self.material, self.train.folder, folder
      ),
      together=True,
    )

  @functools.cached_property
  def results(self) -> dict[str, Any]:
    """Everything measured, which `results.json` holds too."""
    measured = record.read_object(self.evaluation.folder / 'metrics.json')
    made = {'data': self.data}
    counted = {'counts': self._counts} if self._counts else {}
    results: dict[str, Any] = {
      'model': self.config.model.name,
      'dataset': {
        'name': self.dataset.name,
        'users': self.dataset.num_users,
        'items': self.dataset.num_items,
        'interactions': self.dataset.num_interactions,
      }
      | counted,
    }
    if self.config.model.needs:
      made['embedding'] = self.embedding
      results['embedding'] = {
        'encoder': semantic_ids.encoder_name(self.config.embedding),
        'dim': self.embeddings.shape[1],
      }
      if rows := self.embedding.about.get('vectors'):
        results['embedding']['counts'] = rows
    if self.material.ids is not None:
      made['semantic_ids'] = self.semantic_ids
      results['semantic_ids'] = self.id_quality
    made |= {'train': self.train, 'evaluation': self.evaluation}
    results |= {
      **measured,
      'seconds': {name: round(x.seconds, 1) for name, x in made.items()},
      # Of the training, wherever its results are looked at.
      'environment': self.train.about.get('environment', environment())
      | {'seed': self.config.seed},
    }
    if processes.is_main():
      files.write_json(self.workdir / RESULTS, results)
    return results

  def _holds(self, name: str, made_from: list[Any]) -> bool:
    """Returns whether a stage was made from the given values."""
    folder = self.workdir / name
    wanted = fingerprint(name, *made_from)
    return record.exists(folder) and record.read(folder).fingerprint == wanted

  def _stage(
    self,
    name: str,
    made_from: list[Any],
    build: Callable[[Path], dict[str, Any] | None],
    resumable: bool = False,
    inputs: dict[str, str] | None = None,
    together: bool = False,
  ) -> Artefact:
    """Makes a stage, unless it is there already.

    Of several processes the main one does, and the others wait for it; where
    it is to be made `together`, they take part.
    """
    wanted = fingerprint(name, *made_from)
    processes.require_same(
      {f'input of stage {name}': wanted},
      'give all hosts the same raw files, and remove what only one of them has',
    )
    mesh = learning.make_mesh(self.config)
    if not processes.is_main():
      if together and processes.from_main(0, mesh):
        build(partial_folder(self.workdir, name, wanted))
      return await_stage(self.workdir, name, wanted, self._elsewhere)

    def announce_and_build(folder: Path) -> dict[str, Any] | None:
      processes.from_main(1, mesh)
      return build(folder)

    artefact, new = run_stage(
      self.workdir,
      name,
      wanted,
      announce_and_build if together else build,
      about={
        'config': to_json(self.config),
        'environment': environment(),
      }
      | (inputs or {}),
      resumable=resumable,
      elsewhere=self._elsewhere,
    )
    if together and not new:
      processes.from_main(0, mesh)
    how = f'made in {artefact.seconds:.0f} s' if new else 'made before, kept'
    _say(name, f'{how} ({artefact.folder})')
    return artefact


def _say(stage: str, text: str) -> None:
  """Prints a line about a stage; '' continues the line before."""
  print(f'{stage:>12}{":" if stage else " "} {text}', flush=True)
