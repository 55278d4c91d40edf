"""The stages in order: a run from raw files to results."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from pathlib import Path
from typing import Any

from jaxtyping import Float
import numpy as np

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.loading import ITEM_ORDER
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import checks, registry
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import processes
from tiger_jax.runtime.environment import environment
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids import quality
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.stages import data, embedding, evaluation, semantic_ids, training
from tiger_jax.stages.report import write_report
from tiger_jax.stages.results import collect
from tiger_jax.storage import files, record
from tiger_jax.storage.artefacts import (
  RESULTS,
  Artefact,
  await_stage,
  locked,
  partial_folder,
  run_stage,
  superseded,
)
from tiger_jax.storage.fingerprints import fingerprint

# The stages by mode, and the folders of their artefacts.
STAGES = {
  'data': 'data',
  'embed': 'embedding',
  'semantic_ids': 'semantic_ids',
  'train': 'train',
  'evaluate': 'evaluation',
}


class Pipeline:
  """One run.

  Each stage has two properties. One makes the stage, after the stages that it
  reads, and returns where its artefact is; the other reads the artefact. A
  stage runs again if its section of the config, the seed, or a stage that it
  reads has changed.
  """

  def __init__(
    self,
    config: Config,
    workdir: Path,
    elsewhere: Sequence[Path] = (),
    command: str = '',
  ):
    """Opens the folder of the run.

    Args:
      config: The run.
      workdir: The folder, which is made if it is missing.
      elsewhere: Folders of other runs. A stage of theirs is used if its
        fingerprint matches.
      command: The command that repeats the run, which the results keep.

    Raises:
      UsageError: Settings contradict each other; or another process of the run
        has another config, another version of the code, or another folder.
    """
    checks.check(config)
    processes.require_same(
      {'config': dataclasses.asdict(config), 'version': tiger_jax.__version__},
      'start all processes with the same code and the same command',
    )
    processes.require_shared(workdir)
    self.config = config
    self._elsewhere, self._command = elsewhere, command
    self._needs = registry.entry(config.model).needs
    self.workdir = workdir
    self.writer = MetricsWriter(workdir)

  def close(self) -> None:
    """Closes the metrics, and frees the memory of the session."""
    self.writer.close()
    self.__dict__.pop('session', None)

  def run(self, last: str) -> None:
    """Makes every stage up to `last`, a key of `STAGES`."""
    _ = self.data_stage  # Refuses a folder that holds something else.
    if processes.is_main():
      # Not in `__init__`, because --mode=bench must not modify the run.
      files.write_json(
        self.workdir / 'config.json', dataclasses.asdict(self.config)
      )
    steps = {
      'data': lambda: self.dataset,
      'embed': lambda: self.embeddings,
      'semantic_ids': lambda: self.ids,
      'train': lambda: self.train_stage,
      'evaluate': lambda: self.results,
    }
    unused = {
      'embed': not self._needs,
      'semantic_ids': 'semantic_ids' not in self._needs,
    }
    for mode, step in steps.items():
      if mode == last or not unused.get(mode):
        step()
      if mode == last:
        break
    if folders := superseded(self.workdir, tuple(STAGES.values())):
      names = ', '.join(folders[:5]) + (', ...' if len(folders) > 5 else '')
      _say('kept', f'{names} of other configs; they may be removed')

  @functools.cached_property
  def data_stage(self) -> Artefact:
    """The stage that reads the raw files."""
    made_from = data.made_from(self.config)
    former = [x for x in made_from if x != ITEM_ORDER]
    if former != made_from and self._holds('data', former):
      _say('data', 'items have new row numbers, so all stages run again')
    return self._stage(
      'data', made_from, lambda folder: data.build(self.config, folder)
    )

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The items and the histories."""
    d = data.load(self.data_stage.folder)
    _say(
      'data',
      f'{d.name}: {d.num_users:,} users, {d.num_items:,} items, '
      f'{d.num_interactions:,} interactions',
    )
    for line in counts.lines(counts.read(self.data_stage.folder)):
      _say('', line)
    return d

  @functools.cached_property
  def embedding_stage(self) -> Artefact:
    """The stage that embeds the items."""
    items = fingerprint('data', *data.items_made_from(self.config))
    return self._stage(
      'embedding',
      embedding.made_from(self.config, items),
      lambda folder: embedding.build(
        self.config.embedding, self.dataset.items, folder
      ),
    )

  @functools.cached_property
  def embeddings(self) -> Float[np.ndarray, 'items dim']:
    """The vector of every item."""
    vectors = embedding.load(self.embedding_stage.folder)
    num_items, dim = vectors.shape
    name = embedding.encoder_name(self.config.embedding)
    _say('embedding', f'{num_items:,} items x {dim}, {name}')
    if rows := self.embedding_stage.about.get('vectors'):
      _say('', f'vectors: {rows["vectors"]:,} read, {rows["used"]:,} used')
    return vectors

  @functools.cached_property
  def semantic_ids_stage(self) -> Artefact:
    """The stage that makes the Semantic IDs."""
    c, own = self.config, self.embedding_stage.fingerprint
    others = semantic_ids.read_shared(c, own)
    # The quantizer is not fitted to unseen items.
    histories = [self.data_stage.fingerprint] if c.dataset.unseen_share else []
    return self._stage(
      'semantic_ids',
      [semantic_ids.made_from(c.semantic_ids, others), c.seed, own, *histories],
      lambda folder: semantic_ids.build(
        c,
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
    """The Semantic ID of every item."""
    folder = self.semantic_ids_stage.folder
    ids = semantic_ids.load(folder)
    print(quality.format_table(semantic_ids.load_quality(folder)), flush=True)
    return ids

  @functools.cached_property
  def session(self) -> Session:
    """The run of the recommender."""
    ids = self.ids if 'semantic_ids' in self._needs else None
    vectors = self.embeddings if 'embeddings' in self._needs else None
    return Session.open(self.config, Inputs(self.dataset, ids, vectors))

  @functools.cached_property
  def train_stage(self) -> Artefact:
    """The stage that trains the recommender."""
    inputs = {'data': self.data_stage.fingerprint}
    if 'semantic_ids' in self._needs:
      inputs['semantic_ids'] = self.semantic_ids_stage.fingerprint
    if 'embeddings' in self._needs:
      inputs['embedding'] = self.embedding_stage.fingerprint
    return self._stage(
      'train',
      training.made_from(self.config, inputs),
      lambda folder: training.build(self.session, folder, self.writer),
      resumable=True,
      collective=True,
      about=inputs,
    )

  @functools.cached_property
  def evaluation_stage(self) -> Artefact:
    """The stage that measures the recommender and its baselines."""
    train = self.train_stage
    return self._stage(
      'evaluation',
      evaluation.made_from(self.config, train.fingerprint),
      lambda folder: evaluation.build(self.session, train.folder, folder),
      collective=True,
    )

  @functools.cached_property
  def results(self) -> dict[str, Any]:
    """All measurements, which are also written to `results.json`."""
    made = {'data': self.data_stage}
    if self._needs:
      made['embedding'] = self.embedding_stage
    if 'semantic_ids' in self._needs:
      made['semantic_ids'] = self.semantic_ids_stage
    made |= {'train': self.train_stage, 'evaluation': self.evaluation_stage}
    results = collect(self.config, self.dataset, made, self._command)
    if processes.is_main():
      files.write_json(self.workdir / RESULTS, results)
    return results

  def _holds(self, name: str, made_from: list[Any]) -> bool:
    """Returns whether a stage was made from the given values."""
    folder, wanted = self.workdir / name, fingerprint(name, *made_from)
    return record.exists(folder) and record.read(folder).fingerprint == wanted

  def _stage(
    self,
    name: str,
    made_from: list[Any],
    build: Callable[[Path], dict[str, Any] | None],
    resumable: bool = False,
    collective: bool = False,
    about: dict[str, str] | None = None,
  ) -> Artefact:
    """Makes a stage, unless it exists already.

    The main process builds it while the others wait. With `collective`, all
    processes build it.
    """
    wanted = fingerprint(name, *made_from)
    processes.require_same(
      {f'input of stage {name}': wanted},
      'give all hosts the same raw files, and remove what only one of them has',
    )
    if not processes.is_main():
      if collective and processes.broadcast_from_main(0):
        build(partial_folder(self.workdir, name, wanted))
      return await_stage(self.workdir, name, wanted, self._elsewhere)

    def announce_and_build(folder: Path) -> dict[str, Any] | None:
      processes.broadcast_from_main(1)
      return build(folder)

    artefact, is_new = run_stage(
      self.workdir,
      name,
      wanted,
      announce_and_build if collective else build,
      about={
        'config': dataclasses.asdict(self.config),
        'environment': environment(),
      }
      | (about or {}),
      resumable=resumable,
      elsewhere=self._elsewhere,
    )
    if collective and not is_new:
      processes.broadcast_from_main(0)
    how = f'made in {artefact.seconds:.0f} s' if is_new else 'made before, kept'
    _say(name, f'{how} ({artefact.folder})')
    return artefact


def _say(stage: str, text: str) -> None:
  """Prints a line about a stage; '' continues the line before."""
  print(f'{stage:>12}{":" if stage else " "} {text}', flush=True)


def run(config: Config, workdir: str | Path) -> dict[str, Any]:
  """Trains and evaluates a recommender.

  A stage that the folder already holds is kept. An interrupted run is resumed.
  The folder also gets a report, `report.html`.

  Example:
    >>> import tiger_jax
    >>> small = {'dataset.synthetic_users': 200, 'train.steps': 20}
    >>> config = tiger_jax.Config.from_file('configs/quickstart.py', small)
    >>> results = tiger_jax.run(config, 'runs/small')  # doctest: +ELLIPSIS
            data: ...
    >>> sorted(results['metrics']['test'])[:2]
    ['invalid@10', 'ndcg@10']

  Args:
    config: The settings of the run.
    workdir: The folder of the run, which is made if it is missing.

  Returns:
    The content of `results.json`. `results['metrics']` holds the metrics of
    each split, such as `results['metrics']['test']['recall@10']`.

  Raises:
    TigerError: Any error that the user can fix.
  """
  if problems := checks.missing_paths(config):
    raise UsageError('; '.join(problems))
  workdir = Path(workdir).expanduser()
  with locked(workdir):
    pipeline = Pipeline(config, workdir)
    try:
      pipeline.run('evaluate')
    finally:
      pipeline.close()
    if processes.is_main():
      write_report(workdir)
    return pipeline.results
