"""Replaces parts of a session."""

import dataclasses
from typing import Any

from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.tiger import TigerRetriever


def with_parts(session: Session, **parts: Any) -> Session:
  """Returns a copy of a session in which `parts` replace its own parts."""
  session = dataclasses.replace(session)
  session.__dict__.update(parts)
  return session


def with_limits(session: Session, **limits: int) -> Session:
  """Returns a copy of a session whose retriever has other limits."""
  retriever = TigerRetriever(
    session.network,
    session.catalog,
    session.config.evaluation.num_beams,
    **limits,
  )
  return with_parts(session, retriever=retriever)
