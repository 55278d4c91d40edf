"""Fixtures of the reliability tests.

`make test-runs` injects a few faults of each kind. `make reliability` injects
all faults.
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
  """Sends the counts of a pytest-xdist worker to the main process."""
  if hasattr(session.config, 'workeroutput'):
    session.config.workeroutput['faults'] = dict(_TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
  """Adds the counts of a worker to those of the main process."""
  _TALLY.update(getattr(node, 'workeroutput', {}).get('faults', {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
  """Prints the number of injected faults of each kind."""
  if _TALLY:
    terminalreporter.section('faults')
  for name, count in sorted(_TALLY.items()):
    terminalreporter.write_line(f'{count:6} {name}')


@pytest.fixture(scope='session')
def tally() -> Counter[str]:
  """The number of faults that were injected and handled, by kind."""
  return _TALLY


@pytest.fixture(scope='session')
def cache(pytestconfig: pytest.Config) -> Path:
  """A cache of compiled programs that is kept between test runs."""
  return pytestconfig.cache.mkdir('reliability')


@pytest.fixture(scope='session')
def forks(cache: Path) -> Iterator[Forks]:
  """A server that runs the program in forked processes."""
  forks = Forks(cache)
  yield forks
  forks.close()


@pytest.fixture(scope='session')
def reference(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
  """The workdir of a run without faults.

  Tests must not change it. The trace of the run is in the file `trace` next to
  the workdir.
  """
  workdir = tmp_path_factory.mktemp('reference') / 'run'
  done = forks.run(workdir, shop.FLAGS)
  assert done.code == 0, done.err
  workdir.with_name('trace').write_text('\n'.join(done.trace))
  return workdir
