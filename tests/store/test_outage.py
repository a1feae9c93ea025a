"""A database that goes away, hangs, is locked or full: said in time, nothing lost or doubled, and back by itself."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import make_url, select

from mutirao.cases import adoption
from mutirao.cases.action import Action
from mutirao.cases.cell import Cell
from mutirao.cases.desk import Desk
from mutirao.cases.wording import Pages
from mutirao.detect.engine import Engine
from mutirao.detect.pack import default_pack
from mutirao.errors import StoreError
from mutirao.gate.judge import weigh
from mutirao.gate.refusal import Refusal
from mutirao.policy.version import load_versions
from mutirao.store import audit
from mutirao.store.models import Audit, Case, Decision, Delivery, Notice
from mutirao.store.postgres import Patient, opener
from mutirao.store.store import Store, newest_revision
from tests import postgres
from tests.web import twin

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATIENCE_S = 0.5
MINER = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W"


@pytest.fixture
def own_server() -> Iterator[postgres.Server]:
    """A server that a test may harm."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres.server() as server:
        yield server


def adopted(url: str) -> Store:
    store = Store(url, patience_s=PATIENCE_S)
    store.migrate()
    with store.write() as session:
        adoption.adopt(session, 2, known={1, 2}, effective_from=NOON, now=NOON, by="op", reason="start")
    return store


def desk(store: Store) -> Desk:
    return Desk(store, Engine(default_pack()), load_versions(), Pages("http://x/"), lambda: NOON)


async def run(judge: Desk, kernel: str = "k1", actor: str = "ana") -> str:
    """What the gate says about a miner: the action, or that it was not judged."""
    verdict = await weigh(judge, [Cell(MINER, actor, "ana", "", kernel)], 5)
    assert not verdict.action.runs
    assert verdict.notice is not None
    if verdict.notice.case is None:
        assert verdict.notice == Refusal.NOT_JUDGED.notice
        return "not judged"
    return verdict.action.value


def told(store: Store) -> int:
    """How many decisions there are; each has one notice and one delivery, and the audit holds."""
    with store.read() as session:
        decisions = len(session.scalars(select(Decision)).all())
        assert len(session.scalars(select(Notice)).all()) == decisions
        assert len(session.scalars(select(Delivery)).all()) == decisions
        assert audit.verify(session.scalars(select(Audit).order_by(Audit.id))) is None
    return decisions


async def done_with(*stores: Store) -> None:
    """Close the stores once no thread is left that was given up on and still holds a connection."""
    await asyncio.get_running_loop().shutdown_default_executor()
    for store in stores:
        store.close()


async def test_a_server_that_is_killed_and_comes_back_is_found_again(own_server: postgres.Server) -> None:
    store = adopted(own_server.url("postgres"))
    judge = desk(store)
    assert await run(judge) == Action.STOP

    own_server.kill()
    assert await run(judge) == "not judged"
    own_server.start()

    assert await run(judge) == Action.STOP
    assert told(store) == 2
    await done_with(store)


async def test_a_server_that_hangs_stops_nobody_for_longer_than_the_patience(own_server: postgres.Server) -> None:
    store = adopted(own_server.url("postgres"))
    judge = desk(store)
    assert await run(judge) == Action.STOP

    with own_server.hung():
        assert await asyncio.gather(*(run(judge, f"k{n}") for n in range(8))) == ["not judged"] * 8

    assert await run(judge) == Action.STOP
    assert told(store) == 2
    await done_with(store)


def test_a_server_that_hangs_from_the_start_is_given_up(own_server: postgres.Server) -> None:
    adopted(own_server.url("postgres")).close()
    store = Store(own_server.url("postgres"), PATIENCE_S)
    with own_server.hung(), pytest.raises(StoreError, match="failed"):
        store.check()
    store.check()
    store.close()


