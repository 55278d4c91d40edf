"""Recommends items with an export: python run_export.py FOLDER ROW,ROW,..."""

from datetime import date
import hashlib
import json
from pathlib import Path
import sys

import jax
from jax import export
import jaxlib
import numpy as np
from safetensors.numpy import load

try:
  folder, history = Path(sys.argv[1]), [int(x) for x in sys.argv[2].split(',')]
  manifest = json.loads((folder / 'export.json').read_text())
except (IndexError, OSError, ValueError) as error:
  sys.exit(f'error: {error}\n{__doc__}')
is_late = str(date.today()) > manifest['guaranteed_until']
if is_late and jaxlib.__version__ != manifest['jaxlib']:
  print(f'warning: use jaxlib {manifest["jaxlib"]}', file=sys.stderr)
platform = jax.default_backend().replace('gpu', 'cuda')
programs = [x for x in manifest['programs'] if x['platform'] == platform]
if not programs:
  sys.exit(f'error: the export has no programs for {platform}')
history = history[-max(x['history'] for x in programs) :]  # The latest items.
fitting = [x for x in programs if x['history'] >= len(history)]
program = min(fitting, key=lambda x: (x['batch'], x['history'], x['k']))
content = {}
for name in ('arrays.safetensors', program['file']):
  content[name] = (folder / name).read_bytes()
  if hashlib.sha256(content[name]).hexdigest() != manifest['sha256'][name]:
    sys.exit(f'error: {folder / name} is damaged: copy the export again')
arrays = load(content['arrays.safetensors'])
if not all(0 <= x < arrays['catalog/arrays/num_rows'] for x in history):
  sys.exit('error: a row is not in the catalog')
rows = np.full((program['batch'], program['history']), -1, np.int32)
rows[0, : len(history)] = history  # Each row of the batch is one request.
search = jax.jit(export.deserialize(bytearray(content[program['file']])).call)
leaves = [arrays[x['name']] for x in manifest['arguments']]
items, scores, _ = jax.device_get(search(rows, *leaves))
best = zip(items[0].tolist(), scores[0].tolist(), strict=True)
print(*(f'{item} {score}' for item, score in best if item >= 0), sep='\n')
