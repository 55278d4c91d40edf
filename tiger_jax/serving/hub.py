"""Uploads bundles to the Hugging Face Hub, and downloads them."""

from pathlib import Path
import shutil
import tempfile
from typing import Any

from tiger_jax.errors import UsageError, one_line
from tiger_jax.serving import arguments, bundle
from tiger_jax.serving.snapshot import Snapshot


def push(
  snapshot: Snapshot, repo: str, license_name: str | None, private: bool
) -> str:
  """Uploads a bundle in one commit, see `Recommender.push_to_hub`."""
  repo = arguments.text(repo, 'repo')
  huggingface_hub = _library(
    'push_to_hub', 'call save_bundle and upload the folder yourself'
  )
  with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent) / 'bundle'
    bundle.save(snapshot, folder, license_name)
    try:
      api = huggingface_hub.HfApi()
      api.create_repo(repo, private=private, exist_ok=True)
      # With one commit, a download never sees only some of the files.
      api.upload_folder(
        repo_id=repo, folder_path=folder, commit_message='Upload a bundle'
      )
    except (
      Exception
    ) as error:  # Errors of the network, the account or the name.
      raise UsageError(
        f'the upload to {arguments.shown(repo)} failed '
        f'({one_line(str(error))[:200]}): check the name, the login and the '
        'network'
      ) from error
  return f'https://huggingface.co/{repo}'


def load(repo: str, revision: str | None, text_model: str | None) -> Snapshot:
  """Loads a bundle from the Hub, see `Recommender.from_hub`."""
  repo = arguments.text(repo, 'repo')
  if revision is not None:
    revision = arguments.text(revision, 'revision')
  huggingface_hub = _library(
    'from_hub', 'download the folder yourself and call from_bundle'
  )
  with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent) / 'bundle'
    try:
      cached = huggingface_hub.snapshot_download(
        repo, revision=revision, allow_patterns=list(bundle.FILES)
      )
      # The cache of the library contains links, which a bundle must not have.
      shutil.copytree(cached, folder)
    except (
      Exception
    ) as error:  # Errors of the network, the account or the name.
      raise UsageError(
        f'the download of {arguments.shown(repo)} failed '
        f'({one_line(str(error))[:200]}): check the name, the revision, the '
        'login and the network'
      ) from error
    return bundle.load(folder, text_model)


def _library(method: str, alternative: str) -> Any:
  """Returns the library `huggingface_hub`.

  Args:
    method: The method that needs the library, for the error message.
    alternative: A remedy that does not need the library.
  """
  try:
    import huggingface_hub
  except ImportError as error:
    raise UsageError(
      f'{method} needs huggingface_hub: pip install huggingface_hub, or '
      f'{alternative}'
    ) from error
  return huggingface_hub
