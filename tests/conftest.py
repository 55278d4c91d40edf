"""The settings and the fixtures of all tests."""

from collections.abc import Iterator
import gc
import os
import pathlib
import signal

from absl import flags
from absl.testing import flagsaver
import grain  # noqa: F401  # Its flags must exist before a test restores flags.
import jax
import pytest

from tests import small, typed

# JAX reads these values when it first uses a device. Do not import tiger_jax
# here, because the import hook that checks shapes is installed later.
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Tests spend most of their time on compilation, which these variables make
# faster. Processes that a test starts inherit the variables. `make
# test-runs` runs the tests marked `as_users` with the defaults of JAX.
_FAST_COMPILATION = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
if jax.__version_info__[:2] == (0, 10):  # XLA aborts at an unknown flag.
  _FAST_COMPILATION['XLA_FLAGS'] = (
    '--xla_cpu_parallel_codegen_split_count=1 '
    '--xla_cpu_use_fusion_emitters=false'
  )
for _name, _value in _FAST_COMPILATION.items():
  os.environ.setdefault(_name, _value)
jax.config.update(
  'jax_disable_most_optimizations',
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] == '1',
)

# A background job of a shell ignores SIGINT, and a process that nohup started
# ignores SIGHUP. Some tests need both signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tracing creates many objects that live long. With the default thresholds, the
# garbage collector takes several percent of the time.
gc.set_threshold(50_000, 20, 50)

# Grain and TFDS read absl flags. Reading a flag fails unless flags are parsed.
flags.FLAGS.mark_as_parsed()


# The folders and files of tests that start the program, a whole stage, a
# benchmark or a browser. They get the mark `whole_runs`.
_WHOLE_RUNS = (
  'beam/',
  'benchmarks/test_training.py',
  'cases/test_checkpoint_paths.py',
  'cases/test_command_line.py',
  'cases/test_known_shops.py',
  'cases/test_other_devices.py',
  'cases/test_printing.py',
  'cases/test_shop.py',
  'data/checking/test_histories.py',
  'data/sources/test_hostile.py',
  'docs/test_blocks.py',
  'end_to_end/',
  'experiments/test_runs.py',
  'launch/test_notebook.py',
  'recommenders/test_additions.py',
  'recommenders/test_throughput.py',
  'reliability/',
  'report/test_browser.py',
  'report/test_mode_report.py',
  'runtime/test_processes.py',
  'runtime/test_sharded_input.py',
  'security/test_output.py',
  'security/test_packaging.py',
  'security/test_workdirs.py',
  'serving/export/test_script.py',
  'serving/offline/test_command.py',
  'serving/offline/test_rows.py',
  'serving/page/test_a',
  'serving/page/test_page.py',
  'serving/page/test_states.py',
  'serving/server/test_bundles.py',
  'serving/server/test_load.py',
  'serving/server/test_schema.py',
  'serving/server/test_start.py',
  'test_public_api.py',
  'training/test_devices.py',
  'training/test_rewind.py',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Marks the tests of `_WHOLE_RUNS` and the tests that use `trained`."""
  root = pathlib.Path(__file__).parent
  for item in items:
    path = item.path.relative_to(root).as_posix()
    fixtures = getattr(item, 'fixturenames', ())
    if path.startswith(_WHOLE_RUNS) or 'trained' in fixtures:
      item.add_marker('whole_runs')


def pytest_configure(config: pytest.Config) -> None:
  """Shares compiled programs between workers and between runs of the tests."""
  folder = config.cache.mkdir('jax')
  jax.config.update('jax_compilation_cache_dir', str(folder))
  # Writing a small program may take longer than compiling it again.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


@pytest.fixture(scope='module', autouse=True)
def _clear_programs() -> Iterator[None]:
  """Frees memory: a worker would otherwise keep all compiled programs."""
  yield
  jax.clear_caches()


@pytest.fixture(autouse=True)
def _restore_flags() -> Iterator[None]:
  """Restores the absl flags, because a test that parses a command sets them."""
  with flagsaver.flagsaver():
    yield


@pytest.fixture(scope='session')
def data_root() -> pathlib.Path:
  """The folder of real datasets, from the variable TIGER_JAX_TEST_DATA."""
  value = os.environ.get('TIGER_JAX_TEST_DATA', '')
  if not value:
    pytest.skip('needs real data: set TIGER_JAX_TEST_DATA to its folder')
  root = pathlib.Path(value)
  if not root.is_dir():
    pytest.fail(f'TIGER_JAX_TEST_DATA is {value}, which is not a folder')
  return root


@pytest.fixture(scope='session')
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The workdir of a small finished run. Tests may change only a copy."""
  folder = tmp_path_factory.mktemp('trained')
  shop = small.make(folder / 'shop')
  done = typed.run(
    *small.FLAGS,
    f'--config.dataset.source_dir={shop}',
    f'--workdir={folder / "run"}',
    cwd=folder,
  )
  assert done.code == 0, done.err
  return folder / 'run'
