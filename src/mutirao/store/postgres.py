"""PostgreSQL as a store: which driver, and how long anybody waits for it.

A server that hangs (stopped, swapping, behind a dead link) keeps its connections open and answers nothing, so limits
that the server keeps don't help. Every wait has an end on this side, and a connection that was given up is closed.
"""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import URL

CONNECT_S = 3


def with_driver(url: URL) -> URL:
    """The same address with psycopg as its driver, where it names PostgreSQL without one."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


class Patient(psycopg.Connection[Any]):
    """A connection that is closed when the server has not answered within `patience_s`."""

    patience_s: float = 10.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """The answer; OperationalError where none comes in time."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s") from None


def opener(url: URL, patience_s: float) -> Callable[[], Patient]:
    """What opens a connection; a password that the URL lacks comes from libpq's own places (PGPASSFILE and so on)."""
    words = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    limits = (
        f"-c statement_timeout={patience_s * 1000:.0f} -c lock_timeout={patience_s * 1000:.0f} "
        f"-c idle_in_transaction_session_timeout={patience_s * 3000:.0f}"
    )
    words["options"] = f"{words.get('options', '')} {limits}".strip()

    def connect() -> Patient:
        connection = Patient.connect(**{"connect_timeout": CONNECT_S} | words)
        connection.patience_s = patience_s
        return connection

    return connect
