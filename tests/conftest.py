"""Databases for tests: SQLite in a folder, and a real PostgreSQL server where its programs are installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mutirao.store.store import Store
from tests import postgres
from tests.database import migrated


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres.server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: postgres.Server) -> str:
    """A database with all tables, which others are copied from: quicker than migrating each."""
    postgres_server.execute("CREATE DATABASE migrated TEMPLATE template0")
    store = Store(postgres_server.url("migrated"))
    store.migrate()
    store.close()
    return "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database, of both kinds in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'x.sqlite'}"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with all its tables, in both kinds of database in turn."""
    if request.param == "sqlite":
        store = migrated(tmp_path / "x.sqlite")
        yield store
        store.close()
        return
    template: str = request.getfixturevalue("migrated_template")
    server: postgres.Server = request.getfixturevalue("postgres_server")
    url = server.fresh(template)
    store = Store(url)
    yield store
    store.close()
    server.drop(url)
