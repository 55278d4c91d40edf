"""Tests that the files of the repository agree with each other."""

import re
import tomllib

import yaml

from tests.small import ROOT
import tiger_jax

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def load(name):
  return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_names_this_version():
  citation = load('CITATION.cff')
  preferred = citation['preferred-citation']
  for name in ('type', 'title', 'authors', 'version'):
    assert citation[name] == preferred[name]
  assert citation['version'] == tiger_jax.__version__
  assert citation['license'] == PROJECT['license']


def test_pre_commit_uses_the_linters_of_the_project():
  pinned = {x for x in PROJECT['optional-dependencies']['dev'] if '==' in x}
  hooks = [x for x in load('.pre-commit-config.yaml')['repos'][0]['hooks']]
  used = {y for x in hooks for y in x['additional_dependencies']}
  ruff = {x for x in used if x.startswith('ruff')}
  assert ruff and ruff <= pinned


def test_every_supported_python_has_a_ci_job_and_constraints():
  prefix = 'Programming Language :: Python :: '
  supported = [
    x.removeprefix(prefix)
    for x in PROJECT['classifiers']
    if re.fullmatch(rf'{prefix}3\.\d+', x)
  ]
  matrix = load('.github/workflows/ci.yml')['jobs']['check']['strategy']
  assert matrix['matrix']['python'] == supported
  for version in supported:
    name = f'py{version.replace(".", "")}.txt'
    assert (ROOT / 'constraints' / name).exists()


def test_help_lists_every_target_of_make():
  lines = (ROOT / 'Makefile').read_text().splitlines()
  phony = re.search(
    r'\.PHONY:((?:.*\\\n)*.*)', '\n'.join(lines)
  )[1].replace('\\', ' ').split()  # fmt: skip
  described = [
    x.partition(':')[0] for x in lines if re.match('[a-z-]+:.*## ', x)
  ]
  assert sorted(described) == sorted(phony)
