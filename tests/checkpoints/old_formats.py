"""Converts checkpoints to the formats of earlier versions."""

import json
import shutil

import jax
import orbax.checkpoint as ocp

from tiger_jax.checkpoints import checkpoint_folder, manifest
from tiger_jax.training.step import TrainState


def convert(folder, like, number):
  """Converts a checkpoint to a format with one folder for the whole state.

  Args:
    folder: The folder of the checkpoint.
    like: The state of the checkpoint, or its shapes and types.
    number: The format, 0 to 2.
  """
  state = checkpoint_folder.read_state(folder, jax.eval_shape(lambda: like))
  for name in ('params', 'state'):
    shutil.rmtree(folder / name)
  with ocp.StandardCheckpointer() as orbax:
    orbax.save(folder / 'state', TrainState(**state))
  contents = json.loads((folder / 'meta.json').read_text())
  contents['format'] = number
  if number == 0:
    del contents['format'], contents['version']
  if number < 2:
    assert not contents['meta'].get('skipped')
    contents['meta']['skipped'] = 0
  (folder / 'meta.json').write_text(json.dumps(contents, indent=1))
  manifest.write(folder, {'step': int(folder.name)})
