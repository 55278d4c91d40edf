"""The kinds of catalogues of `tests/retrieval`."""

from tests.retrieval.conftest import case, make_case, table_model  # noqa: F401
