"""Computes digests of the inputs of a stage."""

import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
  """Returns the sha256 of JSON values."""
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digests(*paths: str | Path) -> list[list[str]]:
  """Returns the name and the sha256 of each file.

  A folder stands for all files in it. Missing files are skipped: the stage that
  reads them raises the error.
  """
  digests = []
  for path in map(Path, filter(None, paths)):
    files = sorted(path.rglob('*')) if path.is_dir() else [path]
    for file in files:
      if file.is_file():
        with file.open('rb') as opened:
          digest = hashlib.file_digest(opened, 'sha256').hexdigest()
        digests.append([file.name, digest])
  return digests
