"""Checks the figures (measured numbers) in README.md and docs/.

python -m docs.measured

rewrites the tables of the pages from `results/`. It also lists the figures
outside of the tables that are stale or have no source. `docs/figures.toml`
lists all tables and figures with their sources.
"""

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import re
import sys
import tomllib
from typing import Any

from tiger_jax.errors import DataError, TigerError
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.report.paper import PAPER
from tiger_jax.report.records import masked_metrics
from tiger_jax.report.terminal import show_results

# A table or an output, and the markers around it.
BLOCK = re.compile(
  r'(<!-- figures: (?P<name>\w+) -->\n)(?P<text>.*?)(<!-- end -->)', re.DOTALL
)
_FENCE = re.compile(r'^```(\w*)\n.*?^```$', re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r'`[^`]+`')
_COMMENT = re.compile(r'<!--.*?-->', re.DOTALL)
_FIGURE = re.compile(
  r'(?<![\w.@/])0?\.\d{2,}(?![\w.])'  # .0606
  r'|(?<![\w.])\d+(\.\d+)?\s?%'  # 86%
  r'|(?<![\w.,])[\d,]+(\.\d+)?\s(s|ms|seconds|minutes|times|MiB|GiB)\b'
)
_NUMBER = re.compile(r'\d[\d,.]*\d|\d|\.\d+')


