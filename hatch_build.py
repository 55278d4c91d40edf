"""Leaves untracked files out of the sdist and the wheel."""

import os
import subprocess
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TrackedFilesOnly(BuildHookInterface):
  """Excludes untracked files from an sdist or wheel."""

  def initialize(self, version: str, build_data: dict[str, Any]) -> None:
    """Excludes the untracked files of a git checkout.

    An unpacked sdist is not a checkout. It needs no exclusions, because it
    contains only files that were tracked.
    """
    if not os.path.exists(os.path.join(self.root, '.git')):
      return
    listed = subprocess.run(
      ['git', 'ls-files', '--others', '-z'],
      cwd=self.root,
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    names = listed.stdout.split('\0')
    self.build_config.target_config.setdefault('exclude', []).extend(
      f'/{_escaped(name)}' for name in names if name
    )


def _escaped(name: str) -> str:
  """Returns a pattern, as in .gitignore, that matches only this name."""
  return ''.join(f'\\{x}' if x in '\\*?[]!# ' else x for x in name)
