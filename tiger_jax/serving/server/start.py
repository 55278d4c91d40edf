"""Starts the server from the flags of the command line."""

import os
from pathlib import Path
from typing import Any

from tiger_jax.config.config_dict import expand
from tiger_jax.errors import UsageError
from tiger_jax.serving.server.serve import serve
from tiger_jax.serving.server.settings import Settings

_SHORTEST_TOKEN = 16


def start(folder: Path, flags: dict[str, Any]) -> None:
  """Serves the model of a folder, see `serve`.

  Args:
    folder: The folder of a run or of a bundle.
    flags: The values of the flags of --mode=serve.

  Raises:
    TigerError: A flag is not valid, or the model cannot be served.
  """
  settings = Settings(
    host=flags['host'],
    port=flags['port'],
    admin_port=flags['admin_port'],
    token=_token(flags['token_file'], '--token_file', 'TIGER_JAX_TOKEN'),
    admin_token=_token(
      flags['admin_token_file'], '--admin_token_file', 'TIGER_JAX_ADMIN_TOKEN'
    ),
    demo=flags['serve_demo'],
  )
  root = None
  if flags['models'] is not None:
    root = Path(expand(flags['models'], '--models'))
    if not root.is_dir():
      raise UsageError(f'there is no folder {root}: choose another --models')
  serve(folder, settings, root)


def _token(path: str | None, flag: str, variable: str) -> str | None:
  """Returns the token from a file or an environment variable; None if unset.

  Raises:
    UsageError: The file cannot be read, or the token is not safe.
  """
  where, token = variable, os.environ.get(variable)
  if path is not None:
    where = flag
    try:
      token = Path(expand(path, flag)).read_text(encoding='ascii')
    except (OSError, UnicodeDecodeError, ValueError) as error:
      reason = getattr(error, 'strerror', None) or 'it is not ASCII text'
      raise UsageError(
        f'{flag} is {path!r}, which cannot be read ({reason}): name a text file'
      ) from error
  if token is None:
    return None
  token = token.strip()
  if len(token) < _SHORTEST_TOKEN or not (
    token.isascii() and token.isprintable() and ' ' not in token
  ):
    raise UsageError(
      f'the token of {where} is not safe: use at least {_SHORTEST_TOKEN} ASCII '
      'letters and digits, for example from `openssl rand -hex 16`'
    )
  return token
