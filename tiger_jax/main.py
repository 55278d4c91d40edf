"""Entry point: flags and dispatch.

python -m tiger_jax.main --config=configs/beauty.py --workdir=runs/beauty
"""

import sys

from tiger_jax.runtime import console

if __name__ == '__main__':
  # Before the other imports, which take time and may print warnings.
  console.begin()

from absl import flags  # noqa: E402

from tiger_jax.config import command_line  # noqa: E402

flags.DEFINE_string(
  'config', None, 'A file of configs/; --config.section.field=x overrides.'
)
flags.DEFINE_string(
  'workdir', None, "The run's folder, by default runs/<name of the config>."
)
flags.DEFINE_string(
  'mode', 'all', f'How far to run: {", ".join(command_line.MODES)}.'
)
flags.DEFINE_bool(
  'distributed', False, 'This is one of the processes of a run; see launch/.'
)
flags.DEFINE_bool('help', False, 'Print this.', short_name='h')
flags.DEFINE_list('history', [], 'Item ids, oldest first.')
flags.DEFINE_integer('k', 10, 'How many items to recommend.')
flags.DEFINE_bool('exclude_seen', False, 'Exclude the items of the history.')
flags.DEFINE_list('allow', None, 'Ids of the only items to recommend.')
flags.DEFINE_list('deny', [], 'Ids of items not to recommend.')
flags.DEFINE_float(
  'temperature',
  None,
  'Draw items at random; 1 keeps their probabilities. Implies --exact.',
)
flags.DEFINE_integer(
  'drawn_levels', None, 'Draw only the first n codes of the Semantic IDs.'
)
flags.DEFINE_integer(
  'seed', 0, 'Seed of --temperature: the same one draws the same items.'
)
flags.DEFINE_bool(
  'exact', False, 'Widen the search until the k best are proven.'
)
flags.DEFINE_string('profile', None, 'Folder for a profile of a few steps.')


def main() -> None:
  """Runs and exits; an expected error becomes one line and its exit code."""
  distributed = False
  try:
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


if __name__ == '__main__':
  main()
