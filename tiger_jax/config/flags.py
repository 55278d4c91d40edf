"""Defines the flags of the program and its help text."""

from collections.abc import Callable
import textwrap
from typing import Any, NamedTuple

from absl import flags

MODES = (
  'all', 'data', 'embed', 'semantic_ids', 'train', 'evaluate', 'bench',
  'recommend', 'recommend_all', 'serve', 'report', 'export', 'check_data',
  'doctor',
)  # fmt: skip


class _Flag(NamedTuple):
  """A flag.

  Attributes:
    name: The name without dashes.
    define: The absl function that defines a flag of this type.
    value: The placeholder of the value in the help text; '' for a boolean.
    default: The value of the flag if it is not given.
    help: Sentences for the help text. If the default is None or [], they
      describe the default. `help_text` appends every other default.
  """

  name: str
  define: Callable[..., Any]
  value: str
  default: Any
  help: str


# All modes accept the flags of `run`. A mode also accepts the flags of the
# topic that has the name of the mode, and those of `SHARED`.
TOPICS = {
  'run': (
    _Flag(
      'config', flags.DEFINE_string, 'FILE[:VARIANT]', None,
      'The config file, such as configs/beauty.py. A variant of the config may '
      'follow, as in configs/beauty.py:cpu. --config.SECTION.FIELD=VALUE '
      'overrides a field, as in --config.train.steps=500. There is no default.',
    ),
    _Flag(
      'workdir', flags.DEFINE_string, 'FOLDER', None,
      'The folder of the run. Finished stages in it are reused, and an '
      'interrupted training resumes. The default is the folder in runs/ with '
      'the name of the config, as in runs/beauty_cpu.',
    ),
    _Flag(
      'mode', flags.DEFINE_string, 'MODE', 'all',
      'What to do. The modes data, embed, semantic_ids, train and evaluate '
      'each run one stage and the stages before it. The default mode, all, '
      'runs every stage and shows example recommendations. The mode bench '
      'measures the speed of training. The mode recommend prints '
      'recommendations of a trained model. The mode recommend_all writes '
      'recommendations for all users to files. The mode serve answers requests '
      'over HTTP until it is stopped. The mode report writes report.html of a '
      'finished run again. The mode export writes programs that recommend '
      'items without tiger_jax. The mode check_data reads the data, reports '
      'problems, and suggests settings. The mode doctor checks the '
      'installation, the devices and, if they are given, the files of '
      '--workdir and the raw files of --config. Neither mode changes a run.',
    ),
    _Flag(
      'distributed', flags.DEFINE_bool, '', False,
      'Run as one of several processes that train together, or that share the '
      'users of recommend_all. The scripts in launch/ set this flag.',
    ),
    _Flag('help', flags.DEFINE_bool, '', False, 'Print this text and exit.'),
  ),
  'recommend': (
    _Flag(
      'history', flags.DEFINE_list, 'ID,ID,...', [],
      'The item ids of a history, oldest first. There is no default: either '
      '--history or --user is required.',
    ),
    _Flag(
      'user', flags.DEFINE_string, 'ID', None,
      'The id of a user in the data of the run. Items are recommended for the '
      'whole history of this user. There is no default: either --history or '
      '--user is required.',
    ),
  ),
  'recommend_all': (
    _Flag(
      'histories', flags.DEFINE_string, 'FILE', None,
      'A .jsonl or .parquet file with the columns user and history. A history '
      'is a list of item ids, oldest first. Ids that the model does not know '
      'are ignored. The default is the whole history of every user in the data '
      'of the run.',
    ),
    _Flag(
      'out', flags.DEFINE_string, 'FOLDER', None,
      'The folder to write. If the command was stopped, run it again to '
      'resume. The default is the folder recommendations in the folder of the '
      'run.',
    ),
    _Flag(
      'format', flags.DEFINE_string, 'FORMAT', 'parquet',
      'The format of the files: parquet or jsonl.',
    ),
    _Flag(
      'batch_size', flags.DEFINE_integer, 'NUMBER', None,
      'The number of histories in a search. Lower it if the memory is too '
      'small. The default is evaluation.batch_size of the run.',
    ),
  ),
  'options': (
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
      'Do not recommend these items. The default is no items.',
    ),
    _Flag(
      'exact', flags.DEFINE_bool, '', False,
      'Add beams to the search, up to 4,096, until it proves that no other '
      'item ranks above the k items. The mode recommend prints for how many of '
      'the k items the search has proven this.',
    ),
    _Flag(
      'temperature', flags.DEFINE_float, 'NUMBER', None,
      "Draw the items at random. A value of 1 uses the model's probabilities, "
      'and a higher value gives more variety. The search adds beams as with '
      '--exact. The default is to return the most probable items.',
    ),
    _Flag(
      'drawn_levels', flags.DEFINE_integer, 'NUMBER', None,
      'With --temperature, draw only the first NUMBER codes of a Semantic ID '
      'at random. The default is all codes.',
    ),
    _Flag(
      'seed', flags.DEFINE_integer, 'NUMBER', 0,
      'The random seed for --temperature. The same seed draws the same items.',
    ),
    _Flag(
      'transition_weight', flags.DEFINE_float, 'NUMBER', None,
      'The share of the item-to-item transition counts in the ranking, from 0 '
      '(the model alone) to 1 (the transitions come first). The default is the '
      'value of the run.',
    ),
    _Flag(
      'transition_kappa', flags.DEFINE_float, 'NUMBER', None,
      'If the last item of the history has NUMBER transitions in the training '
      'data, their share is half of --transition_weight. With fewer '
      'transitions, the share is smaller. The default is the value of the run.',
    ),
  ),
  'serve': (
    _Flag(
      'host', flags.DEFINE_string, 'ADDRESS', '127.0.0.1',
      'The address of the server. An address that other machines can reach '
      'needs a token.',
    ),
    _Flag(
      'port', flags.DEFINE_integer, 'NUMBER', 8000,
      'The port of the server; 0 chooses a free port.',
    ),
    _Flag(
      'token_file', flags.DEFINE_string, 'FILE', None,
      'The file of the token that requests must send. The default is the '
      'environment variable TIGER_JAX_TOKEN, or no token if it is not set.',
    ),
    _Flag(
      'admin_port', flags.DEFINE_integer, 'NUMBER', 8001,
      'The port on 127.0.0.1 that changes the catalog and the model. It is '
      'open only if there is an admin token. 0 chooses a free port.',
    ),
    _Flag(
      'admin_token_file', flags.DEFINE_string, 'FILE', None,
      'The file of the admin token. The default is the environment variable '
      'TIGER_JAX_ADMIN_TOKEN, or no admin port if it is not set.',
    ),
    _Flag(
      'models', flags.DEFINE_string, 'FOLDER', None,
      'The folder whose runs and bundles the admin port may load by their '
      'name. The default is the folder that contains the folder of --workdir.',
    ),
    _Flag(
      'serve_demo', flags.DEFINE_bool, '', False,
      'Let the page add items to the catalog, for a demonstration.',
    ),
  ),
  'bench': (
    _Flag(
      'profile', flags.DEFINE_string, 'FOLDER', None,
      'The folder to which a profile of a few training steps is written. The '
      'default is no profile.',
    ),
  ),
  'export': (
    _Flag(
      'export_dir', flags.DEFINE_string, 'FOLDER', None,
      'The folder to write, which must be new or empty. The default is the '
      'folder export in the folder of the run.',
    ),
    _Flag(
      'export_platforms', flags.DEFINE_list, 'NAME,NAME,...', None,
      'The platforms of the programs. The default is cpu,cuda,tpu.',
    ),
    _Flag(
      'export_batch_sizes', flags.DEFINE_list, 'NUMBER,NUMBER,...', None,
      'The numbers of histories that a program takes. The default is 1,8,32.',
    ),
    _Flag(
      'export_k', flags.DEFINE_list, 'NUMBER,NUMBER,...', None,
      'The numbers of items that a program recommends. The default is 10.',
    ),
  ),
}  # fmt: skip

