"""--mode=check_data and --mode=doctor, typed as a user types them."""

import re
import shlex

from tests import small, typed

# The sizes of the model do not depend on the data. Few steps keep this short.
MODEL = [
  x
  for x in small.FLAGS
  if re.search(r'\.(model\.|train\.(steps|log|length|evaluate|opt)|eval)', x)
]


def test_the_suggested_command_trains_and_the_doctor_finds_no_problem(tmp_path):
  rows = small.events(small.items(), shortest=5)
  rows[7] = rows[7] | {'timestamp': 'soon'}
  rows[12] = rows[12] | {'item': 'unheard of'}
  rows += [row | {'user': f'{row["user"]}b'} for row in rows[:2]]
  small.make(tmp_path / 'shop', rows)
  flags = [
    *small.FLAGS[:1], *MODEL, '--config.dataset.source_dir=shop',
    '--config.dataset.drop_short_users=false', '--workdir=run',
    '--config.dataset.allow_missing_metadata=false',
    '--config.train.batch_size=400',
  ]  # fmt: skip
  done = typed.run('--mode=check_data', *flags, cwd=tmp_path)
  assert done.code == 3, done.err
  assert 'cannot train with this config' in done.refusal
  assert 'row 8' in done.out and "'unheard of'" in done.out
  assert sorted(x.name for x in tmp_path.iterdir() if x.name[0] != '.') == [
    'shop'
  ]
  suggested = re.search(r'command: (.*)', done.out)[1]
  arguments = shlex.split(suggested)
  assert arguments[:3] == ['python', '-m', 'tiger_jax.main']
  for setting in (
    'dataset.drop_short_users=true', 'dataset.allow_missing_metadata=true',
    'dataset.max_bad_share=0.', 'train.batch_size=50', 'embedding.dim=20',
    'semantic_ids.codebook_sizes=(8, 8, 8)',
  ):  # fmt: skip
    assert f'--config.{setting}' in ' '.join(arguments)
  again = typed.run('--mode=check_data', *arguments[3:], cwd=tmp_path)
  assert again.code == 0, again.err
  assert 'verdict: ' in again.out
  trained = typed.run(*arguments[3:], cwd=tmp_path)
  assert trained.code == 0, trained.err
  assert (tmp_path / 'run/results.json').exists()

  stages = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')
  doctor = typed.run('--mode=doctor', *arguments[3:], cwd=tmp_path)
  assert doctor.code == 0, doctor.err
  for stage in stages:
    assert re.search(rf'ok {stage}: intact, .* up to date', doctor.out), stage
  checkpoint = max((tmp_path / 'run/train/checkpoints').glob('*/params/d/*'))
  checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
  damaged = typed.run('--mode=doctor', '--workdir=run', cwd=tmp_path)
  assert damaged.code == 4, damaged.out
  assert 'is damaged' in damaged.refusal
  (tmp_path / 'run/data/stage.json').write_text('{')
  assert typed.run('--mode=doctor', '--workdir=run', cwd=tmp_path).code == 3


def test_the_doctor_of_an_environment(tmp_path):
  done = typed.run('--mode=doctor', cwd=tmp_path)
  assert done.code == 0, done.err
  assert re.match(' +ok python: 3', done.out)
  missing = typed.run('--mode=doctor', '--workdir=gone', cwd=tmp_path)
  assert missing.code == 2 and 'does not exist' in missing.refusal
  env = {'JAX_PLATFORMS': 'cuda'}
  broken = typed.run('--mode=doctor', cwd=tmp_path, env=env)
  assert broken.code == 2 and 'JAX cannot use its devices' in broken.refusal
  assert 'problem devices' in broken.out
