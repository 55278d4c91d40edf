"""Uploads bundles to the Hugging Face Hub."""

from pathlib import Path
import tempfile

from tiger_jax.errors import UsageError, one_line
from tiger_jax.serving import arguments, bundle
from tiger_jax.serving.snapshot import Snapshot


def push(
  snapshot: Snapshot, repo: str, license_name: str | None, private: bool
) -> str:
  """Uploads a bundle in one commit, see `Recommender.push_to_hub`."""
  repo = arguments.text(repo, 'repo')
  try:
    import huggingface_hub
  except ImportError as error:
    raise UsageError(
      'push_to_hub needs huggingface_hub: pip install huggingface_hub, or call '
      'save_bundle and upload the folder yourself'
    ) from error
  with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent) / 'bundle'
    bundle.save(snapshot, folder, license_name)
    try:
      api = huggingface_hub.HfApi()
      api.create_repo(repo, private=private, exist_ok=True)
      # One commit, so that no reader sees a part of the files.
      api.upload_folder(
        repo_id=repo, folder_path=folder, commit_message='Upload a bundle'
      )
    except Exception as error:  # Errors of the network, the account, the name.
      raise UsageError(
        f'the upload to {arguments.shown(repo)} failed '
        f'({one_line(str(error))[:200]}): check the name, the login and the '
        'network'
      ) from error
  return f'https://huggingface.co/{repo}'
