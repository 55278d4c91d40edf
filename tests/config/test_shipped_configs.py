"""Tests of the shipped configs and their docstrings."""

import ast
import dataclasses
import importlib.util
import json
import re

import pytest

from tests.small import ROOT
from tiger_jax.config import Config
from tiger_jax.config.config_dict import from_json, parse
from tiger_jax.errors import UsageError

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))


def load(path):
  spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def documented():
  """Returns the files and the variants that the docstrings name.

  A docstring names a variant as `configs/x.py:variant`, or as `:variant` for
  its own file.
  """
  names = set()
  for path in CONFIGS:
    names.add((path.name, ''))
    text = ast.get_docstring(ast.parse(path.read_text()))
    names |= set(re.findall(r'configs/(\w+\.py):(\w+)', text))
    names |= {(path.name, name) for name in re.findall(r'`:(\w+)`', text)}
  return sorted(names)


def test_finds_documented_variants():
  assert ('beauty.py', 'cpu') in documented()
  assert ('sports.py', 'paper') in documented()


@pytest.mark.parametrize(('name', 'variant'), documented())
def test_shipped_configs_parse(name, variant):
  module = load(ROOT / 'configs' / name)
  arguments = [variant] if variant else []
  config = parse(module.get_config(*arguments))
  assert config != Config()
  if variant:
    assert config != parse(module.get_config())
  read = from_json(json.loads(json.dumps(dataclasses.asdict(config))))
  assert read == config


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.name)
def test_docstring_gives_the_command(path):
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert f'python -m tiger_jax.main --config=configs/{path.name}' in text


def test_refuses_an_unknown_variant():
  with pytest.raises(UsageError, match="'cpux'.*cpu"):
    load(ROOT / 'configs' / 'beauty.py').get_config('cpux')
