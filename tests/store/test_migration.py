"""Migrating: what a database of the version before holds is kept, bound together, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from mutirao.errors import StoreError
from mutirao.store.consequence import Member
from mutirao.store.models import Base, Decision, Notice
from mutirao.store.store import Store


@pytest.fixture
def store(empty_url: str) -> Iterator[Store]:
    store = Store(empty_url)
    yield store
    store.close()


def to(store: Store, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "src/mutirao/store/migrations"))
    with store.engine.connect() as connection, store._without_foreign_keys(connection):
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
        connection.commit()


OLD = """
INSERT INTO "case" VALUES (1, 'ana', 'ana', 'f', 'mining', '2026-11-20', 2, '2026-11-20 12:00:00', 1, '2026-11-20 12:00:00');
INSERT INTO "case" VALUES (2, 'ana', 'ana', 'f', 'mining', '2026-11-21', 2, '2026-11-21 12:00:00', 1, '2026-11-21 12:00:00');
INSERT INTO notice VALUES (1, 1, 'ana', '2026-11-20 12:00:00', 'stop', '{}');
INSERT INTO notice VALUES (2, 2, 'ana', '2026-11-21 12:00:00', 'warn', '{}');
INSERT INTO delivery VALUES (1, 1, '2026-11-20 12:00:00', 'notebook', 'x');
INSERT INTO decision VALUES (1, 1, 1, '2026-11-20 12:00:00', 'machine', 'stop', 2, 'x');
INSERT INTO decision VALUES (2, 2, 2, '2026-11-21 12:00:00', 'machine', 'warn', 2, 'x')
"""


def test_what_was_there_is_kept_and_bound(store: Store) -> None:
    to(store, "0001")
    with store.engine.begin() as connection:
        for statement in OLD.strip().split(";"):
            connection.execute(text(statement))

    store.migrate()

    with store.read() as session:
        notices = list(session.scalars(select(Notice).order_by(Notice.id)))
        decisions = list(session.scalars(select(Decision).order_by(Decision.id)))
        assert [notice.decided for notice in notices] == [decision.key for decision in decisions]
        assert len({notice.key for notice in notices}) == 2
        assert session.scalars(select(Member.active_days)).one() == 2
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_it_goes_back_and_forth(store: Store) -> None:
    store.migrate()
    to(store, "0001", down=True)
    store.migrate()

    with store.read() as session:
        assert session.scalars(select(Member)).all() == []


INSERT_NOTICE = """INSERT INTO notice (id, case_id, member, written_at, action, texts, "key", decided)
VALUES (7, 1, 'ana', '2026-11-20 12:00:00', '{action}', '{{}}', 'n', {decided})"""
INSERT_DECISION = """INSERT INTO decision (id, case_id, notice_id, at, by, action, policy_version, reason, "key")
VALUES (7, 1, 7, '2026-11-20 12:00:00', 'machine', 'stop', 2, 'x', 'd')"""


def test_neither_notice_nor_decision_is_taken_alone(store: Store) -> None:
    """Rule 1, by the database itself: the end of the transaction asks for both."""
    to(store, "0001")
    with store.engine.begin() as connection:
        connection.execute(text(OLD.strip().split(";")[0]))
    store.migrate()

    with pytest.raises(StoreError, match=r"FOREIGN KEY|foreign key"), store.write() as session:
        session.execute(text(INSERT_NOTICE.format(action="stop", decided="'d'")))
    with pytest.raises(StoreError, match="a_notice_has_its_decision"), store.write() as session:
        session.execute(text(INSERT_NOTICE.format(action="stop", decided="NULL")))
    with pytest.raises(StoreError, match=r"FOREIGN KEY|foreign key"), store.write() as session:
        session.execute(text(INSERT_DECISION))
    with store.write() as session:
        session.execute(text(INSERT_NOTICE.format(action="stop", decided="'d'")))
        session.execute(text(INSERT_DECISION))
    with store.read() as session:
        assert [notice.id for notice in session.scalars(select(Notice))] == [7]
