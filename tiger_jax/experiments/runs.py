"""Executes the runs of an experiment, and makes one table of their results.

Each run has its own folder, like a run outside an experiment. Runs share the
stages that have the same inputs.
"""

from collections.abc import Callable
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from tiger_jax.config import Config
from tiger_jax.data.loading import source_files
from tiger_jax.errors import DataError, UsageError
from tiger_jax.evaluation.ranking import Trained
from tiger_jax.experiments import (
  breakdown,
  cold_start,
  diversity,
  ensemble,
  mixture,
)
from tiger_jax.experiments.spec import Experiment, Run
from tiger_jax.pipeline import Pipeline
from tiger_jax.recommenders import registry
from tiger_jax.report import paper, records, tables
from tiger_jax.runtime import processes
from tiger_jax.stages import first_checks, training
from tiger_jax.storage.artifacts import locked
from tiger_jax.storage.claim import make_folder
from tiger_jax.storage.files import write_json
from tiger_jax.storage.fingerprints import fingerprint
from tiger_jax.training import replicas

_Rows = dict[str, dict[str, float]]
# Part of the fingerprint of rows. Increase it when a function below changes its
# results, so that old rows are computed again.
_VERSION = 9

# In most experiments, a row is a run, measured with the serving search of
# `evaluation.num_beams` beams. In the experiments below, one trained model, or
# all trained models of a dataset, give several rows of test metrics. Except in
# `mixture` and `ensemble`, their searches add beams until it is proven that no
# other item ranks above the listed items. The metric `proven` is the share of
# the listed items for which the proof succeeds.
_PER_RUN: dict[str, Callable[[Trained], _Rows]] = {
  'breakdown': breakdown.measure,
  'cold_start': cold_start.measure,
  'diversity': diversity.measure,
  'mixture': mixture.measure,
}
_PER_DATASET: dict[str, Callable[[dict[str, Trained]], _Rows]] = {
  'ensemble': ensemble.measure,
}


def run(experiment: Experiment, workdir: Path) -> str:
  """Executes the runs that are not finished, and returns the tables.

  `workdir` gets a folder for each run, and the folder `results` with a file for
  each row of the tables. Experiments with the same `workdir` share stages.

  Raises:
    TigerError: Files are missing, a run fails, or an experiment that combines
      runs has only one.
  """
  is_combined = paper.without_variant(experiment.name) in _PER_DATASET
  if is_combined and len({run.name for run in experiment.runs}) < 2:
    raise UsageError(
      f'{experiment.name} combines runs: name at least two of '
      f'{", ".join(map(repr, experiment.table))} in config.order'
    )
  for run in experiment.runs:
    _check_files(run.dataset, run.config)
  if any(run.config.semantic_ids.shared_with for run in experiment.runs):
    for shop, config in experiment.shops.items():
      _check_files(shop, config)
  records_of: dict[str, list[dict[str, Any]]] = {}
  for shop in dict.fromkeys(run.dataset for run in experiment.runs):
    pipelines: dict[str, Pipeline] = {}
    results_folder = workdir / 'results' / experiment.name / shop
    if processes.is_main():
      make_folder(workdir, 'results', experiment.name, shop)
    with contextlib.ExitStack() as locks:
      for run in experiment.runs:
        if run.dataset == shop:
          print(f'\n{experiment.name}: {shop}, {run.name}', flush=True)
          run = _with_shared_folders(experiment, run, workdir)
          folder = _run_folder(workdir, shop, _file_name(run.name), locks)
          pipelines[run.name] = _run_stages(run.config, folder)
      records_of[shop] = _records(experiment, shop, pipelines, results_folder)
  return '\n'.join(
    f'{shop}\n\n{tables.make_table(experiment.name, shop, shop_records)}'
    for shop, shop_records in records_of.items()
  )


def _run_folder(
  workdir: Path, shop: str, name: str, locks: contextlib.ExitStack
) -> Path:
  """Creates the folder of a run, and locks it until `locks` is closed."""
  folder = workdir / shop / name
  if processes.is_main():
    make_folder(workdir, shop, name)
    locks.enter_context(locked(folder))
  return folder


