"""Tests of the script that runs an export without tiger_jax."""

import ast
import json
import runpy
import sys

import numpy as np
import pytest

from tests import typed
from tests.serving.conftest import NUM_ITEMS
from tests.serving.export.conftest import (
  HISTORIES,
  LEVEL_SIZES,
  answers,
  manifest_of,
)
from tests.small import ROOT

SCRIPT = ROOT / 'examples/run_export.py'


@pytest.mark.parametrize('kind', LEVEL_SIZES)
def test_the_script_needs_neither_tiger_jax_nor_flax(
  kind, shops, folders, tmp_path
):
  for name in ('tiger_jax', 'flax'):
    (tmp_path / f'{name}.py').write_text(f'raise ImportError({name!r})')
  history, env = HISTORIES[-1], {'PYTHONPATH': str(tmp_path)}
  argument = ','.join(map(str, history))
  done = typed.python(SCRIPT, folders[kind], argument, cwd=tmp_path, env=env)
  assert (done.code, done.err) == (0, '')
  printed = [line.split() for line in done.out.splitlines()]
  k = 20 if kind == 'plain' else 3
  [(rows, scores, _)] = answers(shops[kind], [history], k)
  assert [int(row) for row, _ in printed] == rows
  assert len(rows) == min(k, NUM_ITEMS)
  printed_scores = [float(score) for _, score in printed]
  np.testing.assert_allclose(printed_scores, scores, rtol=2e-6)
  # The poisoned modules would have been found.
  refused = typed.python('-c', 'import tiger_jax', cwd=tmp_path, env=env)
  assert 'ImportError' in refused.err


def test_the_script_is_short_and_imports_little():
  text = SCRIPT.read_text()
  assert len(text.splitlines()) <= 45
  names = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names |= {x.name for x in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module.partition('.')[0])
  others = names - set(sys.stdlib_module_names)
  assert others == {'jax', 'jaxlib', 'numpy', 'safetensors'}


def run_script(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['run_export.py', *map(str, arguments)])
  return runpy.run_path(str(SCRIPT))


def test_the_script_explains_wrong_arguments(folders, tmp_path, monkeypatch):
  for arguments, reason in (
    ((), 'error: list index out of range'),
    ((tmp_path / 'missing', '3'), 'error: .*No such file'),
    ((folders['plain'], '3,x'), "error: invalid literal for int.*'x'"),
  ):
    with pytest.raises(SystemExit, match=f'{reason}.*\nRecommends items with'):
      run_script(monkeypatch, *arguments)


def test_the_script_names_a_missing_platform(copy, monkeypatch):
  manifest = manifest_of(copy)
  others = [x for x in manifest['programs'] if x['platform'] != 'cpu']
  text = json.dumps(manifest | {'programs': others})
  (copy / 'export.json').write_text(text)
  with pytest.raises(SystemExit, match='has no programs for cpu'):
    run_script(monkeypatch, copy, '3')


@pytest.mark.parametrize('name', ['arrays.safetensors', 'program'])
def test_the_script_refuses_damage(name, copy, monkeypatch):
  if name == 'program':
    name = 'programs/cpu-b1-t2-k20.bin'
  data = bytearray((copy / name).read_bytes())
  data[len(data) // 2] ^= 1
  (copy / name).write_bytes(data)
  with pytest.raises(SystemExit, match=f'error: .*{name} is damaged: copy'):
    run_script(monkeypatch, copy, '3,0')


@pytest.mark.parametrize('history', [f'3,{NUM_ITEMS}', '-1'])
def test_the_script_refuses_unknown_rows(history, folders, monkeypatch):
  with pytest.raises(SystemExit, match='error: a row is not in the catalog'):
    run_script(monkeypatch, folders['plain'], history)


@pytest.mark.parametrize(
  ('changes', 'is_late'),
  [
    ({}, False),
    ({'guaranteed_until': '2026-01-01'}, False),
    ({'guaranteed_until': '2026-01-01', 'jaxlib': '0.10.1'}, True),
    ({'guaranteed_until': '2999-01-01', 'jaxlib': '0.10.1'}, False),
  ],
)
def test_the_script_warns_about_old_programs(
  changes, is_late, copy, monkeypatch, capsys
):
  text = json.dumps(manifest_of(copy) | changes)
  (copy / 'export.json').write_text(text)
  with pytest.raises(SystemExit):  # After the check of the date.
    run_script(monkeypatch, copy, '-1')
  expected = 'warning: use jaxlib 0.10.1\n' if is_late else ''
  assert capsys.readouterr().err == expected
