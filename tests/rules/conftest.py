"""The court of tests/cases, on SQLite and PostgreSQL."""

from tests.cases.conftest import court, open_court

__all__ = ["court", "open_court"]