def _run_stages(
  config: Config, folder: Path, last: str = 'evaluate'
) -> Pipeline:
  """Runs all stages up to `last`, except those that a sibling folder has."""
  siblings = sorted(x for x in folder.parent.glob('*/') if x != folder)
  first_checks.check_settings(config, folder, last)
  pipeline = Pipeline(config, folder, siblings)
  try:
    pipeline.run(last)
  finally:
    pipeline.close()
  return pipeline


def _records(
  experiment: Experiment,
  shop: str,
  pipelines: dict[str, Pipeline],
  folder: Path,
) -> list[dict[str, Any]]:
  """Returns the records of a table; saved metrics are not computed again."""
  kind = paper.without_variant(experiment.name)
  groups = [(name,) for name in pipelines]
  if kind in _PER_DATASET:
    groups = [tuple(pipelines)]
  all_records = []
  for names in groups:
    group = {name: pipelines[name] for name in names}
    run_fingerprints = [x.evaluation_stage.fingerprint for x in group.values()]
    group_fingerprint = fingerprint(
      experiment.name, records.SCHEMA, _VERSION, run_fingerprints
    )
    rows = _saved_rows(folder, group_fingerprint)
    if not rows:
      rows = _rows(kind, group, len(experiment.table))
    first = experiment.table.index(names[0]) * len(rows)
    for order, (row, test) in enumerate(rows.items(), first):
      record = _record(experiment, group, shop, row, test) | {
        'order': order,
        'fingerprint': group_fingerprint,
        'of_a_group': list(rows),
      }
      if processes.is_main():
        write_json(folder / f'{_file_name(row)}.json', record)
      all_records.append(record)
  return all_records


def _portable(config: Config) -> dict[str, Any]:
  """Returns the config as a dict without the folders of local paths.

  The result does not reveal or depend on the machine of the run.
  """
  values = dataclasses.asdict(config)
  for section, name in (
    ('dataset', 'source_dir'), ('embedding', 'path'), ('embedding', 'ids_path'),
  ):  # fmt: skip
    values[section][name] = Path(values[section][name]).name
  # A model name of the hub may have a slash too, and is not shortened.
  model = Path(config.embedding.model)
  if model.is_dir() or model.is_absolute() or model.parts[:1] == ('..',):
    values['embedding']['model'] = model.name
  shops = config.semantic_ids.shared_with
  values['semantic_ids']['shared_with'] = [Path(x).parent.name for x in shops]
  return values


def _saved_rows(folder: Path, group_fingerprint: str) -> _Rows:
  """Returns the rows of a group if all of them are on disk, else no rows."""
  saved = [records.read(path) for path in folder.glob('*.json')]
  saved = [x for x in saved if x['fingerprint'] == group_fingerprint]
  rows = {record['run']: record['metrics']['test'] for record in saved}
  names = saved[0]['of_a_group'] if saved else []
  return {row: rows[row] for row in names} if set(rows) == set(names) else {}


def _rows(
  experiment: str, pipelines: dict[str, Pipeline], num_runs: int
) -> _Rows:
  """Computes the test metrics of a group of runs, by the name of the row.

  If the table has several runs (`num_runs`), the name of a row begins with the
  name of the run, even if only one of the runs is selected.
  """
  if experiment in _PER_DATASET:
    trained = {name: _trained(x) for name, x in pipelines.items()}
    return _PER_DATASET[experiment](trained)
  ((name, pipeline),) = pipelines.items()
  if experiment in _PER_RUN:
    rows = _PER_RUN[experiment](_trained(pipeline))
    if num_runs > 1:
      return {f'{name}, {row}': values for row, values in rows.items()}
    return rows
  return {name: pipeline.results['metrics']['test']}


