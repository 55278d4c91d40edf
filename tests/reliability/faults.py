"""What goes wrong in a run, and when: installed in its process, before it.

The moments are file system events, as Python announces them before they happen,
and a few events of the run itself. A line of the trace tells of each:

    begin
    stage.begin train                  stage.end train
    save.begin /train.partial-…/30     save.end /train.partial-…/30
    saving 30 <sha256 of the state>    restored 30 <sha256 of the state>
    ledger.add                         a call's batches are consumed
    signal.noted                       the loop knows of a signal
    os.rename /a -> /b                 and so on, for every change of a file
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
  """When to do what.

  Attributes:
    after: A regular expression; the trace line that it is found in counts.
    nth: How many such lines there must be.
    events: How many lines more there must be.
    among: Which lines those are, a regular expression.
    delay: Seconds more; without them it happens before what the line tells of.
    action: `kill`, `terminate`, `fill` (the disk, whole), `limit` (no file may
      grow any more) or `block` (a file stands where the save goes).
  """

  after: str
  nth: int = 1
  events: int = 0
  among: str = ''
  delay: float = 0.0
  action: str = 'kill'


class Faults:
  """Watches a run, and does what the triggers say."""

  def __init__(self, workdir: str, triggers: Iterable[Any], trace: int):
    """Prepares.

    Args:
      workdir: Of the run; it is left out of the trace.
      triggers: Each is a `Trigger`, perhaps as a list.
      trace: A file descriptor, which outlives the process.
    """
    self._workdir = workdir
    self._pending = [_Pending(Trigger(*x)) for x in triggers]
    self._trace = trace
    self._saving = ''
    self._lock = threading.RLock()

  def install(self) -> None:
    """Begins to watch."""
    from tiger_jax import pipeline
    from tiger_jax.checkpoints import manifest
    from tiger_jax.checkpoints.checkpoints import Checkpoints
    from tiger_jax.checkpoints.ledger import Ledger
    from tiger_jax.runtime.preemption import StopSignal
    from tiger_jax.training import loop

    sys.addaudithook(self._audit)
    _around(Ledger, 'add', lambda *_: self.tell('ledger.add'))
    _around(StopSignal, '_receive', lambda *_: self.tell('signal.noted'))
    self._frame(pipeline, 'run_stage', 'stage', lambda workdir, name, *_: name)
    self._frame(
      Checkpoints, '_write', 'save', lambda c, step, *_: c.folder / str(step)
    )
    _around(
      Checkpoints,
      '_write',
      lambda _, step, state, *__: self.tell(f'saving {step} {digest(state)}'),
    )
    # No audit event tells of it, and much may be lost before it.
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
    """Writes a line of the trace; what waits for it happens."""
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
    # A tree is removed by names that are relative to open folders.
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
  """A trigger that waits."""

  def __init__(self, trigger: Trigger):
    self.trigger = trigger
    self._left = trigger.nth
    self._events = trigger.events

  def is_due(self, line: str) -> bool:
    """Returns whether it is now, at this line."""
    if self._left > 0:
      self._left -= bool(re.search(self.trigger.after, line))
      return not self._left and not self._events
    if self._events > 0:
      self._events -= bool(re.search(self.trigger.among, line))
      return not self._events
    return False


def digest(tree: Any) -> str:
  """Returns the sha256 of all arrays, wherever they are."""
  import jax

  from tiger_jax.runtime.sharding import fetch

  found = hashlib.sha256()
  for path, array in jax.tree.leaves_with_path(fetch(tree)):
    about = f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
    found.update(about.encode() + array.tobytes())
  return found.hexdigest()


def nan_in_a_parameter(step: int, end: str) -> None:
  """The step with that number leaves a NaN in a parameter.

  Args:
    step: Counted from 1.
    end: Of the parameter's path.
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
  """A batch makes something not a number, whichever step it comes at.

  Args:
    batch: Which, counted from 0.
    where: `loss`, or `parameters`, after the step.
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
  """Prepares this process for a run that is asked for, see `forks`."""
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
