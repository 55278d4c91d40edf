"""Tests a run on the user's own files, on all devices."""

import numpy as np
import pytest

from tests import small
from tests.end_to_end.program import SETTINGS, program, read


def test_a_run_on_own_files_recommends_their_items(tmp_path, capfd):
  folder = tmp_path / 'my_shop'
  folder.mkdir()
  rng = np.random.default_rng(0)
  items = [f'{i:05d}' for i in range(40)]
  rows = ['user,item,timestamp']
  rows += [
    f'user {user},{items[item]},2024-01-{day + 1:02d}'
    for user in range(30)
    for day, item in enumerate(rng.permutation(40)[:6])
  ]
  rows.append('once,00000,2024-01-01')
  (folder / 'interactions.csv').write_text('\n'.join(rows))
  colors, things = ('red', 'blue', 'green', 'gray'), ('mug', 'hat', 'pen')
  (folder / 'items.csv').write_text(
    'item,title,brand\n'
    + '\n'.join(
      f'{item},"A {colors[i % 4]} {things[i % 3]}, {i}",Brand {i % 5}'
      for i, item in enumerate(items)
    )
  )
  flags = (
    f'--config={small.ROOT}/configs/own_data.py',
    f'--config.dataset.source_dir={folder}',
    *SETTINGS,
    '--config.train.steps=4',
    '--config.train.optimizer.warmup_steps=1',
  )
  workdir = tmp_path / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(small.ROOT))
    assert program(workdir, *flags) == 0
  results = read(workdir / 'results.json')
  counts = results['dataset'].pop('counts')
  assert results['dataset'] == {
    'name': 'files', 'users': 30, 'items': 40, 'interactions': 180,
  }  # fmt: skip
  assert counts['events'] == {
    'read': 181, 'used': 180,
    'dropped': {'of users with fewer than 3 events': 1},
  }  # fmt: skip
  assert read(workdir / 'data' / 'stage.json')['about']['counts'] == counts
  assert 'best_possible' not in results
  last = capfd.readouterr().out.splitlines()[-1]
  assert last.endswith(f'tiger_jax.main --mode=serve --workdir={workdir}')
  assert program(workdir, '--mode=recommend', '--history=00003,00007') == 0
  lines = capfd.readouterr().out.splitlines()
  assert len(lines) == 10
  for line in lines:
    item, title = line.split(maxsplit=3)[2:]
    assert item in items
    assert title.startswith('A ')
    assert title.endswith(f', {int(item)}')
