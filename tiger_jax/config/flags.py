"""The flags of the program, by topic, and its help."""

from collections.abc import Callable
import textwrap
from typing import Any, NamedTuple

from absl import flags

MODES = (
  'all', 'data', 'embed', 'semantic_ids', 'train', 'evaluate', 'bench',
  'recommend', 'report',
)  # fmt: skip


class _Flag(NamedTuple):
  """A flag.

  Attributes:
    name: The name, without dashes.
    define: The function of absl that defines a flag of this type.
    value: What the help shows after the `=`; '' for a switch.
    default: The default.
    help: One or more sentences. They name the default if it is None or [].
  """

  name: str
  define: Callable[..., Any]
  value: str
  default: Any
  help: str


# The flags of every mode, of --mode=recommend only and of --mode=bench only.
TOPICS = {
  'run': (
    _Flag(
      'config', flags.DEFINE_string, 'FILE[:VARIANT]', None,
      'The config file of the run, such as one of configs/, and its variant. '
      '--config.SECTION.FIELD=VALUE overrides one field of it, as in '
      '--config.train.steps=500. There is no default.',
    ),
    _Flag(
      'workdir', flags.DEFINE_string, 'FOLDER', None,
      'The folder of the run. Finished stages in it are skipped, and a stopped '
      'training continues. The default is runs/ and the name of the config.',
    ),
    _Flag(
      'mode', flags.DEFINE_string, 'MODE', 'all',
      'How far to run. data, embed, semantic_ids, train and evaluate are the '
      'stages, and each runs those before it; all also shows recommendations; '
      'bench measures the speed of training; recommend answers a request; '
      'report writes report.html of a finished run again.',
    ),
    _Flag(
      'distributed', flags.DEFINE_bool, '', False,
      'This process is one of several of the run. launch/ holds scripts that '
      'set it.',
    ),
    _Flag('help', flags.DEFINE_bool, '', False, 'Print this text, as -h does.'),
  ),
  'recommend': (
    _Flag(
      'history', flags.DEFINE_list, 'ID,ID,...', [],
      'The ids of the items that a user had, oldest first. There is no '
      'default; --user may be given instead.',
    ),
    _Flag(
      'user', flags.DEFINE_string, 'ID', None,
      "The id of a user of the run's data, whose whole history is used. There "
      'is no default; --history may be given instead.',
    ),
    _Flag(
      'k', flags.DEFINE_integer, 'NUMBER', 10,
      'The number of items to recommend.',
    ),
    _Flag(
      'exclude_seen', flags.DEFINE_bool, '', False,
      'Do not recommend the items of the history.',
    ),
    _Flag(
      'allow', flags.DEFINE_list, 'ID,ID,...', None,
      'Recommend only these items. The default is all items.',
    ),
    _Flag(
      'deny', flags.DEFINE_list, 'ID,ID,...', [],
      'Do not recommend these items. The default is none.',
    ),
    _Flag(
      'exact', flags.DEFINE_bool, '', False,
      'Widen the search until the k best items are proven, and say how many '
      'are.',
    ),
    _Flag(
      'temperature', flags.DEFINE_float, 'NUMBER', None,
      'Draw the items at random; 1 keeps their probabilities. It implies '
      '--exact. The default is to return the most probable items.',
    ),
    _Flag(
      'drawn_levels', flags.DEFINE_integer, 'NUMBER', None,
      'With --temperature, draw only this many first codes of the Semantic '
      'IDs. The default is all codes.',
    ),
    _Flag(
      'seed', flags.DEFINE_integer, 'NUMBER', 0,
      'The random seed of --temperature. The same seed draws the same items.',
    ),
  ),
  'bench': (
    _Flag(
      'profile', flags.DEFINE_string, 'FOLDER', None,
      'The folder to write a profile of a few steps to. The default is to '
      'write none.',
    ),
  ),
}  # fmt: skip

for _topic in TOPICS.values():
  for _flag in _topic:
    _flag.define(_flag.name, _flag.default, _flag.help)

_RUN = 'python -m tiger_jax.main'
_PURPOSE = (
  'Trains TIGER, a recommender that generates the Semantic ID of the next item '
  'of a user, and recommends items with the trained model. It also measures '
  'TIGER beside baselines and repeats the experiments of its paper.'
)
_EXAMPLES = {
  'Train on the built-in synthetic shop, in minutes on two cores':
    f'{_RUN} --config=configs/quickstart.py',
  'Train on Amazon Beauty, at a size for two cores':
    f'{_RUN} --config=configs/beauty.py:cpu',
  'Train on your own data, a folder with interactions.csv and items.csv':
    f'{_RUN} --config=configs/own_data.py \\\n'
    '      --config.dataset.source_dir=my_shop --workdir=runs/my_shop',
  'Recommend items for a history':
    f'{_RUN} --mode=recommend --workdir=runs/quickstart \\\n'
    '      --history=P0012,P0345',
  "Repeat an experiment of the paper, Table 2, at a size for two cores":
    f'{_RUN} --config=configs/paper/table2.py:cpu',
}  # fmt: skip
_TITLES = {
  'run': 'Flags',
  'recommend': 'Flags of --mode=recommend',
  'bench': 'Flags of --mode=bench',
}


def names(topic: str) -> tuple[str, ...]:
  """Returns the names of the flags of a topic."""
  return tuple(flag.name for flag in TOPICS[topic])


def help_text() -> str:
  """Returns the help: the purpose, examples, and all flags by topic."""
  lines = [*textwrap.wrap(_PURPOSE, 80), '', 'Examples:']
  for what, command in _EXAMPLES.items():
    lines += [f'  {what}:', f'    {command}']
  for topic, title in _TITLES.items():
    lines += ['', f'{title}:']
    for flag in TOPICS[topic]:
      lines.append(f'  --{flag.name}{flag.value and f"={flag.value}"}')
      lines += textwrap.wrap(
        _with_default(flag), 80, initial_indent='      ',
        subsequent_indent='      ', break_on_hyphens=False,
      )  # fmt: skip
  return '\n'.join(lines)


def _with_default(flag: _Flag) -> str:
  if flag.default in (None, []):
    return flag.help
  default = 'off' if flag.default is False else flag.default
  return f'{flag.help} The default is {default}.'
