"""The run of the reliability tests, and checks of its files."""

from collections.abc import Iterator
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.reliability.forks import ROOT
from tiger_jax.checkpoints import manifest

# Whether to inject all faults instead of a few of each kind.
IS_FULL = os.environ.get('TIGER_JAX_RELIABILITY') == 'full'
STEPS = 400
SAVE_EVERY = 25
STAGES = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')
FLAGS = (
  f'--config={ROOT}/configs/quickstart.py',
  '--mode=evaluate',
  '--config.dataset.synthetic_users=150',
  '--config.embedding.dim=16',
  '--config.semantic_ids.quantizer=rq_vae',
  '--config.semantic_ids.codebook_sizes=(16,16,16)',
  '--config.semantic_ids.latent_dim=8',
  '--config.semantic_ids.hidden_dims=(32,)',
  '--config.semantic_ids.epochs=300',
  '--config.semantic_ids.restart_epochs=100',
  '--config.model.max_history=6',
  '--config.model.d_model=16',
  '--config.model.num_heads=2',
  '--config.model.head_dim=8',
  '--config.model.mlp_dim=32',
  '--config.model.num_encoder_layers=1',
  '--config.model.num_decoder_layers=1',
  '--config.train.batch_size=32',
  f'--config.train.steps={STEPS}',
  '--config.train.steps_per_call=5',
  '--config.train.length_buckets=(6,)',
  '--config.train.log_every=10',
  f'--config.train.evaluate_every={SAVE_EVERY}',
  '--config.train.evaluate_users=64',
  '--config.train.optimizer.warmup_steps=20',
  '--config.evaluation.num_beams=10',
  '--config.evaluation.batch_size=64',
)
# Metrics that depend on the time.
_TIMED = ('time', 'examples_per_second')
# Files that depend on the time of an interruption.
_VARIABLE = re.compile(r'/checkpoints/|^tensorboard/|^filler$')


def final(workdir: Path) -> dict[str, Any]:
  """Returns the final results and files, which must not depend on faults."""
  results = _read(workdir / 'results.json')
  del results['seconds']
  summary = {
    'results': results,
    'files': sorted(_files(workdir)),
    **{
      name: _sha256(workdir / name)
      for name in (
        'data/histories.npz',
        'embedding/embeddings.npy',
        'semantic_ids/ledger',
        'semantic_ids/semantic_ids.npz',
        'semantic_ids/tokenizer.npz',
        'train/ledger',
      )
    },
  }
  for stage in ('semantic_ids', 'train'):
    folder = checkpoints(workdir, stage)
    step = max(steps(folder))
    summary[f'{stage} step'] = step
    summary[f'{stage} arrays'] = arrays(folder / str(step))
  return summary


def arrays(folder: Path) -> dict[str, str]:
  """Returns the sha256 of every array of a checkpoint, by its path."""
  manifest.check(folder, {'step': int(folder.name)})
  with ocp.StandardCheckpointer() as orbax:
    state = {name: orbax.restore(folder / name) for name in ('params', 'state')}
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): hashlib.sha256(
      f'{x.dtype}{x.shape}'.encode() + np.asarray(x).tobytes()
    ).hexdigest()
    for path, x in jax.tree.leaves_with_path(state)
  }


def leaves(tree: Any) -> list[np.ndarray]:
  """Returns the arrays of a tree."""
  return [np.asarray(x) for x in jax.tree.leaves(tree)]


def logged(workdir: Path) -> list[dict[str, Any]]:
  """Returns the logged metrics, except those that depend on the time."""
  text = (workdir / 'metrics.jsonl').read_text()
  return [
    {k: v for k, v in json.loads(line).items() if k not in _TIMED}
    for line in text.splitlines()
  ]


def assert_good_so_far(workdir: Path, reference: Path) -> None:
  """Checks the files of a run that was interrupted at any time."""
  for stage in ('semantic_ids', 'train'):
    folder = checkpoints(workdir, stage)
    for step in steps(folder):
      # A folder whose name is a step must be complete.
      manifest.check(folder / str(step), {'step': step})
    ledger = folder.parent / 'ledger'
    if ledger.exists():
      whole = (reference / stage / 'ledger').read_bytes()
      assert whole.startswith(ledger.read_bytes())


def assert_saved(workdir: Path, trace: list[str]) -> None:
  """Checks that the last checkpoint saved by a run, or a later one, exists."""
  for stage in ('semantic_ids', 'train'):
    ended = [
      int(match[1])
      for line in trace
      if (match := re.fullmatch(rf'save\.end /{stage}\b.*/(\d+)', line))
    ]
    if ended:
      assert max(steps(checkpoints(workdir, stage))) >= max(ended)


def states(trace: list[str]) -> dict[tuple[str, int], set[str]]:
  """Returns the digests of saved and restored states, by stage and step."""
  digests: dict[tuple[str, int], set[str]] = {}
  stage = ''
  for line in trace:
    event, *values = line.split(' ')
    if event == 'stage.begin':
      stage = values[0]
    if event in ('saving', 'restored'):
      digests.setdefault((stage, int(values[0])), set()).add(values[1])
  return digests


def assert_same_states(trace: list[str], reference: Path) -> None:
  """Checks that states equal those of the reference at the same steps."""
  expected = states(reference.with_name('trace').read_text().splitlines())
  for key, digests in states(trace).items():
    if key in expected and key[1]:
      assert digests == expected[key], key


def checkpoints(workdir: Path, stage: str) -> Path:
  """Returns the checkpoints folder of a finished or unfinished stage."""
  folders = [workdir / stage, *workdir.glob(f'{stage}.partial-*')]
  folder = next((x for x in folders if x.exists()), folders[0])
  return folder / 'checkpoints'


def steps(folder: Path) -> list[int]:
  """Returns the steps of the checkpoints in a folder, in order."""
  return sorted(int(x.name) for x in folder.glob('*') if x.name.isdecimal())


def without(stage: str, reference: Path, workdir: Path) -> Path:
  """Copies a finished run, without a stage and the later stages."""
  later = STAGES[STAGES.index(stage) :]
  shutil.copytree(
    reference, workdir, ignore=shutil.ignore_patterns(*later, 'results.json')
  )
  lines = (workdir / 'metrics.jsonl').read_text().splitlines(keepends=True)
  kept = (line for line in lines if json.loads(line)['stage'] not in later)
  (workdir / 'metrics.jsonl').write_text(''.join(kept))
  return workdir


def _files(workdir: Path) -> Iterator[str]:
  for path in workdir.rglob('*'):
    name = path.relative_to(workdir).as_posix()
    if path.is_file() and not _VARIABLE.search(name):
      yield name


def _read(path: Path) -> Any:
  return json.loads(path.read_text())


def _sha256(path: Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()