# Maps a topic to the modes that accept its flags, in addition to `TOPICS`.
SHARED = {'options': ('recommend', 'recommend_all')}

for _topic in TOPICS.values():
  for _flag in _topic:
    _flag.define(_flag.name, _flag.default, _flag.help)

_RUN = 'python -m tiger_jax.main'
_PURPOSE = (
  'Trains TIGER, a model that recommends items by generating the Semantic ID '
  'of the next item of a user. The program also serves the trained model, '
  'compares it with baselines, and repeats the experiments of the TIGER paper.'
)
_EXAMPLES = {
  'Train on the built-in synthetic shop (minutes on two CPU cores)':
    f'{_RUN} --config=configs/quickstart.py',
  'Train on Amazon Beauty, with a model for two CPU cores':
    f'{_RUN} --config=configs/beauty.py:cpu',
  'Train on your own data: a folder with interactions.csv and items.csv':
    f'{_RUN} --config=configs/own_data.py \\\n'
    '      --config.dataset.source_dir=my_shop --workdir=runs/my_shop',
  'Check your own data before you train on them':
    f'{_RUN} --mode=check_data --config=configs/own_data.py \\\n'
    '      --config.dataset.source_dir=my_shop',
  'Recommend items for a history':
    f'{_RUN} --mode=recommend --workdir=runs/quickstart \\\n'
    '      --history=P0012,P0345',
  'Recommend items for all users, as Parquet files':
    f'{_RUN} --mode=recommend_all --workdir=runs/quickstart',
  'Serve the trained model over HTTP, with a page at http://127.0.0.1:8000':
    f'{_RUN} --mode=serve --workdir=runs/quickstart',
  'Repeat Table 2 of the paper, with models for two CPU cores':
    f'{_RUN} --config=configs/paper/table2.py:cpu',
}  # fmt: skip
_TITLES = {
  'run': 'Flags',
  'recommend': 'Flags of --mode=recommend',
  'recommend_all': 'Flags of --mode=recommend_all',
  'options': 'Flags of --mode=recommend and --mode=recommend_all',
  'serve': 'Flags of --mode=serve',
  'bench': 'Flags of --mode=bench',
  'export': 'Flags of --mode=export',
}


def names(topic: str) -> tuple[str, ...]:
  """Returns the names of the flags of a topic."""
  return tuple(flag.name for flag in TOPICS[topic])


def help_text() -> str:
  """Returns the help: the purpose, examples, and all flags by topic."""
  lines = [*textwrap.wrap(_PURPOSE, 80), '', 'Examples:']
  for purpose, command in _EXAMPLES.items():
    lines += [f'  {purpose}:', f'    {command}']
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
