"""Writes the model card of a bundle: its README.md."""

import re
from typing import Any

from tiger_jax.data.item_text import plain
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import registry
from tiger_jax.serving.arguments import shown

_LICENSE = re.compile(r'[A-Za-z0-9][A-Za-z0-9.+-]{0,60}')


def write(
  config: dict[str, Any],
  num_items: int,
  example: str,
  license_name: str | None,
) -> str:
  """Returns the model card as Markdown, with the metadata of the Hub.

  Args:
    config: The content of `config.json`.
    num_items: The number of items that can be recommended.
    example: The id of an item.
    license_name: The license of the parameters and the item data, as a name
      that the Hub knows; None if the user chose none.

  Raises:
    UsageError: The license is not a short name.
  """
  if license_name is not None and not _LICENSE.fullmatch(license_name):
    raise UsageError(
      f'license is {shown(license_name)}: pass a short name such as apache-2.0'
    )
  results = config['results']
  title = registry.title(config['config']['model']['name'])
  name = _text(config['name'])
  sizes = config['semantic_ids']['level_sizes']
  parts = [
    _metadata(license_name),
    f'# {title} for {name}\n',
    'This model recommends the next item, given a history of items. It '
    'generates the Semantic ID of the item one code at a time, as in '
    '[TIGER](https://arxiv.org/abs/2305.05065).\n',
    '## Use\n',
    '```python\nimport tiger_jax\n\n'
    "shop = tiger_jax.Recommender.from_bundle('PATH_OF_THIS_FOLDER')\n"
    f'shop.recommend([{plain(example)!r}], k=10)\n```\n',
    '## Model\n',
    f'- version: `{config["model_version"]}`\n'
    f'- items that can be recommended: {num_items:,}\n'
    f'- number of values of each code: {", ".join(map(str, sizes))}\n'
    '- maximum number of history items that the model reads: '
    f'{config["config"]["model"]["max_history"]}\n',
    '## Data\n',
    _data(name, results),
    '## Metrics\n',
    _metrics(results.get('metrics', {})),
    '## License\n',
    _license(license_name),
  ]
  return '\n'.join(parts)


def _metadata(license_name: str | None) -> str:
  lines = ['---', 'library_name: tiger_jax']
  if license_name is not None:
    lines.append(f'license: {license_name}')
  lines += ['tags:', '- recommender-systems', '- generative-retrieval',
            '- semantic-ids', '---', '']  # fmt: skip
  return '\n'.join(lines)


def _data(name: str, results: dict[str, Any]) -> str:
  counts = results.get('dataset', {})
  lines = [f'The model was trained on the dataset {name}.']
  if counts:
    lines.append(
      f'The data have {counts["users"]:,} users, {counts["items"]:,} items and '
      f'{counts["interactions"]:,} events.'
    )
  if encoder := results.get('embedding'):
    lines.append(
      f'The item vectors have {encoder["dim"]} dimensions. They come from '
      f'{_text(encoder["encoder"])}.'
    )
  lines.append('This folder contains no histories and no user ids.\n')
  return '\n'.join(lines)


def _metrics(metrics: dict[str, Any]) -> str:
  if not metrics:
    return 'The run was not evaluated.\n'
  names = list(metrics['test'])
  columns = [x for x in ('validation', 'test') if x in metrics]
  rows = [
    f'| metric | {" | ".join(columns)} |',
    f'|---|{"---|" * len(columns)}',
    *(
      f'| {name} | {" | ".join(f"{metrics[x][name]:.4f}" for x in columns)} |'
      for name in names
    ),
  ]
  about = (
    "The last item of each user's history is the test item, and the item "
    'before it is the validation item. All items of the catalog are ranked.\n'
  )
  return '\n'.join([about, *rows, ''])


def _license(license_name: str | None) -> str:
  if license_name is None:
    return (
      'The author of this model has chosen no license. The license of the data '
      'may also limit the use of the model.\n'
    )
  return (
    f'{license_name}. The license of the data may also limit the use of the '
    'model.\n'
  )


def _text(value: str) -> str:
  """Escapes the characters that have a meaning in Markdown."""
  return re.sub(r'([\\`*_\[\]<>|~])', r'\\\1', plain(value))
