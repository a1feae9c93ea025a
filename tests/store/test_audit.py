"""The audit: a changed, missing or moved entry is found; erased personal data is not a fault, destroyed data is."""

import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, null, select, update
from sqlalchemy.orm import make_transient

from mutirao.errors import StoreError
from mutirao.store import audit, heads
from mutirao.store.audit import Broken
from mutirao.store.models import Audit
from mutirao.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def write(store: Store, count: int = 5) -> None:
    for number in range(count):
        with store.write() as session:
            audit.append(session, NOON, "test", actor="a", subject="üser", content={"n": number})


@pytest.fixture
def entries(store: Store) -> list[Audit]:
    write(store)
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


def blank(entries: list[Audit]) -> None:
    entries[2].salt = entries[2].content = None


@pytest.mark.parametrize("harm", [flip_content, flip_column, flip_time, flip_hash, drop, swap, blank])
def test_harm_is_found_where_it_is(entries: list[Audit], harm: Callable[[list[Audit]], None]) -> None:
    harm(entries)

    assert audit.verify(entries) == Broken(3, audit.verify(entries).reason)  # type: ignore[union-attr]


@pytest.mark.parametrize("column", ["salt", "commitment", "previous", "hash", "act", "actor", "subject"])
@given(place=st.integers(min_value=0), bit=st.integers(0, 6))
def test_every_flipped_bit_is_found(column: str, place: int, bit: int) -> None:
    chain = made(3)
    text = getattr(chain[1], column)
    at = place % len(text)
    setattr(chain[1], column, text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1 :])

    assert audit.verify(chain) is not None


def made(count: int) -> list[Audit]:
    """A chain without a database."""
    chain: list[Audit] = []
    previous = audit.GENESIS
    for number in range(1, count + 1):
        content = {"act": "test", "actor": "ana", "subject": "bia", "n": number}
        commitment = audit.commit("salt", content)
        entry = Audit(
            id=number, at=NOON, actor="ana", act="test", subject="bia", salt="salt", content=content,
            commitment=commitment, previous=previous, hash=audit.link(previous, number, NOON, commitment),
        )  # fmt: skip
        chain.append(entry)
        previous = entry.hash
    return chain


# Erasure


def test_erased_entries_hold_because_the_chain_names_them(store: Store) -> None:
    write(store, 6)
    with store.write() as session:
        assert audit.erase(session, [2, 3, 5], NOON, actor="cli:root", why="asked for") == 3

    with store.read() as session:
        assert audit.verify(audit.entries(session)) is None
        gone = session.scalars(select(Audit).where(Audit.id.in_([2, 3, 5]))).all()
        assert {(e.salt, e.content, e.actor, e.subject) for e in gone} == {(None, None, None, None)}
        last = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(1)).one()
        assert last.content is not None
        assert (last.act, last.content["entries"]) == ("privacy.erase", [[2, 3], [5, 5]])


def test_erasing_twice_or_nothing_leaves_no_trace(store: Store) -> None:
    write(store)
    with store.write() as session:
        audit.erase(session, [1], NOON, actor="x", why="x")
    with store.write() as session:
        assert audit.erase(session, [1, 99], NOON, actor="x", why="x") == 0
    with store.read() as session:
        assert audit.verify(audit.entries(session)) is None
        assert len(list(audit.entries(session))) == 6


def test_an_erasure_itself_is_never_erased(store: Store) -> None:
    write(store)
    with store.write() as session:
        audit.erase(session, [1], NOON, actor="x", why="x")
    with store.write() as session:
        assert audit.erase(session, [6], NOON, actor="x", why="x") == 0


def test_more_destroyed_than_an_erasure_names_is_found(store: Store) -> None:
    write(store)
    with store.write() as session:
        audit.erase(session, [2, 3], NOON, actor="x", why="x")
    with store.write() as session:
        blank = {"salt": None, "content": null(), "act": "erased", "actor": None, "subject": None}
        session.execute(update(Audit).where(Audit.id == 4).values(**blank))
    with store.read() as session:
        found = audit.verify(audit.entries(session))
    assert found is not None
    assert (found.number, found.reason) == (4, "its content is gone, and no erasure names it")


def test_an_erased_entry_tells_nothing_that_nobody_vouches_for(store: Store) -> None:
    write(store)
    with store.write() as session:
        audit.erase(session, [2], NOON, actor="x", why="x")
    with store.write() as session:
        session.execute(update(Audit).where(Audit.id == 2).values(act="policy.adopt"))
    with store.read() as session:
        assert audit.verify(audit.entries(session)) == Broken(
            2, "its content is gone, but its columns still tell something"
        )


# Heads


