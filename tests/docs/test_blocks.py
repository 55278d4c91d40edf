"""Tests that every code block runs, or that a comment says why it does not."""

import pytest

from tests.docs.blocks import RUN, Block, blocks, pages, problems

# Pages whose commands use several processes or devices.
SLOW = ('devices',)
PAGES = [
  pytest.param(
    page,
    id=page.stem,
    marks=[pytest.mark.slow] if page.stem in SLOW else [],
  )
  for page in pages()
  if any(x.language in RUN and not x.reason for x in blocks(page))
]


@pytest.mark.parametrize('page', PAGES)
def test_the_blocks_of_a_page_run(page, runner):
  for block in blocks(page):
    if block.language in RUN and not block.reason:
      runner.run(block)


def test_every_block_names_its_language():
  assert not [line for page in pages() for line in problems(page)]


PAGE = """# Title

```bash
echo one
```

<!-- not run: it downloads
     data -->

```sh
curl two
```

- An item:

  ```python
  if True:
    three = 3
  ```

```text
$ four
```

```{note}
five
```
"""


def test_blocks_are_parsed(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(PAGE)
  assert [x[1:] for x in blocks(page)] == [
    ('bash', 'echo one\n', ''),
    ('sh', 'curl two\n', 'it downloads\n     data'),
    ('python', 'if True:\n  three = 3\n', ''),
    ('text', '$ four\n', ''),
  ]
  assert blocks(page)[2].place.endswith('page.md:17')
  assert not problems(page)


def test_the_slow_pages_exist():
  assert set(SLOW) <= {page.stem for page in pages()}


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('```\nls\n```\n', "the language is ''"),
    ('```console\n$ ls\n```\n', "the language is 'console'"),
    (
      '<!-- not run: x -->\n\nText.\n\n```bash\nls\n```\n',
      'no block follows',
    ),
    ('<!-- not run -->\n```bash\nls\n```\n', 'no block follows'),
    ('<!-- not run: x -->\n```text\nls\n```\n', 'is never run'),
  ],
)
def test_mistakes_in_blocks_are_reported(text, expected, tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(text)
  assert any(expected in line for line in problems(page))


@pytest.mark.parametrize(
  ('language', 'text', 'expected'),
  [
    ('bash', 'python -m tiger_jax.main --cofnig=x.py', 'did you mean --config'),
    ('bash', 'python -m tiger_jax.mian', 'No module named tiger_jax.mian'),
    ('bash', 'false\ntrue', 'exit code 1'),
    ('bash', 'echo $nothing', 'unbound'),
    ('bash', 'pip install .', 'mark this block as not run'),
    ('python', 'import tiger_jax\ntiger_jax.recommend()', 'AttributeError'),
    ('python', 'raise ValueError(3)', 'page:1'),
  ],
)
def test_a_block_with_an_error_fails(language, text, expected, runner):
  with pytest.raises(AssertionError) as caught:
    runner.run(Block('page:1', language, text + '\n', ''))
  assert expected in str(caught.value)


def test_blocks_of_python_share_names(runner):
  runner.run(Block('page:1', 'python', 'x = 1\n', ''))
  runner.run(Block('page:2', 'python', 'assert x == 1\n', ''))
