"""The database: opened, migrated, and every write in one serial transaction."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from mutirao.errors import StoreError

BUSY_S = 10


class Store:
    """One database. `read()` and `write()` give a session; a write holds the only write lock until it commits.

    Writers queue because each audit link needs the one before it. Errors come as StoreError.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.engine: Engine = create_engine(self.url, connect_args=self._connect_args(), pool_pre_ping=True)
        if self.url.get_backend_name() == "sqlite":
            self._prepare_sqlite()
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def _connect_args(self) -> dict[str, Any]:
        if self.url.get_backend_name() == "sqlite":
            return {"timeout": BUSY_S, "check_same_thread": False}
        return {}

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

        event.listen(self.engine, "connect", connected)
        event.listen(self.engine, "begin", begin)

    def migrate(self) -> None:
        """Bring the tables to this version's shape; safe to call on every start."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        try:
            with self.engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except SQLAlchemyError as error:
            raise StoreError(_explain(self, error)) from error

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent moment."""
        try:
            with self._sessions() as session:
                yield session
        except SQLAlchemyError as error:
            raise StoreError(_explain(self, error)) from error

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end, all or nothing; one writer at a time."""
        try:
            with self._sessions() as session:
                session.connection(execution_options={"write": True})
                if self.url.get_backend_name() == "postgresql":
                    session.execute(text("LOCK TABLE audit IN EXCLUSIVE MODE"))
                yield session
                session.commit()
        except SQLAlchemyError as error:
            raise StoreError(_explain(self, error)) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def make_shared(url: str) -> None:
    """Make the file of a new SQLite database so that its group may write it; SQLite gives its other files that mode."""
    found = make_url(url)
    if found.get_backend_name() == "sqlite" and found.database:
        with suppress(FileExistsError):
            os.close(os.open(found.database, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660))


def _explain(store: Store, error: SQLAlchemyError) -> str:
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    place = store.url.render_as_string(hide_password=True)
    lowered = cause.lower()
    if "full" in lowered or "no space" in lowered:
        return f"The database {place} can't grow: the disk is full. Free some space; nothing that was told is lost."
    if "readonly" in lowered or "unable to open" in lowered:
        return f"The database {place} can't be opened for writing ({cause}). Check the owner and mode of its folder."
    return f"The database {place} failed: {cause}"
