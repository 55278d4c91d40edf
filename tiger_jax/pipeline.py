"""Runs the stages in order, from raw files to results."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

from jaxtyping import Float
import numpy as np

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.config.config_dict import as_path
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.loading import ITEM_ORDER
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import checks, registry
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Batches, Session
from tiger_jax.runtime import processes
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids import quality
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.stages import (
  data,
  embedding,
  evaluation,
  first_checks,
  semantic_ids,
  training,
)
from tiger_jax.stages.report import write_report
from tiger_jax.stages.results import collect
from tiger_jax.stages.stage import run_stage, say
from tiger_jax.storage import files, record
from tiger_jax.storage.artifacts import RESULTS, Artifact, locked, superseded
from tiger_jax.storage.fingerprints import fingerprint

# Maps each mode to the folder of its artifact.
STAGES = {
  'data': 'data',
  'embed': 'embedding',
  'semantic_ids': 'semantic_ids',
  'train': 'train',
  'evaluate': 'evaluation',
}


class Pipeline:
  """The stages of one run.

  Each stage has two properties. The first, such as `data_stage`, runs the stage
  and, before it, the stages that it reads. It returns the artifact. The second,
  such as `dataset`, reads the artifact. A finished stage runs again if its
  section of the config, the seed, or a stage that it reads has changed.
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
      config: The settings of the run.
      workdir: The folder of the run, which is created if it is missing.
      elsewhere: Folders of other runs. Their stages are reused if the inputs
        are the same.
      command: The command that repeats the run, for the results.

    Raises:
      UsageError: The processes of the run differ in the config, the version of
        the code, or the folder.
    """
    processes.require_same(
      {'config': dataclasses.asdict(config), 'version': tiger_jax.__version__},
      'start all processes with the same code and the same command',
    )
    processes.require_shared(workdir)
    self.config = config
    self._elsewhere, self._command = elsewhere, command
    self._needs = registry.entry(config.model).needs
    self.workdir = workdir
    self._stage = functools.partial(run_stage, config, workdir, elsewhere)
    self.writer = MetricsWriter(workdir)
    self._batches: Batches | None = None

  def close(self) -> None:
    """Closes the metrics writer and frees the memory of the model."""
    self.writer.close()
    for name in ('session', 'trained'):
      self.__dict__.pop(name, None)
    self._batches = None

  def check(self, mode: str) -> None:
    """Checks the devices and the size of the dataset.

    Args:
      mode: A key of `STAGES`, or `bench`.

    Raises:
      UsageError: The devices do not fit the config, or there are too few items.
      DataError: There are too few training examples, or the data stage fails.
    """
    folders = (self.workdir, *self._elsewhere)
    is_training = first_checks.trains(self.config, mode, folders)
    if is_training:
      checks.check_devices(self.config)
    self._batches = first_checks.check_sizes(
      self.config, self.dataset, mode, is_training
    )

  def run(self, last: str) -> None:
    """Runs the stages that the model needs, up to `last`, a key of `STAGES`.

    The devices and the size of the dataset are checked first, see `check`.
    """
    self.check(last)
    if processes.is_main():
      # Not in `__init__`, because --mode=bench must not modify the folder.
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
      say('kept', f'{names}, made with different configs; you may remove them')

  @functools.cached_property
  def data_stage(self) -> Artifact:
    """The stage that reads the raw files."""
    made_from = data.made_from(self.config)
    former = [x for x in made_from if x != ITEM_ORDER]
    if former != made_from and self._is_made_from('data', former):
      say('data', 'items have new row numbers, so all stages run again')
    return self._stage(
      'data', made_from, lambda folder: data.build(self.config, folder)
    )

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The items and the histories."""
    d = data.load(self.data_stage.folder)
    say(
      'data',
      f'{d.name}: {d.num_users:,} users, {d.num_items:,} items, '
      f'{d.num_interactions:,} interactions',
    )
    for line in counts.lines(counts.read(self.data_stage.folder)):
      say('', line)
    return d

  @functools.cached_property
  def embedding_stage(self) -> Artifact:
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
    """The embedding of every item."""
    vectors = embedding.load(self.embedding_stage.folder)
    num_items, dim = vectors.shape
    name = embedding.encoder_name(self.config.embedding)
    say('embedding', f'{num_items:,} items x {dim}, {name}')
    if rows := self.embedding_stage.metadata.get('vectors'):
      say('', f'vectors: {rows["vectors"]:,} read, {rows["used"]:,} used')
    return vectors

  @functools.cached_property
  def semantic_ids_stage(self) -> Artifact:
    """The stage that makes the Semantic IDs."""
    c, own = self.config, self.embedding_stage.fingerprint
    other_shops = semantic_ids.read_shared(c, own)
    # The histories determine the unseen items, which the fit excludes.
    histories = [self.data_stage.fingerprint] if c.dataset.unseen_share else []
    settings = semantic_ids.made_from(c.semantic_ids, other_shops)
    return self._stage(
      'semantic_ids',
      [settings, c.seed, own, *histories],
      lambda folder: semantic_ids.build(
        c,
        self.dataset,
        semantic_ids.Shop(self.dataset.name, own, self.embeddings),
        other_shops,
        folder,
        self.writer,
      ),
      resumable=True,
      metadata={'embedding': own},
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
    """The recommender with its settings, inputs and devices."""
    ids = self.ids if 'semantic_ids' in self._needs else None
    vectors = self.embeddings if 'embeddings' in self._needs else None
    inputs = Inputs(self.dataset, ids, vectors)
    return Session.open(self.config, inputs, self._batches)

  @functools.cached_property
  def train_stage(self) -> Artifact:
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
      metadata=inputs,
    )

  @functools.cached_property
  def trained(self) -> tuple[Any, int]:
    """The best parameters of all replicas, and the index of the best one."""
    return training.load(self.session, self.train_stage.folder)

  @functools.cached_property
  def evaluation_stage(self) -> Artifact:
    """The stage that measures the recommender and its baselines."""
    return self._stage(
      'evaluation',
      evaluation.made_from(self.config, self.train_stage.fingerprint),
      lambda folder: evaluation.build(self.session, *self.trained, folder),
      collective=True,
    )

  @functools.cached_property
  def results(self) -> dict[str, Any]:
    """All measurements, which are also written to `results.json`."""
    stages = {'data': self.data_stage}
    if self._needs:
      stages['embedding'] = self.embedding_stage
    if 'semantic_ids' in self._needs:
      stages['semantic_ids'] = self.semantic_ids_stage
    stages |= {'train': self.train_stage, 'evaluation': self.evaluation_stage}
    results = collect(self.config, self.dataset, stages, self._command)
    if processes.is_main():
      files.write_json(self.workdir / RESULTS, results)
    return results

  def _is_made_from(self, name: str, made_from: list[Any]) -> bool:
    """Returns whether the folder holds the stage with these inputs."""
    folder, wanted = self.workdir / name, fingerprint(name, *made_from)
    return record.exists(folder) and record.read(folder).fingerprint == wanted


