"""Sessions of recommenders, changed for tests."""

import dataclasses
from typing import Any

from tiger_jax.recommenders.session import Session


def with_parts(session: Session, **parts: Any) -> Session:
  """Returns a session whose cached parts, such as `retriever`, are given."""
  session = dataclasses.replace(session)
  session.__dict__.update(parts)
  return session
