"""Entry point: `tiger-jax --config=configs/beauty.py --workdir=runs/beauty`."""

import sys

from tiger_jax.runtime import console


def run() -> None:
  """Runs `main` as a program of its own: the command `tiger-jax`."""
  # Before the other imports, which take time and may print warnings.
  console.begin()
  main()


def main() -> None:
  """Runs and exits; an expected error becomes one line and its exit code."""
  distributed = False
  try:
    from tiger_jax.config import command_line, flags

    command = command_line.parse(sys.argv)
    if command is None:
      print(flags.help_text())
    else:
      distributed = command.distributed
      from tiger_jax import cli  # Imports JAX, which takes seconds.

      console.raise_interrupts()
      cli.run(command)
  except BaseException as error:
    console.fail(error, at_once=distributed)
    raise
  console.end()


if __name__ == '__main__':
  run()