@contextlib.contextmanager
def open_run(
  config: Config, workdir: Path, mode: str = 'evaluate', command: str = ''
) -> Iterator[Pipeline]:
  """Checks the settings of a run, and yields its stages.

  The folder is locked until the context is closed. At its end, the mode
  `evaluate` writes the report.

  Args:
    config: The settings of the run.
    workdir: The folder of the run, which is created if it is missing.
    mode: A key of `STAGES`, or `bench`.
    command: The command that repeats the run, for the results.

  Raises:
    TigerError: The settings are wrong, or the folder cannot be used.
  """
  first_checks.check_settings(config, workdir, mode)
  is_main = processes.is_main()
  with locked(workdir) if is_main else contextlib.nullcontext():
    pipeline = Pipeline(config, workdir, command=command)
    try:
      yield pipeline
    finally:
      pipeline.close()
    if mode == 'evaluate' and is_main:
      write_report(workdir)


def run(config: Config, workdir: str | Path) -> dict[str, Any]:
  """Trains and evaluates a recommender.

  Finished stages in the folder are reused. An interrupted training resumes. The
  folder also gets a report, `report.html`.

  Example:
    >>> import tiger_jax
    >>> small = {'dataset.synthetic_users': 400, 'train.steps': 100}
    >>> config = tiger_jax.load_config('configs/quickstart.py', small)
    >>> results = tiger_jax.run(config, 'runs/small')  # doctest: +ELLIPSIS
            data: ...
    >>> 0 <= results['metrics']['test']['recall@10'] <= 1
    True

  Args:
    config: The settings of the run.
    workdir: The folder of the run, which is created if it is missing.

  Returns:
    The content of `results.json`. It holds the metrics of each split, such as
    `results['metrics']['test']['recall@10']`.

  Raises:
    TigerError: Any error that the user can fix.
  """
  if not isinstance(config, Config):
    raise UsageError(
      f'config is {config!r}, not a Config: pass what load_config returns'
    )
  with open_run(config, as_path(workdir, 'workdir')) as pipeline:
    pipeline.run('evaluate')
  return pipeline.results
