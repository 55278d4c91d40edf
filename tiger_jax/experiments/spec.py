"""What an experiment consists of, as a file of `configs/paper` writes it.

It makes a spec: a config that all runs have, what each shop changes in it, what
each run does, and what a shop changes in a run.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import ml_collections

from tiger_jax.config import Config, config_dict
from tiger_jax.config.config_dict import SHOWN
from tiger_jax.errors import UsageError

# The type of each field of a spec, and of the entries in it.
_FIELDS = (
  ('experiment', str, str, 'text'),
  ('base', dict, object, 'a section'),
  ('datasets', dict, dict, 'a section of sections'),
  ('runs', dict, dict, 'a section of sections'),
  ('measured', tuple, str, 'a tuple of names'),
  ('order', tuple, str, 'a tuple of names'),
  ('table', tuple, str, 'a tuple of names'),
  ('columns', tuple, str, 'a tuple of names'),
)


class Run(NamedTuple):
  """One run of an experiment, by the names of its shop and of its own."""

  dataset: str
  name: str
  config: Config


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What is run, and what is shown.

  Attributes:
    name: The name of the file in `configs/paper` and of the variant.
    command: What repeats it.
    columns: Metrics of the test to show; `()` for the paper's four.
    table: Names of all runs there are, in the order of the table.
    runs: Those to make.
    shops: The config of each shop, to share its items.
  """

  name: str
  command: str
  columns: tuple[str, ...]
  table: tuple[str, ...]
  runs: tuple[Run, ...]
  shops: dict[str, Config]


def parse(spec: ml_collections.ConfigDict, command: str) -> Experiment:
  """Checks a spec, overrides applied, and every config that it makes.

  Raises:
    UsageError: A run, a shop or a field is unknown, or a value is wrong.
  """
  values = spec.to_dict()
  for field, type_, entry, called in _FIELDS:
    value = values.get(field)
    entries = value.values() if isinstance(value, dict) else value or ()
    if not isinstance(value, type_) or not all(
      isinstance(x, entry) for x in entries
    ):
      raise UsageError(
        f'config.{field} is {SHOWN.repr(value)}: it must be {called}, as '
        'configs/paper/specs.py makes it'
      )
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
  of_shops = {
    shop: changes.pop('runs', {})
    for shop, changes in values['datasets'].items()
  }
  for shop, changes in values['datasets'].items():
    shops[shop] = _config(f'base, {shop}', values['base'], changes)
  for shop in values['measured']:
    for name in values['order']:
      changes = values['datasets'][shop], values['runs'][name]
      own = of_shops[shop].get(name, {})
      config = _config(f'{shop}, {name}', values['base'], *changes, own)
      runs.append(Run(shop, name, config))
  return Experiment(
    values['experiment'],
    command,
    tuple(values['columns']),
    tuple(values['table']),
    tuple(runs),
    shops,
  )


def _config(where: str, *changes: dict[str, Any]) -> Config:
  try:
    return config_dict.from_json(functools.reduce(_merge, changes))
  except UsageError as error:
    raise UsageError(f'{where}: {error}') from error


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
  """Returns `values` with what `changes` has, section by section."""
  merged = dict(values)
  for name, value in changes.items():
    both = isinstance(value, dict) and isinstance(merged.get(name), dict)
    merged[name] = _merge(merged[name], value) if both else value
  return merged
