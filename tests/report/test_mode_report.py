"""Tests the command `--mode=report` on finished, older and damaged runs."""

import json
import shutil

import pytest

from tests import typed
from tests.report.reports import Page
from tiger_jax.storage.artifacts import run_stage


@pytest.fixture(name='workdir')
def _workdir(trained, tmp_path):
  return shutil.copytree(trained, tmp_path / 'run', symlinks=True)


def report(workdir):
  flags = ('--mode=report', f'--workdir={workdir.name}')
  return typed.run(*flags, cwd=workdir.parent)


def make_older(workdir):
  """Makes the evaluation look as if an older version had made it."""
  path = workdir / 'results.json'
  text = path.read_text()
  assert '"neighbor_agreement"' in text
  path.write_text(text.replace('neighbor_', 'neighbour_'))
  stage = workdir / 'evaluation' / 'stage.json'
  record = json.loads(stage.read_text())
  for name in ('users.npz', 'users.json'):
    (stage.parent / name).unlink()
    del record['files'][name]
  stage.write_text(json.dumps(record))


def test_the_report_of_a_finished_run_is_made_again(trained, workdir):
  written = (trained / 'report.html').read_text()
  (workdir / 'report.html').unlink()
  (workdir / 'metrics.jsonl').unlink()  # The train stage has a copy.
  done = report(workdir)
  assert (done.code, done.err) == (0, '')
  assert done.out == 'Report: run/report.html\n'
  again = (workdir / 'report.html').read_text()
  assert Page(again).text == Page(written).text


def test_the_report_of_an_older_run_says_how_to_add_user_results(workdir):
  make_older(workdir)
  done = report(workdir)
  assert (done.code, done.err) == (0, '')
  text = Page((workdir / 'report.html').read_text()).text
  assert 'remove the folder run/evaluation and run' in text
  assert '--workdir=run --mode=evaluate' in text
  assert 'Do similar items share codes?' in text


def test_a_run_without_an_evaluation_is_refused(workdir):
  shutil.rmtree(workdir / 'evaluation')
  (workdir / 'results.json').unlink()
  (workdir / 'report.html').unlink()
  done = report(workdir)
  assert done.code == 3
  assert done.refusal == (
    'error: run has no evaluation to report: repeat the command of the run '
    'with --workdir=run --mode=evaluate first'
  )
  assert not (workdir / 'report.html').exists()


def test_damaged_user_results_are_refused(workdir):
  path = workdir / 'evaluation' / 'users.npz'
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  done = report(workdir)
  assert done.code == 3
  assert 'run/evaluation/users.npz is damaged' in done.refusal
  assert 'remove run/evaluation and run again' in done.refusal


def test_damaged_results_are_refused(workdir):
  path = workdir / 'results.json'
  results = json.loads(path.read_text())
  results['metrics']['test']['recall@10'] = 'high'
  path.write_text(json.dumps(results))
  done = report(workdir)
  assert done.code == 3
  assert 'run/results.json is damaged' in done.refusal
  assert '--mode=evaluate with --workdir=run' in done.refusal


def test_a_new_stage_removes_the_old_report(workdir):
  run_stage(workdir, 'data', '0' * 64, lambda _: None, metadata={})
  assert not (workdir / 'report.html').exists()


def test_a_report_is_not_written_through_a_link(workdir, tmp_path):
  (workdir / 'report.html').unlink()
  (workdir / 'report.html').symlink_to(tmp_path / 'elsewhere')
  done = report(workdir)
  assert done.code == 2 and 'is a link' in done.refusal
  assert not (tmp_path / 'elsewhere').exists()
