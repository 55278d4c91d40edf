"""Entry point: `tiger-jax --config=configs/beauty.py --workdir=runs/beauty`."""

import gc
import signal
import sys


def run() -> None:
  """Runs the command `tiger-jax`."""
  # Set before any import, so that Ctrl-C never prints a traceback.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  from tiger_jax.runtime import console

  # Called before the other imports, which take time and may print warnings.
  console.begin()
  main()


def main() -> None:
  """Runs the command line.

  An expected error is printed as one line, and ends the program with the exit
  code of the error.
  """
  from tiger_jax.runtime import console

  distributed = False
  try:
    from tiger_jax.config import command_line, flags

    command = command_line.parse(sys.argv)
    if command is None:
      print(flags.help_text())
    else:
      distributed = command.distributed
      from tiger_jax import cli  # Imports JAX, which takes seconds.

      # The objects of the libraries stay until the end, so the garbage
      # collector need not visit them.
      gc.freeze()
      console.raise_interrupts()
      cli.run(command)
  except BaseException as error:
    console.fail(error, at_once=distributed)
    raise
  console.end()


if __name__ == '__main__':
  run()
