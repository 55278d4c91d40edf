"""Entry point: `python -m tiger_jax.beam COMMAND`, see docs/scale.md."""

import signal
import sys


def run() -> None:
  """Runs a command.

  An expected error is printed as one line, and ends the program with the exit
  code of the error.
  """
  # Set before any import, so that Ctrl-C never prints a traceback.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  from tiger_jax.runtime import console

  # Called before the other imports, which take time and may print warnings.
  console.begin()
  try:
    from tiger_jax.beam import command_line

    console.raise_interrupts()
    command_line.run(sys.argv[1:])
  except BaseException as error:
    # Exits at once, because threads of Beam may wait for a worker that died.
    console.fail(error, at_once=True)
    raise
  console.end()


if __name__ == '__main__':
  run()
