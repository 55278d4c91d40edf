"""Tests of --mode=recommend."""

import subprocess

import pytest

from tests.end_to_end.program import program

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.mark.parametrize('k', [10, 3])
def test_the_k_best_items_are_printed(shop, recommender, capfd, k):
  history = recommender.dataset.items.ids[5], recommender.dataset.items.ids[9]
  arguments = ('--mode=recommend', f'--history={",".join(history)}', f'--k={k}')
  assert program(shop, *arguments) == 0
  out, err = capfd.readouterr()
  assert err == ''
  lines = out.splitlines()
  assert len(lines) == k
  expected = recommender.recommend(history, k)
  for place, (line, entry) in enumerate(zip(lines, expected, strict=True)):
    number, score, item, title = line.split(maxsplit=3)
    assert int(number) == place + 1
    assert float(score) == pytest.approx(entry.score, abs=0.01)
    assert item == entry.item_id
    assert title.rstrip('\N{HORIZONTAL ELLIPSIS}') in entry.title


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['--history=NOWHERE'], "'NOWHERE'"),
    (['--history=P0001,NOWHERE'], '1 of 2'),
    (['--history=P0001,,P0002'], "''"),
    (['--history='], 'history is empty'),
    ([], 'history is empty'),
    (['--history=P0001', '--k=0'], 'k is 0'),
    (['--history=P0001', '--k=-2'], 'k is -2'),
  ],
)
def test_a_bad_request_is_refused_in_one_line(shop, capfd, arguments, expected):
  assert program(shop, '--mode=recommend', *arguments) == 2
  out, err = capfd.readouterr()
  assert out == ''
  assert err.startswith('error: ')
  assert len(err.splitlines()) == 1
  assert expected in err


def test_a_damaged_checkpoint_is_refused(shop, tmp_path, capfd):
  workdir = tmp_path / 'run'
  subprocess.run(['cp', '-a', shop, workdir], check=True)
  files = (workdir / 'train' / 'checkpoints').rglob('params/**/d/*')
  for path in files:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
      data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    )
  assert program(workdir, '--mode=recommend', '--history=P0001') == 4
  err = capfd.readouterr().err
  assert err.splitlines()[-1].startswith('error: ')
