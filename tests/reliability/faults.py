"""Injects faults into a run, from within its process.

Faults are injected at events. An event is a change of the file system, which a
Python audit hook reports in advance, or a certain point of the run. The trace
has a line for each event:

    begin
    stage.begin train                  stage.end train
    save.begin /train.partial-…/30     save.end /train.partial-…/30
    saving 30 <sha256 of the state>    restored 30 <sha256 of the state>
    ledger.add
    signal.noted
    os.rename /a -> /b

`ledger.add` means that the loop has read the batches of one call of the
training step, and `signal.noted` that it has recorded a signal. Every change of
the file system has a line like the last one.
"""

from collections.abc import Callable, Iterable
import functools
import hashlib
import os
from pathlib import Path
import re
import resource
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

_CHANGES = {
  'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'os.truncate',
  'shutil.rmtree',
}  # fmt: skip


class Trigger(NamedTuple):
  """A fault, and the event at which it is injected.

  Attributes:
    after: A regular expression. The fault waits for lines that match it.
    nth: The number of these lines to wait for.
    events: The number of lines matching `among` to wait for afterwards.
    among: A regular expression for `events`.
    delay: The seconds to wait after the last of these lines. With 0, the fault
      is injected before the event of that line.
    action: `kill`, `terminate`, `fill` (fills the disk), `limit` (files cannot
      grow) or `block` (puts a file at the path of the save).
  """

  after: str
  nth: int = 1
  events: int = 0
  among: str = ''
  delay: float = 0.0
  action: str = 'kill'


class Faults:
  """Watches a run, and injects faults."""

  def __init__(self, workdir: str, triggers: Iterable[Any], trace: int):
    """Prepares the faults of a run.

    Args:
      workdir: The workdir of the run. Paths in the trace omit this prefix.
      triggers: The faults, each a `Trigger` or a list of its fields.
      trace: A file descriptor of a pipe for the trace.
    """
    self._workdir = workdir
    self._pending = [_Pending(Trigger(*x)) for x in triggers]
    self._trace = trace
    self._saving = ''
    self._lock = threading.RLock()

  def install(self) -> None:
    """Starts to watch the run."""
    from tiger_jax.checkpoints import manifest
    from tiger_jax.checkpoints.checkpoints import Checkpoints
    from tiger_jax.checkpoints.ledger import Ledger
    from tiger_jax.runtime.preemption import StopSignal
    from tiger_jax.storage import artifacts
    from tiger_jax.training import loop

    sys.addaudithook(self._audit)
    _around(Ledger, 'add', lambda *_: self.tell('ledger.add'))
    _around(StopSignal, '_receive', lambda *_: self.tell('signal.noted'))
    self._frame(artifacts, 'run_stage', 'stage', lambda workdir, name, *_: name)
    self._frame(
      Checkpoints, '_write', 'save', lambda c, step, *_: c.folder / str(step)
    )
    _around(
      Checkpoints,
      '_write',
      lambda _, step, state, *__: self.tell(f'saving {step} {digest(state)}'),
    )
    # Data may be lost before an fsync. Python has no audit event for an fsync.
    _around(manifest, 'sync', lambda path: self.tell(f'fsync {path}'))
    restore = loop._Run._restore

    @functools.wraps(restore)
    def restore_and_tell(run: Any) -> int:
      step = restore(run)
      self.tell(f'restored {step} {digest(run._state._asdict())}')
      return step

    loop._Run._restore = restore_and_tell
    self.tell('begin')

  def tell(self, line: str) -> None:
    """Writes a line of the trace, and injects the faults that are due."""
    line = line.replace(self._workdir, '')
    with self._lock:
      os.write(self._trace, f'{line}\n'.encode())
      if line.startswith('save.begin '):
        self._saving = line.split()[1]
      due = [x.trigger for x in self._pending if x.is_due(line)]
    for trigger in due:
      act = functools.partial(self._act, trigger.action)
      if trigger.delay:
        threading.Thread(
          target=lambda wait, act: (time.sleep(wait), act()),
          args=(trigger.delay, act),
          daemon=True,
        ).start()
      else:
        act()

  def _audit(self, event: str, args: tuple[Any, ...]) -> None:
    if event == 'open':
      path, _, flags = args
      if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
        return
    elif event not in _CHANGES:
      return
    line = f'{event} {args[0]}'
    if event == 'os.rename':
      line += f' -> {args[1]}'
    # `rmtree` removes files relative to an open folder, so `args[0]` is a file
    # name without its folder.
    if self._workdir in line or (event == 'os.remove' and args[1] != -1):
      self.tell(line)

  def _frame(
    self, owner: Any, name: str, what: str, of: Callable[..., Any]
  ) -> None:
    function = getattr(owner, name)

    @functools.wraps(function)
    def framed(*args: Any, **kwargs: Any) -> Any:
      self.tell(f'{what}.begin {of(*args)}')
      result = function(*args, **kwargs)
      self.tell(f'{what}.end {of(*args)}')
      return result

    setattr(owner, name, framed)

  def _act(self, action: str) -> None:
    if action == 'kill':
      os.kill(os.getpid(), signal.SIGKILL)
    elif action == 'terminate':
      self.tell('terminate')
      os.kill(os.getpid(), signal.SIGTERM)
    elif action == 'fill':
      _fill(Path(self._workdir) / 'filler')
    elif action == 'limit':
      hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
      resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    elif action == 'block':
      Path(f'{self._workdir}{self._saving}.partial').touch()
    else:
      raise ValueError(action)


