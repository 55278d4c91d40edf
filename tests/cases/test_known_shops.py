"""Tests of commands on known datasets."""

import zipfile

from tests import small, typed

ITEMS = small.items(40, form='{}')
LOG = small.events(ITEMS, num_users=30)


def write_zip(path):
  """Writes the small shop in the form of MovieLens 1M."""
  ratings = (
    f'{row["user"]}::{row["item"]}::5::{row["timestamp"]}' for row in LOG
  )
  movies = (f'{row["item"]}::{row["title"]} (1999)::War' for row in ITEMS)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('ml-1m/ratings.dat', '\n'.join(ratings))
    archive.writestr('ml-1m/movies.dat', '\n'.join(movies))


def test_a_known_dataset_is_read_trained_and_asked(tmp_path):
  write_zip(tmp_path / 'ml-1m.zip')
  flags = (
    *small.FLAGS, '--config.dataset.name=movielens/1m',
    f'--config.dataset.source_dir={tmp_path}', '--workdir=run',
  )  # fmt: skip
  done = typed.run(*flags, cwd=tmp_path)
  assert done.code == 0, done.err
  assert f'movielens/1m: 30 users, 40 items, {len(LOG)} interactions' in (
    done.out
  )
  asked = typed.run(
    '--mode=recommend', '--workdir=run', '--history=3,4', cwd=tmp_path
  )
  assert asked.code == 0, asked.err
  assert '(1999)' in asked.out
  # The archive is not read again, unless it has changed.
  assert 'data: made' not in typed.run(*flags, cwd=tmp_path).out


def test_a_wrong_name_and_missing_files_are_one_line(tmp_path):
  config = f'--config={small.ROOT}/configs/own_data.py'
  for name, code, message in (
    ('movielens/2m', 2, "did you mean 'movielens/32m'?"),
    ('steam', 3, 'has no steam_reviews.json.gz: get it from https://'),
  ):
    done = typed.run(
      config, f'--config.dataset.name={name}', '--config.dataset.source_dir=.',
      '--mode=data', '--workdir=run', cwd=tmp_path,
    )  # fmt: skip
    assert done.code == code
    assert message in done.err.strip().splitlines()[-1]