class Figures:
  """The measured numbers in the documentation.

  Attributes:
    root: The folder of the repository.
    spec: The content of `docs/figures.toml`.
  """

  def __init__(self, root: Path):
    """Reads the list of figures."""
    self.root = root
    path = root / 'docs' / 'figures.toml'
    self.spec = tomllib.loads(path.read_text(encoding='utf-8'))

  def pages(self) -> dict[str, str]:
    """Returns the text of each page, by its path in the repository."""
    paths = [self.root / 'README.md', *sorted(self.root.glob('docs/*.md'))]
    return {
      str(path.relative_to(self.root)): path.read_text(encoding='utf-8')
      for path in paths
    }

  def with_blocks(self, text: str) -> str:
    """Returns a page with new tables between its markers."""

    def replace(match: re.Match) -> str:
      return f'{match[1]}{self.block(match["name"])}\n{match[4]}'

    return BLOCK.sub(replace, text)

  def block(self, name: str) -> str:
    """Returns the table, or the output, between two markers."""
    if name not in self.spec['blocks']:
      raise DataError(f'docs/figures.toml has no block {name}: add it')
    block = self.spec['blocks'][name]
    if 'output' in block:
      lines = show_results(self._json(block['output'])).splitlines()
      kept = [x for x in lines if x.startswith(tuple(block['lines']))]
      return '\n'.join(['```text', *kept, '```'])
    columns = block['columns']
    if 'section' in block:
      rows = self._excerpt(block['file'], block['section'])
    else:
      rows = {source: self._values(source) for _, source in block['rows']}
    lines = [
      _row([block.get('title', ''), *columns]),
      f'|---|{"---:|" * len(columns)}',
    ]
    for label, source in block['rows']:
      cells = (rows[source][column] for column in columns.values())
      lines.append(_row([label, *cells]))
    return '\n'.join(lines)

  def problems(self, page: str, text: str) -> Iterator[str]:
    """Yields a sentence for each figure of a page that is stale or unlisted."""
    rest = ' '.join(_FENCE.sub(_output, BLOCK.sub('', text)).split())
    rest = _COMMENT.sub('', rest)
    for figure in self.spec['figures']:
      if figure['page'] != page:
        continue
      expected = self.expected_text(figure)
      if expected not in rest:
        yield f'{page}: expected "{expected}"'
      rest = rest.replace(expected, '')
    # Code spans hold settings, not results.
    rest = _SPAN.sub('', rest)
    for match in _FIGURE.finditer(rest):
      around = rest[max(0, match.start() - 40) : match.end() + 20]
      yield f'{page}: "{match[0]}" has no source, in "...{around}..."'

  def expected_text(self, figure: dict[str, Any]) -> str:
    """Returns the text that a page must have.

    Raises:
      DataError: A source does not have the figure.
    """
    if 'values' in figure:
      values = [self._figure(value) for value in figure['values']]
      return figure['text'].format(*values)
    if 'published' in figure:
      return figure['text']
    source = (self.root / figure['file']).read_text(encoding='utf-8')
    quote = ' '.join(figure['quote'].split())
    if quote not in ' '.join(source.split()):
      raise DataError(
        f'{figure["file"]} does not contain "{quote}": correct '
        'docs/figures.toml'
      )
    missing = set(_NUMBER.findall(figure['text'])) - set(_NUMBER.findall(quote))
    if missing:
      raise DataError(
        f'"{quote}" lacks the numbers {sorted(missing)}: correct '
        'docs/figures.toml'
      )
    return figure['text']

  def _figure(self, value: str) -> str:
    """Returns a number as text, from `SOURCE PATH [FORMAT]`."""
    source, path, *form = value.split()
    if source.startswith(('paper/', 'published/')):
      return self._values(source)[path]
    node: Any = self._json(f'results/{source}.json')
    if path.split('.')[0] in node['metrics']:
      node = node['metrics']
    for key in path.split('.'):
      node = node[key]
    return format(node, form[0]) if form else _metric(node)

  def _values(self, source: str) -> dict[str, str]:
    """Returns the metrics of a row of a table, as text."""
    if source.startswith('paper/'):
      _, experiment, dataset, row = source.split('/', 3)
      values = dict(
        zip(RANKING, PAPER[experiment][dataset][row], strict=True)
      )  # fmt: skip
    elif source.startswith('published/'):
      values = self.spec['published'][source.removeprefix('published/')]
      values = {name: values[name] for name in RANKING}
    else:
      return self._of_record(*source.split())
    texts = {name: _metric(value) for name, value in values.items()}
    # These sources have no masked metrics.
    return texts | {f'masked {name}': '' for name in texts}

  def _of_record(self, name: str, split: str = 'test') -> dict[str, str]:
    """Returns the metrics of a record, as text."""
    record = self._json(f'results/{name}.json')
    metrics = record['metrics']
    masked = masked_metrics(record)
    values = {f'masked {name}': _metric(x) for name, x in masked.items()}
    values |= {name: _metric(x) for name, x in metrics[split].items()}
    if record['collision_rate'] is not None:
      values['collide'] = f'{record["collision_rate"]:.1%}'
    if 'share' in metrics[split]:
      values['share'] = f'{metrics[split]["share"]:.1%}'
    return values

  def _excerpt(self, file: str, section: str) -> dict[str, dict[str, str]]:
    """Returns the first table below a heading of a page, by its rows."""
    text = (self.root / file).read_text(encoding='utf-8')
    below = text.partition(f'# {section}\n')[2]
    table = re.search(r'(^\|.*\n)+', below, re.MULTILINE)
    if table is None:
      raise DataError(f'{file} has no table below the heading "{section}"')
    header, _, *rows = (
      [cell.strip() for cell in line.strip('|').split('|')]
      for line in table[0].splitlines()
    )
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}

  def _json(self, path: str) -> dict[str, Any]:
    return json.loads((self.root / path).read_text(encoding='utf-8'))


def _row(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _output(match: re.Match) -> str:
  """Returns a block of output, and nothing for a block of code."""
  return match[0].replace('```', '') if match[1] == 'text' else ''


def _metric(value: float) -> str:
  return f'{value:.4f}'.removeprefix('0')


def main() -> None:
  """Rewrites the tables, and exits with 3 if `Figures` finds a problem."""
  try:
    figures = Figures(Path.cwd())
    problems = []
    for page, text in figures.pages().items():
      new = figures.with_blocks(text)
      if new != text:
        (figures.root / page).write_text(new, encoding='utf-8')
        print(f'rewrote the tables of {page}')
      problems += figures.problems(page, new)
  except (OSError, KeyError, TigerError) as error:
    sys.exit(f'error: {error!r}')
  for problem in problems:
    print(problem)
  sys.exit(DataError.exit_code if problems else 0)


if __name__ == '__main__':
  main()
