"""Explains errors of the operating system, and suggests what to do."""

import errno
import os
from pathlib import Path

_REMEDIES = {
  errno.ENOSPC: 'free space on the disk',
  errno.EDQUOT: 'free space within your quota',
  errno.EACCES: 'allow this user to read and write there',
  errno.EPERM: 'allow this user to read and write there',
  errno.EROFS: 'make the file system writable',
  errno.ELOOP: 'replace the link with its target',
  errno.EEXIST: 'remove the file or folder of that name',
  errno.ENOTDIR: 'remove the file that has the name of a folder',
  errno.EFBIG: 'raise the limit on the size of files (ulimit -f)',
  errno.EMFILE: 'raise the limit on open files (ulimit -n)',
}
_LONGEST = 300


def explain(error: BaseException) -> tuple[str, str]:
  """Returns the reason for an error in one line, and a remedy.

  An error of a C++ library has no errno. Its message is then searched for the
  error texts of the system.
  """
  if isinstance(error, OSError) and error.strerror:
    text = error.strerror
    if error.filename is not None:
      text = f'{text}: {error.filename}'
  else:
    text = str(error).partition('\n')[0] or type(error).__name__
  if len(text) > _LONGEST:
    text = f'{text[:_LONGEST]}...'
  again = 'run the same command again'
  remedy = _REMEDIES.get(_number(error))
  return text, f'{remedy}, and {again}' if remedy else again


def describe(error: OSError, path: Path) -> str:
  """Returns one line with the file, the reason and the remedy of an error.

  `path` is used if the error does not name a file.
  """
  reason = error.strerror or str(error)
  return f'{error.filename or path}: {reason}; {explain(error)[1]}'


def _number(error: BaseException) -> int:
  """Returns the errno of an error or of its causes; 0 if there is none."""
  cause: BaseException | None = error
  for _ in range(10):
    if isinstance(cause, OSError) and cause.errno:
      return cause.errno
    cause = cause and cause.__cause__
  numbers = (x for x in _REMEDIES if os.strerror(x) in str(error))
  return next(numbers, 0)
