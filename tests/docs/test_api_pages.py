"""The pages of the API reference, and the docstrings on them."""

import pytest

from docs import api_pages
from tests.small import ROOT
import tiger_jax

PAGES = sorted((ROOT / 'docs/api').glob('*.md'))
TEXT = {path.stem: path.read_text() for path in PAGES}


def test_every_public_name_is_documented():
  for name in tiger_jax.__all__:
    assert f':: tiger_jax.{name}\n' in TEXT['public']


def test_every_folder_and_module_is_documented():
  marks = ' '.join(api_pages._MARK.findall('\n'.join(TEXT.values())))
  listed = set(marks.replace(',', ' ').split())
  package = ROOT / 'tiger_jax'
  folders = {f'tiger_jax.{x.parent.name}' for x in package.glob('*/*.py')}
  modules = {f'tiger_jax.{x.stem}' for x in package.glob('[!_]*.py')}
  assert folders | modules == listed
  for name in TEXT:
    assert name == 'index' or f'\n{name}\n' in TEXT['index']


def test_module_names_lists_the_modules_of_a_folder():
  names = api_pages.module_names('tiger_jax.semantic_ids')
  assert 'tiger_jax.semantic_ids.quantizers.rq_vae' in names
  # This package contains only a docstring.
  assert 'tiger_jax.semantic_ids' not in names
  assert api_pages.module_names('tiger_jax.errors') == ['tiger_jax.errors']


def test_a_mark_becomes_sections():
  text = api_pages.expand('# A\n\n<!-- modules: tiger_jax.serving -->\n')
  assert '## tiger_jax.serving.recommender\n' in text
  assert '.. automodule:: tiger_jax.serving.recommender\n' in text
  assert ':exclude-members: Recommender\n' in text
  assert 'modules:' not in text.replace('automodule::', '')


@pytest.mark.parametrize(
  ('before', 'after'),
  [
    (['Plain.'], ['Plain.']),
    (['A list:', '', '  one  two'], ['A list::', '', '  one  two']),
    (['A list::', '', '  one'], ['A list::', '', '  one']),
    (['Returns:', '  One.'], ['Returns:', '  One.']),
    (['Args:', '  x: One:', '', 'Two.'], ['Args:', '  x: One:', '', 'Two.']),
    (['`usage`: one', '  two'], ['- `usage`: one', '  two']),
  ],
)
def test_docstrings_become_restructured_text(before, after):
  assert api_pages.restructured(before) == after


def test_signatures_hide_what_flax_adds():
  signature = (
    '(width: int, table: dict = <factory>, parent: flax.linen.module.Module | '
    'None = <flax.linen.module._Sentinel object>, name: str | None = None)'
  )
  shortened = api_pages._signature(None, '', '', None, None, signature, None)
  assert shortened == ('(width: int, table: dict = ...)', None)