class _Pending:
  """A trigger that is not due yet."""

  def __init__(self, trigger: Trigger):
    self.trigger = trigger
    self._left = trigger.nth
    self._events = trigger.events

  def is_due(self, line: str) -> bool:
    """Counts a line if it matches; returns whether the trigger is due."""
    if self._left > 0:
      self._left -= bool(re.search(self.trigger.after, line))
      return not self._left and not self._events
    if self._events > 0:
      self._events -= bool(re.search(self.trigger.among, line))
      return not self._events
    return False


def digest(tree: Any) -> str:
  """Returns the sha256 of all arrays of a pytree."""
  import jax

  from tiger_jax.runtime.sharding import fetch

  result = hashlib.sha256()
  for path, array in jax.tree.leaves_with_path(fetch(tree)):
    header = f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
    result.update(header.encode() + array.tobytes())
  return result.hexdigest()


def nan_in_a_parameter(step: int, end: str) -> None:
  """Makes a step set a parameter to NaN.

  Args:
    step: The step, counted from 1.
    end: The end of the path of the parameter.
  """
  import jax
  import jax.numpy as jnp

  from tiger_jax.recommenders.tiger_task import TigerTask

  def after_update(self, params, tables, seen, step_before, rng):
    def spoil(path, x):
      hit = jax.tree_util.keystr(path, simple=True, separator='/').endswith(end)
      bad = step_before + 1 == step
      return jnp.where(bad, jnp.nan, x) if hit else x

    return jax.tree.map_with_path(spoil, params)

  TigerTask.after_update = after_update


def nan_of_a_batch(batch: int, where: str) -> None:
  """Makes a batch produce NaN, at any step that trains on it.

  Args:
    batch: The number of the batch, counted from 0.
    where: The values that become NaN: `loss` or `parameters`.
  """
  import jax
  import jax.numpy as jnp

  from tiger_jax.recommenders.session import Session
  from tiger_jax.training.look_up import LookUp

  training_task, loss = Session.training_task.fget, LookUp.loss
  ends = []

  def watched_task(self):
    source = self.batches
    first = batch - batch % source.steps_per_call
    ends.append(source.stack(first, batch + 1).examples.end[-1])
    return training_task(self)

  def spoil(self, params, tables, excerpts, rng):
    value, metrics, _ = loss(self, params, tables, excerpts, rng)
    is_it = (excerpts.examples.end == ends[0]).all()
    if where == 'loss':
      value = jnp.where(is_it, jnp.nan, value)
    return value, metrics, is_it

  def after_update(self, params, tables, is_it, step, rng):
    if where == 'loss':
      return params
    return jax.tree.map(lambda x: jnp.where(is_it, jnp.nan, x), params)

  Session.training_task = property(watched_task)
  LookUp.loss = spoil
  LookUp.after_update = after_update


def install(request: dict[str, Any], trace: int) -> None:
  """Installs the faults of a request in this process, see `forks`."""
  for name, *args in request['patches']:
    globals()[name](*args)
  Faults(request['workdir'], request['triggers'], trace).install()


def _around(owner: Any, name: str, before: Callable[..., None]) -> None:
  function = getattr(owner, name)

  @functools.wraps(function)
  def wrapped(*args: Any, **kwargs: Any) -> Any:
    before(*args, **kwargs)
    return function(*args, **kwargs)

  setattr(owner, name, wrapped)


def _fill(path: Path) -> None:
  number = os.open(path, os.O_CREAT | os.O_WRONLY)
  for size in (1 << 16, 1 << 8, 1):
    try:
      while True:
        os.write(number, bytes(size))
    except OSError:
      continue
  os.close(number)
