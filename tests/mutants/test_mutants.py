"""Every mutant fits the code and names tests that exist."""

import ast

import pytest

from tests.mutants.run import ROOT, all_mutants, changed_text

MUTANTS = all_mutants()


@pytest.mark.parametrize('mutant', MUTANTS, ids=lambda x: x.what)
def test_a_mutant_fits(mutant):
  changed = changed_text(mutant, ROOT)
  whole = (ROOT / mutant.file).read_text(encoding='utf-8')
  # Not only another comment or layout.
  assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(whole))
  assert mutant.tests.split()
  for test in mutant.tests.split():
    path, *names = test.split('::')
    assert (ROOT / path).exists(), path
    if names:
      tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
      functions = {
        x.name for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)
      }
      assert names[-1].partition('[')[0] in functions, test


def test_no_two_mutants_are_the_same():
  assert len({x.what for x in MUTANTS}) == len(MUTANTS)
  assert len({(x.file, x.old, x.new) for x in MUTANTS}) == len(MUTANTS)
