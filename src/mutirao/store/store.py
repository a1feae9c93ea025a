"""The database: opened, migrated, and every write in one serial transaction."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import OperationalError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from mutirao.errors import StoreError
from mutirao.store import postgres

PATIENCE_S = 10.0
MIGRATION_PATIENCE_S = 600.0
_MIGRATING = threading.Lock()
"""Alembic keeps its context in globals: two threads would use each other's connection."""


class Store:
    """One database. `read()` and `write()` give a session; a write holds the only write lock until it commits.

    Writers queue because each audit link needs the one before it. Errors come as StoreError; so does a database that
    has not answered one statement within `patience_s`, or that was locked for so long.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        self.url = postgres.with_driver(make_url(url))
        self.patience_s = patience_s
        self.errors = 0
        self._open: WeakSet[Any] = WeakSet()
        self._opening = threading.Lock()
        self._closed = False
        details: dict[str, Any] = {"pool_pre_ping": True}
        if self.url.database:
            details["pool_timeout"] = patience_s
        if self.is_sqlite:
            details["connect_args"] = {"timeout": patience_s, "check_same_thread": False}
        elif self.url.get_backend_name() == "postgresql":
            opened = postgres.opener(self.url, patience_s)

            details["creator"] = lambda: self._kept(opened())
        self.engine: Engine = create_engine(self.url, **details)
        if self.is_sqlite:
            self._prepare_sqlite()
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """True for the database that is a file."""
        return self.url.get_backend_name() == "sqlite"

    def _prepare_sqlite(self) -> None:
        """WAL, so that readers never wait; explicit BEGIN, because the driver's own is too late for us."""

        def connected(connection: Any, _record: object) -> None:
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

        def begin(connection: Any) -> None:
            immediate = connection.get_execution_options().get("write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        def returned(connection: Any, _record: object) -> None:
            # A commit that a deferred key refuses leaves SQLite's transaction open, and SQLAlchemy takes it for over.
            if connection is not None and connection.in_transaction:
                connection.rollback()

        event.listen(self.engine, "connect", connected)
        event.listen(self.engine, "checkin", returned)
        event.listen(self.engine, "begin", begin)

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to this version's shape; safe to call on every start, and by two at once.

        StoreError where a newer Mutirão wrote the database.
        """
        config = _alembic()
        with (
            _MIGRATING,
            self.explained(),
            self.engine.connect().execution_options(write=True) as connection,
            self._without_foreign_keys(connection),
        ):
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(7168473)"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, revision)
            except CommandError as error:
                found = MigrationContext.configure(connection).get_current_revision()
                raise StoreError(
                    f"The database {self.place} has the shape {found}, which this Mutirão does not know: "
                    "a newer one wrote it. Update Mutirão, or restore the backup from before."
                ) from error
            connection.commit()

    @contextmanager
    def _without_foreign_keys(self, connection: Connection) -> Iterator[None]:
        """SQLite alone: it changes a table by rebuilding it, which its checks of keys would take for a loss."""
        if not self.is_sqlite:
            yield
            return
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            yield
        finally:
            connection.rollback()
            raw.execute("PRAGMA foreign_keys=ON")

    def revision(self) -> str | None:
        """The shape that the tables have now, None for an empty database."""
        with self.explained(), self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    @property
    def place(self) -> str:
        """The database's address without its password."""
        return self.url.render_as_string(hide_password=True)

    def check(self) -> None:
        """StoreError where the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT count(*) FROM adoption"))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent moment."""
        with self.explained(), self._sessions() as session:
            if not self.is_sqlite:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end, all or nothing; one writer at a time.

        What took longer than `patience_s` is rolled back: whoever waited has been told that it failed.
        """
        began = time.monotonic()
        with self.explained(), self._sessions() as session:
            session.connection(execution_options={"write": True})
            if not self.is_sqlite:
                session.execute(text("LOCK TABLE audit IN EXCLUSIVE MODE"))
            yield session
            if time.monotonic() - began > self.patience_s:
                session.rollback()
                raise StoreError(f"The database {self.place} was too slow: nothing was written.")
            session.commit()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the database as StoreError."""
        try:
            yield
        except SQLAlchemyError as error:
            self.errors += 1
            raise StoreError(_explain(self, error)) from error

    def close(self) -> None:
        """Close every connection, those too that a thread still uses or is about to open: it meets a StoreError."""
        self.engine.dispose()
        with self._opening:
            self._closed = True
            for connection in self._open:
                connection.close()

    def _kept(self, connection: Any) -> Any:
        with self._opening:
            self._open.add(connection)
            if self._closed:
                connection.close()
                raise OperationalError("the store was closed meanwhile")
        return connection


def make_shared(url: str) -> None:
    """Make the file of a new SQLite database so that its group may write it; SQLite gives its other files that mode."""
    found = make_url(url)
    if found.get_backend_name() == "sqlite" and found.database:
        with suppress(FileExistsError):
            os.close(os.open(found.database, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660))


def newest_revision() -> str:
    """The shape that this version gives the tables."""
    return str(script_directory().get_current_head())


def script_directory() -> ScriptDirectory:
    """The migrations of this version."""
    return ScriptDirectory.from_config(_alembic())


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _explain(store: Store, error: SQLAlchemyError) -> str:
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    lowered = cause.lower()
    if "is full" in lowered or "no space" in lowered:
        return (
            f"The database {store.place} can't grow: the disk is full. Free some space; nothing that was told is lost."
        )
    if "readonly" in lowered or "unable to open" in lowered:
        return (
            f"The database {store.place} can't be opened for writing ({cause}). Check the owner and mode of its folder."
        )
    return f"The database {store.place} failed: {cause}"
