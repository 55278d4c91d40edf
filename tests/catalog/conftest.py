"""Imports the catalog fixtures of `tests/retrieval`."""

from tests.retrieval.conftest import case, make_case, table_model  # noqa: F401
