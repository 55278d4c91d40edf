"""Makes `report.html` from the stages of a finished run."""

import json
from pathlib import Path
from typing import Any

from tiger_jax.config.recorded import config_of
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError
from tiger_jax.evaluation.users import UserResults
from tiger_jax.recommenders import registry
from tiger_jax.report.finished_run import FinishedRun
from tiger_jax.semantic_ids import quality
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.storage import files
from tiger_jax.storage.artifacts import (
  REPORT,
  RESULTS,
  input_folder,
  read_artifact,
)
from tiger_jax.storage.claim import refuse_link
from tiger_jax.storage.os_errors import describe


def write_report(workdir: Path) -> Path:
  """Writes the report of a finished run into its folder, and returns its path.

  Raises:
    DataError: The run has no evaluation, one of its files is damaged, or the
      report cannot be written.
  """
  # Imported here, because the plotting libraries take a second to import.
  import jinja2

  from tiger_jax.report import page

  path = workdir / REPORT
  refuse_link(path)
  run = read_run(workdir)
  with files.explained(
    f'the report of {workdir} cannot be made from its files',
    f'run --mode=evaluate with --workdir={workdir} again',
    (*files.INVALID, jinja2.TemplateError),
  ):
    html = page.render(run)
  try:
    files.write(path, html.encode('utf-8', 'replace'))
  except OSError as error:
    raise DataError(describe(error, path)) from error
  return path


def read_run(workdir: Path) -> FinishedRun:
  """Reads the content of the report.

  Raises:
    DataError: The run has no evaluation, or one of its files is damaged.
  """
  train, evaluation = (
    read_artifact(workdir, x) for x in ('train', 'evaluation')
  )
  if not train or not evaluation or not (workdir / RESULTS).exists():
    raise DataError(
      f'{workdir} has no evaluation to report: repeat the command of the run '
      f'with --workdir={workdir} --mode=evaluate first'
    )
  results = _results(workdir / RESULTS)
  config = config_of(evaluation, lambda config: registry.entry(config.model))
  ids = None
  if 'semantic_ids' in registry.entry(config.model).needs:
    ids = SemanticIds.load(input_folder(train, 'semantic_ids'))
  dataset = Dataset.load(input_folder(train, 'data'))
  remedy = f'run --mode=evaluate with --workdir={workdir}'
  users = UserResults.load(evaluation.folder, dataset, remedy)
  return FinishedRun(
    workdir=str(workdir),
    config=config,
    results=results,
    dataset=dataset,
    ids=ids,
    users=users,
    log=_lines(train.folder / 'metrics.jsonl')
    or _lines(workdir / 'metrics.jsonl'),
    goodput=_lines(train.folder / 'goodput.jsonl'),
  )


def _results(path: Path) -> dict[str, Any]:
  """Reads `results.json`, and checks the values that the report uses."""
  remedy = f'remove it, then run --mode=evaluate with --workdir={path.parent}'
  with files.explained(f'{path} is damaged', remedy):
    results = files.read_json(path)
    for split, values in results['metrics'].items():
      for name, value in values.items():
        if not isinstance(value, int | float):
          raise TypeError(f'{name} of {split} is not a number')
    for name in ('recall@10', 'ndcg@10'):
      float(results['metrics']['test'][name])
      float(results['baselines']['popularity']['test'][name])
    for name in ('dataset', 'seconds', 'environment'):
      if not isinstance(results[name], dict):
        raise TypeError(f'{name} is not an object')
    if 'semantic_ids' in results:
      measured = results['semantic_ids']
      results['semantic_ids'] = quality.with_new_names(measured)
  return results


def _lines(path: Path) -> list[dict[str, Any]]:
  """Returns the objects in a JSON Lines file; none if the file is missing.

  A line that a killed process did not finish is skipped.
  """
  try:
    text = files.read(path).decode('utf-8', 'replace')
  except (OSError, ValueError):
    return []
  values = []
  for line in text.splitlines():
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if isinstance(value, dict):
      values.append(value)
  return values
