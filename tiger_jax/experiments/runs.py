"""The paper's experiments: many runs, one table.

Every run has a folder of its own and is as any other; stages that two of them
would make alike are made once.
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
from tiger_jax.experiments import breakdown, cold_start, diversity, ensemble
from tiger_jax.experiments.spec import Experiment, Run
from tiger_jax.pipeline import Pipeline
from tiger_jax.recommenders import checks, registry
from tiger_jax.report import paper, records, tables
from tiger_jax.runtime import processes
from tiger_jax.stages import training
from tiger_jax.storage.artefacts import locked
from tiger_jax.storage.claim import make_folder
from tiger_jax.storage.files import write_json
from tiger_jax.storage.fingerprints import fingerprint
from tiger_jax.training import replicas

_Rows = dict[str, dict[str, float]]
# Of what is measured below: raised when a measure changes, so that its rows are
# made anew.
_VERSION = 6

# Experiments whose rows are not runs, but what is measured of the trained model
# of a run, or of those of all runs of a shop: metrics of the test, by row. They
# use proven lists and report the metric `proven`. The rows of all other
# experiments are runs, measured with the serving search, which has
# `evaluation.num_beams` beams.
_OF_A_RUN: dict[str, Callable[[Trained], _Rows]] = {
  'breakdown': breakdown.measure,
  'cold_start': cold_start.measure,
  'diversity': diversity.measure,
}
_OF_ALL_RUNS: dict[str, Callable[[dict[str, Trained]], _Rows]] = {
  'ensemble': ensemble.measure,
}


def run(experiment: Experiment, workdir: Path) -> str:
  """Makes every run that is not done, and returns the tables.

  `workdir` gets a folder for each run, and `results`, whose files may be copied
  to the project's own. Experiments that share it share what their runs have
  alike.

  Raises:
    TigerError: Data is missing, or anything that ends a run.
  """
  for one in experiment.runs:
    _refuse_missing(one.dataset, one.config)
  if any(one.config.semantic_ids.shared_with for one in experiment.runs):
    for shop, config in experiment.shops.items():
      _refuse_missing(shop, config)
  found: dict[str, list[dict[str, Any]]] = {}
  for shop in dict.fromkeys(one.dataset for one in experiment.runs):
    pipelines: dict[str, Pipeline] = {}
    folder = workdir / 'results' / experiment.name / shop
    if processes.is_main():
      make_folder(workdir, 'results', experiment.name, shop)
    with contextlib.ExitStack() as locks:
      for one in experiment.runs:
        if one.dataset == shop:
          print(f'\n{experiment.name}: {shop}, {one.name}', flush=True)
          one = _with_shops(experiment, one, workdir)
          place = _run_folder(workdir, shop, _file_name(one.name), locks)
          pipelines[one.name] = _finished(one.config, place)
      found[shop] = _records(experiment, shop, pipelines, folder)
  return '\n'.join(
    f'{shop}\n\n{tables.make_table(experiment.name, shop, of_shop)}'
    for shop, of_shop in found.items()
  )


def _run_folder(
  workdir: Path, shop: str, name: str, locks: contextlib.ExitStack
) -> Path:
  """Returns the folder of a run, which is locked until `locks` closes."""
  folder = workdir / shop / name
  if processes.is_main():
    make_folder(workdir, shop, name)
    locks.enter_context(locked(folder))
  return folder


def _finished(config: Config, folder: Path, last: str = 'evaluate') -> Pipeline:
  """Makes the stages of a run, but for what a run beside it has made."""
  beside = sorted(x for x in folder.parent.glob('*/') if x != folder)
  if last == 'evaluate' and not training.is_finished(config, [folder, *beside]):
    checks.check_devices(config)
  pipeline = Pipeline(config, folder, beside)
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
  """Makes the rows of a table, or finds them made."""
  kind = paper.without_variant(experiment.name)
  of_all = kind in _OF_ALL_RUNS
  groups = [tuple(pipelines)] if of_all else [(x,) for x in pipelines]
  made = []
  for names in groups:
    of_group = {name: pipelines[name] for name in names}
    prints = [x.evaluation_stage.fingerprint for x in of_group.values()]
    print_ = fingerprint(experiment.name, records.SCHEMA, _VERSION, prints)
    rows = _known_rows(folder, print_)
    if not rows:
      rows = _rows(kind, of_group, len(groups))
    before = experiment.table.index(names[0]) * len(rows)
    for order, (row, test) in enumerate(rows.items(), before):
      record = _record(experiment, of_group, shop, row, test) | {
        'order': order, 'fingerprint': print_, 'of_a_group': list(rows),
      }  # fmt: skip
      if processes.is_main():
        write_json(folder / f'{_file_name(row)}.json', record)
      made.append(record)
  return made


def _portable(config: Config) -> dict[str, Any]:
  """Returns a config whose paths do not tell whose machine it ran on."""
  values = dataclasses.asdict(config)
  for section, name in (
    ('dataset', 'source_dir'), ('embedding', 'path'), ('embedding', 'ids_path'),
  ):  # fmt: skip
    values[section][name] = Path(values[section][name]).name
  # A model name of the hub may have a slash too, and is kept.
  model = Path(config.embedding.model)
  if model.is_dir() or model.is_absolute() or model.parts[:1] == ('..',):
    values['embedding']['model'] = model.name
  shops = config.semantic_ids.shared_with
  values['semantic_ids']['shared_with'] = [Path(x).parent.name for x in shops]
  return values


def _known_rows(folder: Path, print_: str) -> _Rows:
  """Returns the rows of a group of runs, if all of them have been written."""
  known = [records.read(path) for path in folder.glob('*.json')]
  known = [record for record in known if record['fingerprint'] == print_]
  rows = {record['run']: record['metrics']['test'] for record in known}
  whole = known[0]['of_a_group'] if known else []
  return {row: rows[row] for row in whole} if set(rows) == set(whole) else {}


def _rows(
  experiment: str, pipelines: dict[str, Pipeline], num_groups: int
) -> _Rows:
  if experiment in _OF_ALL_RUNS:
    trained = {name: _trained(x) for name, x in pipelines.items()}
    return _OF_ALL_RUNS[experiment](trained)
  ((name, pipeline),) = pipelines.items()
  if experiment in _OF_A_RUN:
    rows = _OF_A_RUN[experiment](_trained(pipeline))
    if num_groups > 1:
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
  """Returns what is known of a row, but for its place and fingerprint."""
  found = [pipeline.results for pipeline in pipelines.values()]
  configs = [pipeline.config for pipeline in pipelines.values()]
  results = found[-1]
  # A row that is no run has nothing of its own but what was measured for it,
  # and that of the best of all replicas.
  is_run = row in pipelines and test == results['metrics']['test']
  ids = results.get('semantic_ids') if len(found) == 1 else None
  devices = results['environment']['devices']
  encoders = {x['embedding']['encoder'] for x in found if 'embedding' in x}
  seeds = replicas.seeds(configs[-1].seed, configs[-1].train.replicas)
  if not is_run:
    seeds = [seeds[results.get('replicas', {}).get('best_on_validation', 0)]]
  return {
    'schema': records.SCHEMA,
    'experiment': experiment.name,
    'dataset': shop,
    'run': row,
    'columns': list(experiment.columns) or None,
    'command': experiment.command,
    'model': ' + '.join(x['model'] for x in found),
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
  trained = training.load_best(pipeline.session, pipeline.train_stage.folder)
  if trained.session.entry.needs:
    trained = trained._replace(embeddings=pipeline.embeddings)
  return trained


def _with_shops(experiment: Experiment, one: Run, workdir: Path) -> Run:
  """Returns the run with the folders of the shops that it shares IDs with.

  A spec names shops where a config names workdirs; their items are embedded.
  """
  folders = []
  for shop in one.config.semantic_ids.shared_with:
    if shop not in experiment.shops:
      raise UsageError(
        f'{one.name}: semantic_ids.shared_with names {shop!r}: choose from '
        f'{", ".join(experiment.shops)}'
      )
    with contextlib.ExitStack() as locks:
      folder = _run_folder(workdir, shop, 'items', locks)
      _finished(experiment.shops[shop], folder, 'embed')
    folders.append(str(folder))
  ids = dataclasses.replace(one.config.semantic_ids, shared_with=tuple(folders))
  return one._replace(config=dataclasses.replace(one.config, semantic_ids=ids))


def _refuse_missing(shop: str, c: Config) -> None:
  """Raises DataError where files are named that are not there."""
  flag = f'--config.datasets.{shop}'
  raw = source_files(c.dataset)
  if raw and not any(path.exists() for path in raw):
    raise DataError(
      f'{shop}: {raw[0]} is missing: leave '
      f'{flag}.dataset.source_dir out to download the official files, or name '
      'the folder that holds them'
    )
  if c.embedding.encoder != 'precomputed' or not (
    registry.entry(c.model).needs
  ):
    return
  for name in ('path', 'ids_path'):
    path = getattr(c.embedding, name)
    if not path or not Path(path).is_file():
      raise DataError(
        f'{shop}: {flag}.embedding.{name} is {path!r}, which is no '
        'file: name it, or set '
        '--config.base.embedding.encoder=sentence-transformers to embed the '
        "items, which needs `pip install -e '.[text]'`"
      )


def _file_name(run: str) -> str:
  """Returns what to call the folder and the file of a run."""
  kept = (c if c.isalnum() or c in '.-' else '_' for c in run.lower())
  return ''.join(kept)
