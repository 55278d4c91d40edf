"""Tests that the numbers in README.md and docs/ equal their sources."""

import json
from pathlib import Path
import shutil
from typing import Any

import pytest

from docs.measured import BLOCK, Figures
from tests.docs.blocks import blocks
from tiger_jax.errors import DataError

ROOT = Path(__file__).parents[2]
# The blocks that need results/quickstart/results.json.
_QUICKSTART = {'quickstart', 'quickstart_short'}


@pytest.fixture(scope='module')
def figures() -> Figures:
  return Figures(ROOT)


@pytest.fixture
def small(tmp_path) -> Path:
  """Returns a repository with one page, one record and one figures.toml."""
  (tmp_path / 'docs').mkdir()
  (tmp_path / 'results').mkdir()
  record = {
    'metrics': {'test': {'recall@10': 0.06063, 'ndcg@10': 0.03}},
    'collision_rate': 0.2385,
    'seconds': {'train': 5491.3},
  }
  (tmp_path / 'results' / 'run.json').write_text(json.dumps(record))
  (tmp_path / 'docs' / 'figures.toml').write_text("""
    [blocks.table]
    title = 'test'
    columns = { 'recall@10' = 'recall@10', 'items that collide' = 'collide' }
    rows = [['TIGER', 'run']]

    [blocks.excerpt]
    title = 'beams'
    file = 'OTHER.md'
    section = 'beams'
    columns = { 'time' = 'ms' }
    rows = [['20 beams', '20']]

    [[figures]]
    page = 'README.md'
    text = 'It trains for {} s'
    values = ['run seconds.train ,.0f']

    [[figures]]
    page = 'README.md'
    text = '0.64 of the time'
    file = 'OTHER.md'
    quote = 'in 0.64 of the time'
  """)
  (tmp_path / 'OTHER.md').write_text(
    'It came in 0.64 of the\ntime.\n\n## beams\n\n'
    '| beams | ms |\n|---|---:|\n| 10 | 7.5 |\n| 20 | 9.5 |\n'
  )
  (tmp_path / 'README.md').write_text(
    'It trains for 5,491 s, in 0.64 of\nthe time, with `weight_decay=0.035`.\n'
    '\n<!-- figures: table -->\n'
    '| test | recall@10 | items that collide |\n|---|---:|---:|\n'
    '| TIGER | .0606 | 23.8% |\n<!-- end -->\n'
    '\n<!-- figures: excerpt -->\n'
    '| beams | time |\n|---|---:|\n| 20 beams | 9.5 |\n<!-- end -->\n'
    '```bash\ntiger --rate=0.035\n```\n'
  )
  return tmp_path


def _problems(root: Path) -> list[str]:
  figures = Figures(root)
  problems = []
  for page, text in figures.pages().items():
    if figures.with_blocks(text) != text:
      problems.append(f'{page}: a table is stale')
    problems += figures.problems(page, text)
  return problems


def _blocks(figures: Figures) -> list[tuple[str, str]]:
  """Returns the name and the text of each block of the pages."""
  return [
    (match['name'], match['text'].strip())
    for page in figures.pages().values()
    for match in BLOCK.finditer(page)
  ]


def _flat(values: dict[str, Any]) -> set[tuple[str, str]]:
  """Returns the path and the value of each entry of nested dicts."""
  flat = set()
  for key, value in values.items():
    entries = _flat(value) if isinstance(value, dict) else {('', repr(value))}
    flat |= {(f'{key}.{path}', text) for path, text in entries}
  return flat


def _replace(path: Path, old: str, new: str) -> None:
  text = path.read_text()
  assert text.count(old) == 1
  path.write_text(text.replace(old, new))


def test_the_readme_is_short():
  assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


@pytest.mark.parametrize(
  'page', ['README.md', *(f'docs/{x.name}' for x in ROOT.glob('docs/*.md'))]
)
def test_each_number_on_a_page_has_a_source(figures, page):
  assert list(figures.problems(page, (ROOT / page).read_text())) == []


def test_each_table_equals_its_source(figures):
  shown = _blocks(figures)
  assert {name for name, _ in shown} == set(figures.spec['blocks'])
  for name, text in shown:
    if name not in _QUICKSTART:
      assert text == figures.block(name), 'run docs.measured'


def test_the_quickstart_shows_the_measured_output(figures):
  for name, text in _blocks(figures):
    if name in _QUICKSTART:
      assert text == figures.block(name), 'run docs.measured'


def test_the_example_of_results_json_is_a_part_of_the_measured_file():
  (example,) = (
    json.loads(block.text)
    for block in blocks(ROOT / 'docs' / 'evaluation.md')
    if block.language == 'json'
  )
  measured = json.loads((ROOT / 'results/quickstart/results.json').read_text())
  assert _flat(example) <= _flat(measured)


def test_each_listed_number_is_on_an_existing_page(figures):
  pages = figures.pages()
  assert {figure['page'] for figure in figures.spec['figures']} <= set(pages)


def test_a_page_that_equals_its_sources_has_no_problems(small):
  assert _problems(small) == []


@pytest.mark.parametrize(
  ('old', 'new', 'problem'),
  [
    ('.0606', '.0607', 'a table is stale'),
    ('23.8%', '23.9%', 'a table is stale'),
    ('20 beams | 9.5', '20 beams | 9.6', 'a table is stale'),
    ('5,491 s', '5,492 s', 'expected "It trains for 5,491 s"'),
    ('0.64', '0.65', 'expected "0.64 of the time"'),
    ('with `', 'with recall@10 .0606, `', '".0606" has no source'),
    ('with `', 'with 12% more, `', '"12%" has no source'),
    ('with `', '3.1 times, `', '"3.1 times" has no source'),
    ('```bash', '```text\n0.5127\n```\n```bash', '"0.5127" has no source'),
  ],
)  # fmt: skip
def test_a_wrong_or_unlisted_number_is_a_problem(small, old, new, problem):
  _replace(small / 'README.md', old, new)
  assert any(problem in x for x in _problems(small))


@pytest.mark.parametrize(
  ('old', 'new'),
  [('0.06063', '0.07063'), ('5491.3', '5500'), ('0.2385', '0.25')],
)
def test_a_changed_record_is_a_problem(small, old, new):
  _replace(small / 'results' / 'run.json', old, new)
  assert len(_problems(small)) >= 1


def test_a_changed_source_table_is_a_problem(small):
  _replace(small / 'OTHER.md', '| 20 | 9.5 |', '| 20 | 8.5 |')
  assert _problems(small) == ['README.md: a table is stale']


def test_a_quote_missing_from_its_source_is_an_error(small):
  _replace(small / 'OTHER.md', '0.64', '0.63')
  with pytest.raises(DataError, match='does not contain "in 0.64 of the time"'):
    _problems(small)


def test_a_quote_without_the_number_is_an_error(small):
  _replace(small / 'docs' / 'figures.toml', "text = '0.64 of", "text = '0.6 of")
  with pytest.raises(DataError, match='lacks the numbers'):
    _problems(small)


def test_a_missing_record_is_an_error(small):
  shutil.rmtree(small / 'results')
  with pytest.raises(FileNotFoundError):
    _problems(small)
