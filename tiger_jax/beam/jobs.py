"""Runs tasks as a Beam pipeline, and returns their results.

A task is a function of one element. It reads and writes files in a folder that
all machines share, and returns a small JSON object. Events pass from task to
task in these files, and not through Beam. The memory of a runner therefore does
not depend on the number of events.

A runner may run a task twice, because a worker died or was slow. A task
therefore writes to a file with a unique name (see `unique`), or replaces a file
with the same content.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import functools
import json
import os
from pathlib import Path
import sys
import threading
import time
import traceback
from typing import Any
import uuid

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from tiger_jax import errors
from tiger_jax.errors import DataError, PeerError, TigerError, one_line
from tiger_jax.storage import os_errors

Result = dict[str, Any]
Task = Callable[..., Result]
# The key of the key-value pairs in a result that the second task receives.
PARTS = 'parts'
_POLL_SECONDS, _NOTICE_SECONDS = 0.1, 5
# The flag that shows the logs of Beam and of its workers.
_LOG_LEVEL = '--default_sdk_harness_log_level'


def run(
  flags: Sequence[str],
  folder: Path,
  task: Task,
  elements: Sequence[Any],
  second: Task | None = None,
  side: Any = None,
) -> tuple[list[Result], list[Result]]:
  """Runs a task for every element, on the workers of a Beam runner.

  Args:
    flags: The flags of the runner.
    folder: A folder that all workers share.
    task: A function that can be pickled.
    elements: The elements, in the order of the results.
    second: A second task, or None. The field `PARTS` of each result of the
      first task is a list of pairs of a key and a value. The second task gets
      each key with the list of all its values.
    side: A value that every call of `task` gets as its second argument, or
      None. It is a side input of Beam.

  Returns:
    The results of the first task in the order of the elements, and those of the
    second task in the order of the keys.

  Raises:
    TigerError: A task raised it. If several tasks did, it is the error of the
      earliest element.
    PeerError: The pipeline failed, for example because a worker died.
  """
  results = folder / f'{unique("results")}.jsonl'
  is_quiet = not any(flag.startswith(_LOG_LEVEL) for flag in flags)
  try:
    with _quiet() if is_quiet else contextlib.nullcontext():
      options = PipelineOptions(list(flags))
      pipeline = apache_beam.Pipeline(options=options)
      _build(pipeline, results, task, elements, second, side)
      state = _watched(pipeline)
  except (Exception, SystemExit) as error:
    raise PeerError(_failure(error)) from error
  if state not in (None, PipelineState.DONE):
    raise PeerError(_failure(RuntimeError(f'the state is {state}')))
  return _read(results, len(elements))


def _watched(pipeline: Any) -> Any:
  """Runs a pipeline, and returns its final state.

  If a local worker process dies before its first task, the runner waits
  forever. Beam raises an error in another thread, and Python only prints it.
  The pipeline therefore runs in a thread, and this function stops waiting when
  a worker has died.

  Raises:
    Exception: The pipeline failed.
  """
  outcome: list[Any] = []
  died = threading.Event()
  previous = threading.excepthook

  def notice(arguments: Any) -> None:
    if 'Worker subprocess exited' in str(arguments.exc_value):
      died.set()
    else:
      previous(arguments)

  def run_pipeline() -> None:
    try:
      outcome.append(pipeline.run().wait_until_finish())
    except BaseException as error:
      outcome.append(error)

  threading.excepthook = notice
  try:
    thread = threading.Thread(target=run_pipeline, daemon=True)
    thread.start()
    while thread.is_alive() and not died.is_set():
      thread.join(_POLL_SECONDS)
    # If the worker had a task, the runner soon reports the same failure.
    thread.join(_NOTICE_SECONDS)
  finally:
    threading.excepthook = previous
  if not outcome:
    raise RuntimeError('a worker process ended')
  if isinstance(outcome[0], BaseException):
    raise outcome[0]
  return outcome[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Discards the output of Beam and its workers to stderr.

  They print a traceback for every failure, and `run` raises an error instead.
  """
  if sys.stderr:
    sys.stderr.flush()
  stderr = os.dup(2)
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  os.close(nowhere)
  try:
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)


