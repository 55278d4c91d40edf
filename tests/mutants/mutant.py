"""The form of a mutant: a deliberate fault and the tests that must find it."""

from typing import NamedTuple


class Mutant(NamedTuple):
  """One change of the code that at least one test must detect.

  Attributes:
    what: The fault, in a few words.
    file: The path of the changed file, relative to the root of the repository.
    old: Text that occurs exactly once in the file.
    new: The text that replaces `old`.
    tests: The tests to run, as arguments of pytest, separated by spaces. The
      tests pass without the change. They should be few and fast.
  """

  what: str
  file: str
  old: str
  new: str
  tests: str
