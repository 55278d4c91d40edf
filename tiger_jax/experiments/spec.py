"""Parses the spec of an experiment, which is defined in `configs/paper`.

A spec has a base config, the changes for each shop (dataset), the changes for
each run, and further changes for single runs on a given shop.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import ml_collections

from tiger_jax.config import Config, config_dict
from tiger_jax.config.config_dict import SHOWN
from tiger_jax.errors import UsageError

_SECTIONS = (dict, dict, 'a section of sections')
# The type of each field of a spec, and of the entries in it.
_FIELDS = (
  ('experiment', str, str, 'text'),
  ('base', dict, object, 'a section'),
  ('datasets', *_SECTIONS),
  ('runs', *_SECTIONS),
  ('measured', tuple, str, 'a tuple of names'),
  ('order', tuple, str, 'a tuple of names'),
  ('table', tuple, str, 'a tuple of names'),
  ('columns', tuple, str, 'a tuple of names'),
)


class Run(NamedTuple):
  """One run of an experiment: its shop, its name and its config."""

  dataset: str
  name: str
  config: Config


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The runs and the table of an experiment.

  Attributes:
    name: The name of the file in `configs/paper`, followed by the name of the
      variant if there is one.
    command: The command that repeats the experiment.
    columns: The test metrics in the table; `()` for the paper's four metrics.
    table: The names of all runs, in the order of the table.
    runs: The selected runs.
    shops: The config of each shop, before any run changes it. If a run shares
      its Semantic IDs with other shops, the items of those shops are embedded
      with these configs.
  """

  name: str
  command: str
  columns: tuple[str, ...]
  table: tuple[str, ...]
  runs: tuple[Run, ...]
  shops: dict[str, Config]


def parse(spec: ml_collections.ConfigDict, command: str) -> Experiment:
  """Checks a spec and all configs that result from it.

  The overrides of the command line are already applied to the spec.

  Raises:
    UsageError: A run, a shop or a field is unknown, or a value is invalid.
  """
  values = spec.to_dict()
  for field, type_, entry_type, description in _FIELDS:
    _check_type(field, values.get(field), type_, entry_type, description)
  for shop, changes in values['datasets'].items():
    _check_type(f'datasets.{shop}.runs', changes.get('runs', {}), *_SECTIONS)
  for field, known in (
    ('measured', 'datasets'), ('order', 'runs'), ('order', 'table'),
  ):  # fmt: skip
    for name in values[field]:
      if name not in values[known]:
        raise UsageError(
          f'config.{field} names {name!r}: choose from '
          f'{", ".join(map(repr, values[known])) or f"config.{known}"}'
        )
  runs, shops = [], {}
  run_changes = {
    shop: changes.pop('runs', {})
    for shop, changes in values['datasets'].items()
  }
  for shop, changes in values['datasets'].items():
    shops[shop] = _config(f'base, {shop}', values['base'], changes)
  for shop in values['measured']:
    for name in values['order']:
      config = _config(
        f'{shop}, {name}',
        values['base'],
        values['datasets'][shop],
        values['runs'][name],
        run_changes[shop].get(name, {}),
      )
      runs.append(Run(shop, name, config))
  return Experiment(
    values['experiment'],
    command,
    tuple(values['columns']),
    tuple(values['table']),
    tuple(runs),
    shops,
  )


def _check_type(
  field: str, value: Any, type_: type, entry_type: type, description: str
) -> None:
  entries = value.values() if isinstance(value, dict) else value or ()
  if not isinstance(value, type_) or not all(
    isinstance(x, entry_type) for x in entries
  ):
    raise UsageError(
      f'config.{field} is {SHOWN.repr(value)}: it must be {description}, as '
      'in configs/paper/specs.py'
    )


def _config(where: str, *changes: dict[str, Any]) -> Config:
  try:
    return config_dict.from_json(functools.reduce(_merge, changes))
  except UsageError as error:
    raise UsageError(f'{where}: {error}') from error


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
  """Returns `values` with the changes; sections are merged recursively."""
  merged = dict(values)
  for name, value in changes.items():
    is_section = isinstance(value, dict) and isinstance(merged.get(name), dict)
    merged[name] = _merge(merged[name], value) if is_section else value
  return merged