def test_a_store_that_is_closed_while_a_thread_opens_a_connection_leaves_none(
    own_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, may_go_on, given = threading.Event(), threading.Event(), []
    connect = opener(make_url(own_server.url("postgres")), PATIENCE_S)

    def slow() -> Patient:
        given.append(connect())
        opened.set()
        assert may_go_on.wait(20)
        return given[0]

    monkeypatch.setattr("mutirao.store.postgres.opener", lambda *_: slow)
    store = Store(own_server.url("postgres"), PATIENCE_S)
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(store.revision)
        assert opened.wait(20)
        store.close()
        may_go_on.set()
        with pytest.raises(StoreError, match="closed"):
            late.result()
    assert given[0].closed


async def test_a_restart_between_two_cells_is_not_noticed(own_server: postgres.Server) -> None:
    store = adopted(own_server.url("postgres"))
    judge = desk(store)
    assert await run(judge) == Action.STOP
    own_server.stop("fast")
    own_server.start()

    assert await run(judge) == Action.STOP
    assert told(store) == 2
    await done_with(store)


async def test_a_lock_that_stays_refuses_and_one_that_goes_is_waited_for(empty_url: str) -> None:
    """Somebody's backup, shell or migration holds the database."""
    store = adopted(empty_url)
    judge = desk(store)
    held, free = threading.Event(), threading.Event()
    other = Store(empty_url)

    def hold() -> None:
        with other.write():
            held.set()
            free.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        assert await run(judge) == "not judged"
    finally:
        free.set()
        holder.join()

    assert await run(judge) == Action.STOP
    assert told(store) == 1
    await done_with(store)
    other.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a file system of one's own needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_full_disk_refuses_and_room_heals(small_disk: Path) -> None:
    store = adopted(f"sqlite:///{small_disk / 'x.sqlite'}")
    judge = desk(store)
    assert await run(judge) == Action.STOP
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass

    refused = 0
    for number in range(200):
        refused += await run(judge, f"k{number}") == "not judged"
        if refused == 3:
            break
    assert refused == 3
    before = told(store)
    filler.unlink()

    assert await run(judge, "after") == Action.STOP
    assert told(store) == before + 1
    await done_with(store)


async def test_pages_answer_503_while_the_database_is_away(own_server: postgres.Server) -> None:
    with twin.house(Path("/nonexistent"), own_server.url("postgres")) as house:
        async with house.browser("ana") as browser:
            assert (await browser.get(f"{twin.PREFIX}me")).status_code == 200
            own_server.stop()
            for path in ("me", "policy", "api/me", "case/M-2026-000001"):
                assert (await browser.get(f"{twin.PREFIX}{path}")).status_code == 503, path
            own_server.start()
            assert (await browser.get(f"{twin.PREFIX}me")).status_code == 200


def together(code: str, arguments: list[tuple[str, ...]]) -> None:
    """Run the code in several processes, which all begin when all are ready."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(audit.__file__).parents[2])},
        )
        for given in arguments
    ]
    for process in running:
        assert process.stdout and process.stdout.readline() == b"ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.close()
    for process in running:
        assert process.stdout
        process.stdout.close()
        assert process.wait(120) == 0


WRITER = """
import sys
from datetime import UTC, datetime
from mutirao.store import audit
from mutirao.store.store import Store
store = Store(sys.argv[1], patience_s=60)
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    with store.write() as session:
        audit.append(session, datetime.now(UTC), "x", actor=None, subject=sys.argv[2], content={"n": number})
"""


def test_many_processes_write_at_once_and_the_chain_holds(store: Store) -> None:
    url = store.url.render_as_string(hide_password=False)
    together(WRITER, [(url, str(number)) for number in range(6)])

    with store.read() as session:
        entries = session.scalars(select(Audit).order_by(Audit.id)).all()
        assert audit.verify(entries) is None
    assert len(entries) == 150
    assert {(entry.subject, (entry.content or {})["n"]) for entry in entries} == {
        (str(writer), number) for writer in range(6) for number in range(25)
    }


def test_a_newer_database_is_refused(empty_url: str) -> None:
    store = Store(empty_url)
    store.migrate()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreError, match=r"9999.*newer"):
        store.migrate()
    store.close()


MIGRATOR = """
import sys
from mutirao.store.store import Store
store = Store(sys.argv[1], patience_s=60)
print("ready", flush=True)
sys.stdin.readline()
store.migrate()
"""


def test_several_that_migrate_at_once_are_all_right(empty_url: str) -> None:
    together(MIGRATOR, [(empty_url,)] * 4)

    store = Store(empty_url)
    assert store.revision() == newest_revision()
    store.close()


@pytest.mark.parametrize("text", ["nul \x00 in it", "half a pair \ud83d", "é 🦆 \u2028"])
def test_every_text_is_kept_by_every_database(store: Store, text: str) -> None:
    with store.write() as session:
        session.add(
            Case(
                member="ana", owner=text, fingerprint="x", category="mining", day=NOON.date(), policy_version=1,
                opened_at=NOON, last_seen_at=NOON,
            )
        )  # fmt: skip
        audit.append(session, NOON, "x", actor=text, subject=None, content={"text": text})

    with store.read() as session:
        kept = session.scalars(select(Case.owner)).one()
        assert kept == text.replace("\x00", "\ufffd").replace("\ud83d", "\ufffd")
        assert audit.verify(session.scalars(select(Audit).order_by(Audit.id))) is None


def test_an_error_never_names_the_password() -> None:
    store = Store("postgresql://ana:do-not-print-me@127.0.0.1:1/x", patience_s=1)
    with pytest.raises(StoreError) as raised:
        store.check()
    assert "do-not-print-me" not in str(raised.value)
    store.close()
