"""Every mutant can be applied to the code, and its tests exist."""

import ast
import functools

import pytest

from tests.mutants.run import ROOT, all_mutants, changed_text

MUTANTS = all_mutants()


@functools.cache
def parsed(file):
  return ast.parse((ROOT / file).read_text(encoding='utf-8'))


@functools.cache
def functions(file):
  nodes = ast.walk(parsed(file))
  return {x.name for x in nodes if isinstance(x, ast.FunctionDef)}


@pytest.mark.parametrize('mutant', MUTANTS, ids=lambda x: x.what)
def test_a_mutant_can_be_applied(mutant):
  changed = changed_text(mutant, ROOT)
  if mutant.file.endswith('.py'):
    # The change affects code, and not only comments or layout.
    assert ast.dump(ast.parse(changed)) != ast.dump(parsed(mutant.file))
  else:
    assert changed != (ROOT / mutant.file).read_text(encoding='utf-8')
  assert mutant.tests
  for test in mutant.tests.split():
    file, *names = test.split('::')
    assert (ROOT / file).exists(), test
    if names:
      assert names[-1].partition('[')[0] in functions(file), test


def test_all_mutants_are_different():
  assert len(MUTANTS) > 40
  assert len({x.what for x in MUTANTS}) == len(MUTANTS)
  assert len({(x.file, x.old, x.new) for x in MUTANTS}) == len(MUTANTS)