def signed(store: Store, key: heads.Key, path: Path) -> None:
    with store.read() as session:
        last = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(1)).one()
    heads.append(path, key.sign(last.id, last.hash, NOON))


def checked(store: Store, key: heads.Key, path: Path) -> Broken | None:
    with store.read() as session:
        return audit.verify(audit.entries(session), heads.trusted(heads.read(path), heads.public_key(key.public)))


@pytest.fixture
def key(tmp_path: Path) -> heads.Key:
    return heads.Key.make(tmp_path / "key")


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = heads.Key.make(tmp_path / "key")

    assert heads.Key.make(tmp_path / "key").public == first.public
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_truncated_tail_is_found_through_the_heads(store: Store, key: heads.Key, tmp_path: Path) -> None:
    write(store)
    signed(store, key, tmp_path / "heads")
    assert checked(store, key, tmp_path / "heads") is None
    with store.write() as session:
        session.execute(delete(Audit).where(Audit.id > 3))

    with store.read() as session:
        assert audit.verify(audit.entries(session)) is None
    assert checked(store, key, tmp_path / "heads") == Broken(4, "entry 4 is missing: a head was signed at entry 5")


def test_a_chain_written_anew_is_found_through_the_heads(store: Store, key: heads.Key, tmp_path: Path) -> None:
    write(store)
    signed(store, key, tmp_path / "heads")
    with store.write() as session:
        session.execute(delete(Audit))
    write(store, 7)

    with store.read() as session:
        assert audit.verify(audit.entries(session)) is None
    found = checked(store, key, tmp_path / "heads")
    assert found is not None
    assert (found.number, "written anew" in found.reason) == (5, True)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda head: head | {"hash": "0" * 64}, "wrong signature"),
        (lambda head: head | {"number": 4}, "wrong signature"),
        (lambda head: head | {"signed_at": "2020-01-01"}, "wrong signature"),
        (lambda head: head | {"signature": "bm90IG9uZQ=="}, "wrong signature"),
        (lambda head: {"number": 4}, "no signed head"),
    ],
)
def test_a_head_that_was_changed_is_found(
    store: Store, key: heads.Key, tmp_path: Path, harm: Callable[[dict[str, object]], dict[str, object]], words: str
) -> None:
    path = tmp_path / "heads"
    write(store)
    signed(store, key, path)
    path.write_text(json.dumps(harm(json.loads(path.read_text()))) + "\n")

    with pytest.raises(StoreError, match=words):
        checked(store, key, path)


def test_another_key_is_not_taken_for_ours(store: Store, key: heads.Key, tmp_path: Path) -> None:
    write(store)
    signed(store, key, tmp_path / "heads")

    with pytest.raises(StoreError, match="wrong signature"):
        checked(store, heads.Key.make(tmp_path / "other"), tmp_path / "heads")
    with pytest.raises(StoreError, match="no public key"):
        heads.public_key("ed25519:not base64")


def test_a_head_that_was_torn_is_passed_over_and_the_next_begins_a_line(
    store: Store, key: heads.Key, tmp_path: Path
) -> None:
    path = tmp_path / "heads"
    write(store)
    signed(store, key, path)
    with path.open("ab") as file:
        file.write(b'{"number": 9, "ha')
    assert [head.number for head in heads.read(path)] == [5]

    write(store, 1)
    signed(store, key, path)
    assert [head.number for head in heads.read(path)] == [5, 6]


# Size


def filled(store: Store, count: int) -> None:
    """A long chain, written at once."""
    previous, rows = audit.GENESIS, []
    with store.engine.execution_options(write=True).begin() as connection:
        for number in range(1, count + 1):
            content = {"act": "cell.warn", "actor": None, "subject": f"m{number % 300}", "case": f"M-2026-{number:06d}"}
            commitment = audit.commit("salt", content)
            rows.append(
                {
                    "id": number, "at": NOON, "actor": None, "act": "cell.warn", "subject": content["subject"],
                    "salt": "salt", "content": content, "commitment": commitment, "previous": previous,
                    "hash": (previous := audit.link(previous, number, NOON, commitment)),
                }
            )  # fmt: skip
            if len(rows) == 5000 or number == count:
                connection.execute(insert(Audit), rows)
                rows.clear()


@pytest.mark.parametrize("count", [30_000, pytest.param(1_000_000, marks=pytest.mark.campaign)])
def test_a_long_chain_is_checked_in_bounded_memory(store: Store, count: int) -> None:
    filled(store, count)
    tracemalloc.start()
    try:
        with store.read() as session:
            check = audit.Check()
            for entry in audit.entries(session):
                assert check.take(entry) is None
            assert check.end() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert check.number == count
    assert peak < 30_000_000
