"""The store: all or nothing, one writer at a time, and clear words when the disk is full."""

import threading
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.errors import StoreError
from mutirao.store import audit
from mutirao.store.models import Audit, Case, Decision, Tally
from mutirao.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def case(session: Session) -> Case:
    made = Case(
        member="ana", owner="ana", fingerprint="mining:x", category="mining", day=NOON.date(), policy_version=1,
        opened_at=NOON, last_seen_at=NOON,
    )  # fmt: skip
    session.add(made)
    session.flush()
    return made


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.migrate()

    with store.read() as session:
        assert session.scalars(select(Case)).all() == []


def test_models_and_migrations_agree(store: Store) -> None:
    """What Alembic would still change is nothing."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from mutirao.store.models import Base

    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_decision_without_its_notice_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match=r"(?i)not[- ]null"), store.write() as session:
        session.add(
            Decision(case_id=case(session).id, at=NOON, by="machine", action="stop", policy_version=1, reason="x")
        )

    with store.read() as session:
        assert session.scalars(select(Case)).all() == []


def test_a_machine_can_not_suspend(store: Store) -> None:
    from mutirao.store.models import Notice

    with pytest.raises(StoreError, match="suspend_needs_a_person"), store.write() as session:
        made = case(session)
        notice = Notice(case_id=made.id, member="ana", written_at=NOON, action="suspend", texts={}, decided="k")
        session.add(notice)
        session.flush()
        session.add(
            Decision(case_id=made.id, notice_id=notice.id, at=NOON, by="machine", action="suspend", policy_version=1, reason="x", key="k")
        )  # fmt: skip


def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no time zone"), store.write() as session:
        audit.append(session, datetime(2026, 1, 1), "x", actor=None, subject=None, content={})  # noqa: DTZ001


def test_times_come_back_as_utc(store: Store) -> None:
    with store.write() as session:
        number = case(session).id
    with store.read() as session:
        found = session.get_one(Case, number)
        assert found.opened_at == NOON
        assert found.number == f"M-2026-{number:06d}"


def test_writers_queue_and_the_chain_stays_whole(store: Store) -> None:
    def write() -> None:
        for _ in range(20):
            with store.write() as session:
                audit.append(session, NOON, "x", actor=None, subject=None, content={})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with store.read() as session:
        entries = list(session.scalars(select(Audit).order_by(Audit.id)))
    assert len(entries) == 80
    assert audit.verify(entries) is None


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.sqlite'}")
    store.migrate()
    with store.write() as session:
        session.add(Tally(day=date(2026, 1, 1), rule="x", rule_version="1", level="note", count=1))
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    big = {"x": "y" * 1_000_000}

    # SQLite answers a full disk and a full quota of pages with the same error.
    from sqlalchemy import event

    event.listen(store.engine, "checkout", lambda c, *_: c.execute(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(StoreError, match="disk is full"), store.write() as session:
        audit.append(session, NOON, "x", actor=None, subject=None, content=big)

    with store.read() as session:
        assert session.scalars(select(Tally.count)).one() == 1
        assert session.scalars(select(Audit)).all() == []


def test_an_unreachable_database_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        Store(f"sqlite:///{tmp_path / 'missing' / 'x.sqlite'}").migrate()
