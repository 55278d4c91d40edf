"""Replaces parts of a session."""

import dataclasses
from typing import Any

from tiger_jax.recommenders.session import Session


def with_parts(session: Session, **parts: Any) -> Session:
  """Returns a copy of a session in which `parts` replace its own parts."""
  session = dataclasses.replace(session)
  session.__dict__.update(parts)
  return session
