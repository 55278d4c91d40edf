"""Gives two processes different settings, and writes their errors to files.

  python tests/runtime/disagreement.py FOLDER

The test starts this program twice, as process 0 and as process 1. Each process
writes one line per check to FOLDER/<process>/results. At the end, process 0
fails while process 1 waits for it.
"""

import os
from pathlib import Path
import sys

import jax

from tests import small
from tiger_jax import pipeline
from tiger_jax.config.config_dict import from_json
from tiger_jax.errors import TigerError
from tiger_jax.runtime import processes


def outcome(call, *arguments):
  """Returns the error of a call as text, or `agreed` without an error."""
  try:
    call(*arguments)
  except TigerError as error:
    return f'{type(error).__name__}: {error}'
  return 'agreed'


def pipeline_of(values, workdir):
  """Opens a run."""
  return pipeline.Pipeline(from_json(values), workdir)


def main(folder):
  """Runs all checks."""
  processes.join()
  processes._FILE_SECONDS = 2
  process = jax.process_index()
  shared, own = folder / 'shared', folder / str(process)
  own.mkdir()
  shared.mkdir(exist_ok=True)
  os.chdir(own)
  # The relative path `shop` leads to a different folder in each process.
  small.make(Path('shop'), catalog=small.items(40 + process))
  shop = {'dataset': {'name': 'files', 'source_dir': 'shop'}}
  lines = [
    outcome(processes.require_same, {'config': 1, 'version': 2}, 'fix it'),
    outcome(
      processes.require_same, {'config': 1, 'version': process}, 'fix it'
    ),
    outcome(processes.require_shared, shared),
    outcome(processes.require_shared, own),
    outcome(pipeline_of, {'seed': process}, shared),
    outcome(pipeline_of, {'seed': 3}, shared),
    outcome(lambda: pipeline_of(shop, shared).data_stage),
  ]
  (own / 'results').write_text('\n'.join(lines))
  run = pipeline_of({'dataset': {'synthetic_users': 5}}, shared)

  def fail(*unused):
    os._exit(3)

  pipeline.data.build = fail
  _ = run.data_stage


if __name__ == '__main__':
  main(Path(sys.argv[1]))