def _record(
  experiment: Experiment,
  pipelines: dict[str, Pipeline],
  shop: str,
  row: str,
  test: dict[str, float],
) -> dict[str, Any]:
  """Returns the record of a row, without its order and fingerprint."""
  results_of_runs = [pipeline.results for pipeline in pipelines.values()]
  configs = [pipeline.config for pipeline in pipelines.values()]
  results = results_of_runs[-1]
  is_run = row in pipelines and test == results['metrics']['test']
  ids = results.get('semantic_ids') if len(results_of_runs) == 1 else None
  devices = results['environment']['devices']
  encoders = {
    x['embedding']['encoder'] for x in results_of_runs if 'embedding' in x
  }
  seeds = replicas.seeds(configs[-1].seed, configs[-1].train.replicas)
  # A row that is not a run has only the test metrics of the model that is
  # served: the best replica, or the ensemble of all replicas.
  if not is_run and not configs[-1].evaluation.ensemble:
    seeds = [seeds[results.get('replicas', {}).get('best_on_validation', 0)]]
  return {
    'schema': records.SCHEMA,
    'experiment': experiment.name,
    'dataset': shop,
    'run': row,
    'columns': list(experiment.columns) or None,
    'command': experiment.command,
    'model': ' + '.join(dict.fromkeys(x['model'] for x in results_of_runs)),
    'device': f'{len(devices)} x {devices[0]}',
    'seeds': seeds,
    'embedding': ', '.join(sorted(encoders)),
    'metrics': results['metrics'] if is_run else {'test': test},
    'standard_error': results.get('standard_error') if is_run else None,
    'collision_rate': ids['collision_rate'][-1] if ids else None,
    'seconds': results['seconds'] if is_run else {},
    'environment': results['environment'],
    'config': (
      _portable(configs[0])
      if len(configs) == 1
      else dict(zip(pipelines, map(_portable, configs), strict=True))
    ),
  }


def _trained(pipeline: Pipeline) -> Trained:
  trained = training.load_served(pipeline.session, pipeline.train_stage.folder)
  if trained.session.entry.needs:
    trained = trained._replace(embeddings=pipeline.embeddings)
  return trained


def _with_shared_folders(
  experiment: Experiment, run: Run, workdir: Path
) -> Run:
  """Returns the run with folders in place of shop names in `shared_with`.

  The items of these shops are embedded first, because the run needs their
  vectors.
  """
  folders = []
  for shop in run.config.semantic_ids.shared_with:
    if shop not in experiment.shops:
      raise UsageError(
        f'{run.name}: semantic_ids.shared_with names {shop!r}: choose from '
        f'{", ".join(experiment.shops)}'
      )
    with contextlib.ExitStack() as locks:
      folder = _run_folder(workdir, shop, 'items', locks)
      _run_stages(experiment.shops[shop], folder, 'embed')
    folders.append(str(folder))
  ids = dataclasses.replace(run.config.semantic_ids, shared_with=tuple(folders))
  return run._replace(config=dataclasses.replace(run.config, semantic_ids=ids))


def _check_files(shop: str, c: Config) -> None:
  """Raises DataError if the config names files that do not exist."""
  flag = f'--config.datasets.{shop}'
  raw = source_files(c.dataset)
  if raw and not any(path.exists() for path in raw):
    raise DataError(
      f'{shop}: {raw[0]} is missing: set {flag}.dataset.source_dir to the '
      'folder of the official files, or omit this flag to download them'
    )
  if c.embedding.encoder != 'precomputed' or not (
    registry.entry(c.model).needs
  ):
    return
  for name in ('path', 'ids_path'):
    path = getattr(c.embedding, name)
    if not path or not Path(path).is_file():
      raise DataError(
        f'{shop}: {flag}.embedding.{name} is {path!r}, which is not a file: '
        'set it to the file, or set '
        '--config.base.embedding.encoder=sentence-transformers to embed the '
        "items, which needs `pip install -e '.[text]'`"
      )


def _file_name(name: str) -> str:
  """Converts the name of a run or a row to the name of its folder or file."""
  characters = (c if c.isalnum() or c in '.-' else '_' for c in name.lower())
  return ''.join(characters)
