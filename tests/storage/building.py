"""Helpers that build a stage with one file."""

from tiger_jax.storage.artifacts import run_stage
from tiger_jax.storage.fingerprints import fingerprint

ONE, TWO = fingerprint('one'), fingerprint('two')


class Builder:
  """Writes a text to `result`, and counts its calls."""

  def __init__(self, text='made'):
    self.text = text
    self.calls = 0

  def __call__(self, folder):
    self.calls += 1
    (folder / 'result').write_text(self.text)


def stage(workdir, wanted, build, **changes):
  return run_stage(
    workdir, 'stage', wanted, build, metadata={'of': wanted[:3]}, **changes
  )


def folders(workdir):
  return sorted(path.name for path in workdir.iterdir())


def refuse_build(folder):
  raise AssertionError(f'{folder} must not be built again')
