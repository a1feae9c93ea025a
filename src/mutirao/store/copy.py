"""A database as lines of JSON, the same from SQLite and PostgreSQL: what a backup holds, and what fills an empty one.

The first line names the shape; then for each table a header `{"table", "columns", "kinds"}` and its rows as lists, in
an order in which foreign keys hold. All of it is one moment.
"""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import IO, Any

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    inspect,
    null,
    select,
    text,
)
from sqlalchemy.schema import sort_tables_and_constraints

from mutirao.errors import StoreError
from mutirao.store.models import storable

BATCH = 1_000
VERSIONS = "alembic_version"


def dump(connection: Connection, file: IO[str]) -> None:
    """Write every table; the connection's transaction is the moment."""
    tables = MetaData()
    tables.reflect(connection)
    ordered = [table for table in _ordered(tables) if table.name != VERSIONS]
    _line(file, {"format": 1, "revision": _revision(connection)})
    for table in ordered:
        kinds = [_kind(column.type) for column in table.columns]
        _line(file, {"table": table.name, "columns": [column.name for column in table.columns], "kinds": kinds})
        wanted = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=BATCH)
        with connection.execute(wanted) as rows:
            for row in rows:
                _line(file, [_out(kind, value) for kind, value in zip(kinds, row, strict=True)])
    _line(file, {"end": True})


def _ordered(tables: MetaData) -> list[Table]:
    """The tables, each after those that its keys name; deferred keys, which may form a ring, count at the commit."""
    by_keys: Any = sort_tables_and_constraints  # carries no types
    found = by_keys(tables.tables.values(), lambda key: True if key.deferrable else None)
    return [table for table, _ in found if table is not None]


def revision_of(file: IO[str]) -> str:
    """The shape of the tables in a dump; StoreError where it is none."""
    first = json.loads(file.readline() or "null")
    if not isinstance(first, dict) or first.get("format") != 1:
        raise StoreError("This is no copy of a database, or one that a newer Mutirão wrote.")
    return str(first["revision"])


def load(connection: Connection, file: IO[str]) -> None:
    """Fill a database of the same shape, which is emptied first."""
    tables = MetaData()
    tables.reflect(connection)
    revision = revision_of(file)
    if revision != _revision(connection):
        raise StoreError(
            f"The copy has the shape {revision}, the tables have {_revision(connection)}: "
            "restore it with the version that wrote it, then run mutirao upgrade."
        )
    for table in reversed(_ordered(tables)):
        if table.name != VERSIONS:
            connection.execute(table.delete())
    for name, columns, rows in _tables(file):
        if name not in tables.tables:
            if next(rows, None) is not None:
                raise StoreError(f"The copy holds a table {name}, which these tables lack.")
            continue
        _fill(connection, tables.tables[name], columns, rows)
    _raise_sequences(connection, tables)


def chain(file: IO[str]) -> Iterator[SimpleNamespace]:
    """The audit's entries of a dump, in order, as `audit.verify` takes them."""
    revision_of(file)
    for name, columns, rows in _tables(file):
        for row in rows:
            if name == "audit":
                entry = SimpleNamespace(**dict(zip(columns, row, strict=True)))
                entry.at = entry.at.replace(tzinfo=UTC)
                yield entry


def _tables(file: IO[str]) -> Iterator[tuple[str, list[str], Iterator[list[Any]]]]:
    """Each table's name, columns and rows; the rows must be read before the next table is asked for."""
    header = _read(file)
    while "end" not in header:
        following: dict[str, Any] = {}
        kinds = header["kinds"]

        def rows(kinds: list[str] = kinds, following: dict[str, Any] = following) -> Iterator[list[Any]]:
            while isinstance(row := _read(file), list):
                yield [_in(kind, value) for kind, value in zip(kinds, row, strict=True)]
            following.update(row)

        found = rows()
        yield str(header["table"]), header["columns"], found
        for _ in found:
            pass
        header = following


def _read(file: IO[str]) -> Any:
    line = file.readline()
    if not line:
        raise StoreError("The copy of the database ends too early: it was cut off.")
    return json.loads(line)


def _fill(connection: Connection, table: Table, columns: list[str], rows: Iterator[list[Any]]) -> None:
    clean: list[Callable[[Any], Any]] = [_cleaner(table, name) for name in columns]
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append({name: fit(value) for name, fit, value in zip(columns, clean, row, strict=True)})
        if len(part) == BATCH:
            connection.execute(table.insert(), part)
            part = []
    if part:
        connection.execute(table.insert(), part)


def _cleaner(table: Table, name: str) -> Callable[[Any], Any]:
    kind = table.columns[name].type
    if isinstance(kind, JSON):
        return lambda value: null() if value is None else value
    if isinstance(kind, Boolean):
        return lambda value: None if value is None else bool(value)
    return lambda value: storable(value) if isinstance(value, str) else value


def _raise_sequences(connection: Connection, tables: MetaData) -> None:
    """PostgreSQL's counters don't see ids that were given; SQLite's do."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables.tables.values():
        for column in table.primary_key.columns:
            if not isinstance(column.type, Integer):
                continue
            name = connection.scalar(
                text("SELECT pg_get_serial_sequence(quote_ident(:table), :column)"),
                {"table": table.name, "column": column.name},
            )
            highest = connection.scalar(select(column).order_by(column.desc()).limit(1))
            if name and highest:
                connection.execute(text("SELECT setval(:name, :value)"), {"name": name, "value": highest})


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSIONS):
        raise StoreError("The database is empty: start the service once, or name another one.")
    return str(connection.scalar(text(f"SELECT version_num FROM {VERSIONS}")))  # noqa: S608 - a constant


def _kind(column_type: Any) -> str:
    if isinstance(column_type, DateTime):
        return "datetime"
    if isinstance(column_type, Date):
        return "date"
    return "bytes" if isinstance(column_type, LargeBinary) else ""


def _out(kind: str, value: Any) -> Any:
    if value is None or not kind:
        return value
    return base64.b64encode(value).decode() if kind == "bytes" else value.isoformat()


def _in(kind: str, value: Any) -> Any:
    if value is None or not kind:
        return value
    match kind:
        case "bytes":
            return base64.b64decode(value)
        case "date":
            return date.fromisoformat(value)
    return datetime.fromisoformat(value)


def _line(file: IO[str], value: Any) -> None:
    file.write(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