def unique(stem: str) -> str:
  """Returns a name that no other call returns."""
  return f'{stem}-{uuid.uuid4().hex}'


def _build(
  pipeline: Any,
  results: Path,
  task: Task,
  elements: Sequence[Any],
  second: Task | None,
  side: Any,
) -> None:
  sides = []
  if side is not None:
    value = pipeline | 'side input' >> apache_beam.Create([side])
    sides.append(apache_beam.pvalue.AsSingleton(value))
  # Reshuffle lets the runner divide the elements among all workers.
  first = (
    pipeline
    | 'elements' >> apache_beam.Create(list(enumerate(elements)))
    | 'divide' >> apache_beam.Reshuffle()
    | 'task' >> apache_beam.Map(functools.partial(_attempt, task), *sides)
  )
  lines = [first | 'results' >> apache_beam.Map(_line)]
  if second:
    lines.append(
      first
      | 'parts' >> apache_beam.FlatMap(_parts)
      | 'group' >> apache_beam.GroupByKey()
      | 'second task' >> apache_beam.Map(functools.partial(_second, second))
      | 'second results' >> apache_beam.Map(_line)
    )
  (
    lines
    | 'all' >> apache_beam.Flatten()
    | 'write' >> apache_beam.io.WriteToText(str(results), num_shards=1,
                                            shard_name_template='')
  )  # fmt: skip


def _attempt(task: Task, numbered: tuple[int, Any], *sides: Any) -> Result:
  """Returns the result of a task, or an error that the user can fix."""
  number, element = numbered
  _end_with_launcher()
  try:
    return {'number': number, **task(element, *sides)}
  except TigerError as error:
    kinds = [x.__name__ for x in type(error).__mro__]
    kind = next(x for x in kinds if hasattr(errors, x))
    return {'number': number, 'kind': kind, 'error': str(error)}
  except OSError as error:
    reason, remedy = os_errors.explain(error)
    message = f'{reason}; {remedy}'
    return {'number': number, 'kind': DataError.__name__, 'error': message}
  except Exception:  # A fault of the program, which another attempt cannot fix.
    return {'number': number, 'kind': '', 'error': traceback.format_exc()}


@functools.cache
def _end_with_launcher() -> None:
  """Ends this local worker process when the launcher has ended.

  Local workers of Beam continue if the launcher is killed.
  """
  if 'sdk_worker_main' not in ' '.join(sys.orig_argv):
    return
  parent = os.getppid()

  def watch() -> None:
    while os.getppid() == parent:
      time.sleep(1)
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def _second(task: Task, group: tuple[int, Iterable[Any]]) -> Result:
  key, values = group
  result = _attempt(task, (key, (key, list(values))))
  return {**result, 'second': True}


def _parts(result: Result) -> Iterator[tuple[int, Any]]:
  yield from result.get(PARTS, ())


def _line(result: Result) -> str:
  return json.dumps({k: v for k, v in result.items() if k != PARTS})


def _read(path: Path, num_elements: int) -> tuple[list[Result], list[Result]]:
  """Returns the results of the first and of the second task."""
  lines = path.read_text(encoding='utf-8').splitlines()
  results = sorted(map(json.loads, lines), key=lambda x: x['number'])
  second = [result for result in results if 'second' in result]
  first = [result for result in results if 'second' not in result]
  for result in (*first, *second):
    if 'error' in result:
      kind = getattr(errors, result['kind']) if result['kind'] else RuntimeError
      raise kind(result['error'])
  if [x['number'] for x in first] != list(range(num_elements)):
    raise PeerError(
      f'the runner returned {len(first)} results for {num_elements} tasks: run '
      'the same command again'
    )
  return first, second


def _failure(error: BaseException) -> str:
  lines = [x.strip() for x in str(error).splitlines() if x.strip()]
  reason = one_line(lines[-1])[:300] if lines else type(error).__name__
  return (
    'the pipeline failed because a worker died or the runner stopped '
    f'({reason}): run the same command again'
  )
