"""What every test runs under."""

from collections.abc import Iterator
import os
import pathlib
import signal

from absl import flags
import grain  # noqa: F401  # Its flags must exist before a test restores flags.
import jax
import pytest

from tests import small, typed

# Only the first use of a device starts the backend, so this is early enough.
# tiger_jax itself must not be imported here: the hook that checks its shapes
# has to be in place first.
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Tests spend most of their time in compilation; their programs run briefly.
# Processes that a test starts inherit both variables. `make test` unsets them
# for tests with the mark `as_users`.
_FAST_COMPILATION = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
if jax.__version_info__[:2] == (0, 10):  # XLA ends a process at unknown flags.
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

# Shells start background jobs that ignore Ctrl-C, and nohup those that ignore
# SIGHUP. Some tests send these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Grain and TFDS read absl flags, which only `app.run` would have parsed.
flags.FLAGS.mark_as_parsed()


def pytest_configure(config: pytest.Config) -> None:
  """Keeps compiled programs from one run, and one worker, for the next."""
  folder = config.cache.mkdir('jax')
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.02)


@pytest.fixture(scope='module', autouse=True)
def _clear_programs() -> Iterator[None]:
  """Bounds the memory of a worker, which would keep all compiled programs."""
  yield
  jax.clear_caches()


@pytest.fixture(scope='session')
def data_root() -> pathlib.Path:
  """The folder of real data sets that TIGER_JAX_TEST_DATA names."""
  value = os.environ.get('TIGER_JAX_TEST_DATA', '')
  if not value:
    pytest.skip('needs real data: set TIGER_JAX_TEST_DATA to its folder')
  root = pathlib.Path(value)
  if not root.is_dir():
    pytest.fail(f'TIGER_JAX_TEST_DATA is {value}, which is not a folder')
  return root


@pytest.fixture(scope='session')
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The workdir of a small run that is finished. Copy it to change it."""
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
