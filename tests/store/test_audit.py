"""The audit: a changed, missing or moved entry is found; erased personal data is not a fault."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.orm import make_transient

from mutirao.store import audit
from mutirao.store.audit import Broken
from mutirao.store.models import Audit
from mutirao.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def entries(store: Store) -> list[Audit]:
    for number in range(5):
        with store.write() as session:
            audit.append(session, NOON, "test", actor="a", subject="üser", content={"n": number})
    with store.read() as session:
        found = list(session.scalars(select(Audit).order_by(Audit.id)))
        for entry in found:
            session.expunge(entry)
            make_transient(entry)
    return found


def test_an_untouched_chain_holds(entries: list[Audit]) -> None:
    assert audit.verify(entries) is None
    assert audit.verify([]) is None


def flip_content(entries: list[Audit]) -> None:
    entries[2].content = {**(entries[2].content or {}), "n": 99}


def flip_column(entries: list[Audit]) -> None:
    entries[2].actor = "somebody else"


def flip_time(entries: list[Audit]) -> None:
    entries[2].at = datetime(2026, 11, 22, 13, tzinfo=UTC)


def flip_hash(entries: list[Audit]) -> None:
    entries[2].hash = "0" + entries[2].hash[1:] if entries[2].hash[0] != "0" else "1" + entries[2].hash[1:]


def drop(entries: list[Audit]) -> None:
    del entries[2]


def swap(entries: list[Audit]) -> None:
    entries[2], entries[3] = entries[3], entries[2]


@pytest.mark.parametrize("harm", [flip_content, flip_column, flip_time, flip_hash, drop, swap])
def test_harm_is_found_where_it_is(entries: list[Audit], harm: Callable[[list[Audit]], None]) -> None:
    harm(entries)

    assert audit.verify(entries) == Broken(3, audit.verify(entries).reason)  # type: ignore[union-attr]


def test_erased_personal_data_leaves_the_chain_whole(entries: list[Audit]) -> None:
    entries[1].salt = entries[1].content = None

    assert audit.verify(entries) is None
