"""What the reliability tests share.

`make test` tries a few faults of each kind, `make reliability` all of them.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import shop
from tests.reliability.forks import Forks

_TALLY: Counter[str] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
  """Hands the counts of a worker of pytest-xdist on."""
  if hasattr(session.config, 'workeroutput'):
    session.config.workeroutput['faults'] = dict(_TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
  """Takes the counts of a worker."""
  _TALLY.update(getattr(node, 'workeroutput', {}).get('faults', {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
  """Tells how many faults there were, and how many the program bore."""
  if _TALLY:
    terminalreporter.section('faults')
  for name, count in sorted(_TALLY.items()):
    terminalreporter.write_line(f'{count:6} {name}')


@pytest.fixture(scope='session')
def tally() -> Counter[str]:
  """Counts faults that were made and borne."""
  return _TALLY


@pytest.fixture(scope='session')
def cache(pytestconfig: pytest.Config) -> Path:
  """Where compiled programs are kept, from one session to the next."""
  return pytestconfig.cache.mkdir('reliability')


@pytest.fixture(scope='session')
def forks(cache: Path) -> Iterator[Forks]:
  """Runs the program."""
  forks = Forks(cache)
  yield forks
  forks.close()


@pytest.fixture(scope='session')
def reference(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
  """A run that nothing went wrong in, its trace beside it. Do not change it."""
  workdir = tmp_path_factory.mktemp('reference') / 'run'
  done = forks.run(workdir, shop.FLAGS)
  assert done.code == 0, done.err
  workdir.with_name('trace').write_text('\n'.join(done.trace))
  return workdir
