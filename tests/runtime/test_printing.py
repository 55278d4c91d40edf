"""Tests that untrusted text is printed as one line of plain characters."""

import pytest

from tiger_jax.errors import DataError, one_line
from tiger_jax.runtime import console, printing

HOSTILE = 'a\x1b]0;owned\x07\x1b[2J\n\u202eb\x9b31m'


def test_control_characters_are_dropped():
  assert one_line(HOSTILE) == 'a]0;owned[2J b31m'
  assert one_line('  caf\u00e9 \U0001f642\t x ') == 'caf\u00e9 \U0001f642 x'


def test_long_lines_are_shortened():
  assert len(one_line('x' * 10**6)) < 2000


@pytest.mark.parametrize('error', [DataError, OSError])
def test_an_error_is_one_plain_line(capsys, error):
  with pytest.raises(SystemExit):
    console.fail(error(HOSTILE + 'x' * 10**6), at_once=False)
  err = capsys.readouterr().err
  assert err.startswith('error: a]0;owned[2J')
  assert err.count('\n') == 1 and len(err) < 2000 and err[:-1].isprintable()


def test_a_warning_is_one_plain_line(capsys):
  printing.warn(HOSTILE)
  assert capsys.readouterr().err == 'a]0;owned[2J b31m\n'
