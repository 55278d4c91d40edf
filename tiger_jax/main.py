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
    from tiger_jax.config import command_line

    define_flags()
    command = command_line.parse(sys.argv)
    if command is None:
      print(command_line.help_text())
    else:
      distributed = command.distributed
      from tiger_jax import cli  # Imports JAX, which takes seconds.

      console.raise_interrupts()
      cli.run(command)
  except BaseException as error:
    console.fail(error, at_once=distributed)
    raise
  console.end()


def define_flags() -> None:
  """Defines the flags, where they are not defined yet."""
  from absl import flags

  from tiger_jax.config.command_line import MODES

  if 'config' in flags.FLAGS:
    return
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  switch, ids = flags.DEFINE_bool, flags.DEFINE_list
  text('config', None, 'A config file; --config.section.field=x overrides.')
  text('workdir', None, "The run's folder, by default runs/<name of config>.")
  text('mode', 'all', f'How far to run: {", ".join(MODES)}.')
  switch('distributed', False, 'One of the processes of a run; see launch/.')
  switch('help', False, 'Print this.', short_name='h')
  ids('history', [], 'Item ids, oldest first.')
  number('k', 10, 'How many items to recommend.')
  switch('exclude_seen', False, 'Exclude the items of the history.')
  ids('allow', None, 'Ids of the only items to recommend.')
  ids('deny', [], 'Ids of items not to recommend.')
  flags.DEFINE_float(
    'temperature', None,
    'Draw items at random; 1 keeps their probabilities. Implies --exact.',
  )  # fmt: skip
  number('drawn_levels', None, 'Draw only the first n codes of Semantic IDs.')
  number('seed', 0, 'Seed of --temperature: the same one draws the same items.')
  switch('exact', False, 'Widen the search until the k best are proven.')
  text('profile', None, 'Folder for a profile of a few steps.')


if __name__ == '__main__':
  run()
