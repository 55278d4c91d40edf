"""Runs two processes that disagree, and writes the errors that each gets.

  python tests/runtime/disagreement.py FOLDER

Each process writes its results, a line each, to FOLDER/<its number>/told. At
the end the main process fails while the other one waits for it.
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


def told(call, *arguments):
  """Returns the error of a call, or `agreed` if there was none."""
  try:
    call(*arguments)
  except TigerError as error:
    return f'{type(error).__name__}: {error}'
  return 'agreed'


def pipeline_of(values, workdir):
  """Opens a run."""
  return pipeline.Pipeline(from_json(values), workdir)


def main(folder):
  """Makes the processes disagree in several ways."""
  processes.join()
  processes._FILE_SECONDS = 2
  process = jax.process_index()
  shared, own = folder / 'shared', folder / str(process)
  own.mkdir()
  shared.mkdir(exist_ok=True)
  os.chdir(own)
  # Both have the same relative path, which leads to different files.
  small.make(Path('shop'), catalog=small.items(40 + process))
  shop = {'dataset': {'name': 'files', 'source_dir': 'shop'}}
  lines = [
    told(processes.require_same, {'config': 1, 'version': 2}, 'mend it'),
    told(processes.require_same, {'config': 1, 'version': process}, 'mend it'),
    told(processes.require_shared, shared),
    told(processes.require_shared, own),
    told(pipeline_of, {'seed': process}, shared),
    told(pipeline_of, {'seed': 3}, shared),
    told(lambda: pipeline_of(shop, shared).data_stage),
  ]
  (own / 'told').write_text('\n'.join(lines))
  run = pipeline_of({'dataset': {'synthetic_users': 5}}, shared)

  def fail(*unused):
    os._exit(3)

  pipeline.data.build = fail
  _ = run.data_stage


if __name__ == '__main__':
  main(Path(sys.argv[1]))
