"""Runs a stage in all processes of a run."""

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from tiger_jax.config import Config
from tiger_jax.runtime import processes
from tiger_jax.runtime.environment import environment
from tiger_jax.storage import artifacts
from tiger_jax.storage.artifacts import Artifact
from tiger_jax.storage.fingerprints import fingerprint


def run_stage(
  config: Config,
  workdir: Path,
  elsewhere: Sequence[Path],
  name: str,
  made_from: list[Any],
  build: Callable[[Path], dict[str, Any] | None],
  resumable: bool = False,
  collective: bool = False,
  metadata: dict[str, str] | None = None,
) -> Artifact:
  """Runs a stage, unless it is finished, and returns its artifact.

  Args:
    config: The settings of the run, which are recorded.
    workdir: The folder of the run.
    elsewhere: Folders of other runs, see `artifacts.run_stage`.
    name: The name of the stage.
    made_from: Everything that the stage reads, for its fingerprint.
    build: A function that writes the artifact, see `artifacts.run_stage`.
    resumable: Whether `build` resumes from the files of an interrupted call.
    collective: Whether all processes call `build` together. If False, the main
      process calls it while the other processes wait.
    metadata: JSON to record.

  Raises:
    UsageError: The inputs of the processes differ.
    TigerError: The stage fails, see `artifacts.run_stage`.
  """
  wanted = fingerprint(name, *made_from)
  processes.require_same(
    {f'input of stage {name}': wanted},
    'give all hosts the same input files, and remove files that only some of '
    'them have',
  )
  if not processes.is_main():
    if collective and processes.broadcast_from_main(0):
      build(artifacts.partial_folder(workdir, name, wanted))
    return artifacts.await_stage(workdir, name, wanted, elsewhere)

  def announce_and_build(folder: Path) -> dict[str, Any] | None:
    processes.broadcast_from_main(1)
    return build(folder)

  artifact, is_new = artifacts.run_stage(
    workdir,
    name,
    wanted,
    announce_and_build if collective else build,
    metadata={
      'config': dataclasses.asdict(config),
      'environment': environment(),
    }
    | (metadata or {}),
    resumable=resumable,
    elsewhere=elsewhere,
  )
  if collective and not is_new:
    processes.broadcast_from_main(0)
  status = f'made in {artifact.seconds:.0f} s' if is_new else 'reused'
  say(name, f'{status} ({artifact.folder})')
  return artifact


def say(stage: str, text: str) -> None:
  """Prints a line about a stage. `stage` is '' on a continuation line."""
  print(f'{stage:>12}{":" if stage else " "} {text}', flush=True)
