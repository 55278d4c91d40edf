"""Records and parses the config of a bundle, which may be untrusted."""

import dataclasses
import os
import re
from typing import Any

from tiger_jax.config import Config
from tiger_jax.config.config_dict import holds_path
from tiger_jax.config.recorded import parse_recorded
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import registry

# A Hub model with an optional revision, such as `name/model@revision`.
_TEXT_MODEL = re.compile(
  r'[a-z\d][\w.-]{0,95}/[a-z\d][\w.-]{0,95}(@[a-z\d][\w./-]{0,95})?',
  re.ASCII | re.IGNORECASE,
)
# Limits on settings whose cost is not bounded by the arrays of a bundle.
_MAX_HISTORY, _MAX_BUCKETS, _MAX_BEAMS = 4096, 64, 4096


def recorded(config: Config) -> dict[str, Any]:
  """Returns the config that a bundle records: that of the run without paths.

  Raises:
    UsageError: A setting exceeds the limit for bundles.
  """
  try:
    _require_limits(config)
  except ValueError as error:
    raise UsageError(f'a bundle cannot hold this model: {error}') from error
  return _public(dataclasses.asdict(config))


def parse(values: dict[str, Any]) -> Config:
  """Parses the config of a bundle.

  Raises:
    ValueError: A field holds a path or a URL, or exceeds the limit for bundles.
    UsageError: A field is unknown or wrong.
  """
  config = parse_recorded(values)
  if dataclasses.asdict(config) != _public(dataclasses.asdict(config)):
    raise ValueError('the config has a path or a URL')
  _require_limits(config)
  if not registry.entry(config.model).is_generative:
    raise ValueError(f'{config.model.name} does not generate Semantic IDs')
  return config


def _public(values: dict[str, Any], section: str = '') -> dict[str, Any]:
  """Returns a config without the paths of the machine that trained it."""
  public = {}
  for name, value in values.items():
    field = f'{section}.{name}'.lstrip('.')
    if isinstance(value, dict):
      public[name] = _public(value, field)
    else:
      is_private = holds_path(field, value) or (
        field == 'embedding.model' and value and not _is_text_model(value)
      )
      public[name] = type(value)() if is_private else value
  return public


def _is_text_model(name: str) -> bool:
  """Returns whether the name is a Hub model and not a local folder."""
  folder = name.partition('@')[0]
  return bool(_TEXT_MODEL.fullmatch(name)) and not os.path.exists(folder)


def _require_limits(config: Config) -> None:
  """Raises ValueError if a setting exceeds the limit for bundles."""
  for name, value, most in (
    ('model.max_history', config.model.max_history, _MAX_HISTORY),
    ('the length of train.length_buckets',
     len(config.train.length_buckets), _MAX_BUCKETS),
    ('evaluation.num_beams', config.evaluation.num_beams, _MAX_BEAMS),
  ):  # fmt: skip
    if value > most:
      raise ValueError(f'{name} is {value}, but a bundle allows at most {most}')
