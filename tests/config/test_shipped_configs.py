"""The configs that are shipped, and what their docstrings say."""

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
  """Every `configs/x.py` or `configs/x.py:variant` that a docstring names.

  A docstring that says "Beauty's variants (`:cpu`)" names its own.
  """
  found = set()
  for path in CONFIGS:
    found.add((path.name, ''))
    text = ast.get_docstring(ast.parse(path.read_text()))
    found |= set(re.findall(r'configs/(\w+\.py):(\w+)', text))
    found |= {(path.name, name) for name in re.findall(r'`:(\w+)`', text)}
  return sorted(found)


def test_there_are_documented_variants():
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
  again = from_json(json.loads(json.dumps(dataclasses.asdict(config))))
  assert again == config


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.name)
def test_docstring_gives_the_command(path):
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert f'python -m tiger_jax.main --config=configs/{path.name}' in text


def test_unknown_variant():
  with pytest.raises(UsageError, match="'cpux'.*cpu"):
    load(ROOT / 'configs' / 'beauty.py').get_config('cpux')
