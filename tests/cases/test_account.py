"""What follows for an account: the ladder, its ends, and the restriction that a running kernel meets."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from mutirao.cases import member
from mutirao.cases.action import Action
from mutirao.cases.board import STALE_S, Board
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.ladder import Scope
from mutirao.detect.finding import Level
from mutirao.errors import StoreError
from mutirao.fairness import Cases
from mutirao.store.consequence import Letter, Member, Sanction, Strike
from mutirao.store.models import Case, Decision, Delivery, Notice
from tests.cases.court import NOON, Court


async def test_a_first_matter_brings_its_notice_and_nothing_else(court: Court) -> None:
    """Rule 2: warn first."""
    assert (await court.run("p2p")).action is Action.STOP

    assert court.strikes() == 0
    assert court.count(Sanction) == 0


async def test_harm_in_progress_is_a_strike_at_once_but_touches_no_account(court: Court) -> None:
    verdict = await court.run("mining")

    assert court.strikes() == 1
    assert court.count(Sanction) == 0
    assert "number 1 of those that live; it is gone on 2027-02-20" in verdict.notice.text().consequence  # type: ignore[union-attr]
    assert "Only this cell was not run" in verdict.notice.text().consequence  # type: ignore[union-attr]


async def test_one_case_is_one_strike_however_often(court: Court) -> None:
    for _ in range(60):
        await court.run("mining")

    assert court.strikes() == 1
    assert court.count(Case) == 1


async def test_one_cell_is_one_strike_whatever_is_in_it(court: Court) -> None:
    await court.run("mining dos")

    assert court.count(Case) == 2
    assert court.strikes() == 1


async def test_gpu_then_compute_then_longer(court: Court) -> None:
    await court.run("mining/a")
    verdict = await court.run("mining/b")

    assert verdict.action is Action.STOP
    assert verdict.notice is not None
    assert verdict.notice.action is Action.RESTRICT
    gpu = court.held(Scope.GPU)
    assert gpu is not None
    assert gpu.ends_at == NOON + timedelta(days=7)
    assert court.held(Scope.COMPUTE) is None
    assert "GPUs are restricted from 2026-11-22 12:00 to 2026-11-29 12:00" in verdict.notice.text().consequence
    assert "untouched" not in verdict.notice.text().consequence

    await court.run("mining/c")
    compute = court.held(Scope.COMPUTE)
    assert compute is not None
    assert compute.ends_at == NOON + timedelta(days=3)
    court.later(days=3)
    assert (await court.run("1 + 1")).action is Action.ALLOW
    await court.run("mining/d")
    again = court.held(Scope.COMPUTE)
    assert again is not None
    assert again.ends_at - court.now == timedelta(days=6)
    with court.store.read() as session:
        assert set(session.scalars(select(Sanction.by))) == {"machine"}
        assert set(session.scalars(select(Decision.action))) == {"stop", "restrict"}


async def test_a_restricted_member_s_cell_is_refused_with_end_and_appeal(court: Court) -> None:
    for rule in "abc":
        await court.run(f"mining/{rule}")
    decided = court.count(Decision)

    verdict = await court.run("1 + 1")

    assert verdict.action is Action.STOP
    text = verdict.notice.text("en")  # type: ignore[union-attr]
    assert text.title == "Not run: running code is restricted for you until 2026-11-25 12:00 (UTC)"
    assert "appeal with one click" in text.next_step
    assert "you can read and download all of them" in text.consequence
    assert text.links[0][1].endswith(f"case/{verdict.notice.case}")  # type: ignore[union-attr]
    assert court.count(Decision) == decided


async def test_whoever_shares_a_restricted_owner_s_server_learns_no_case(court: Court) -> None:
    for rule in "abc":
        await court.run(f"mining/{rule}")

    verdict = await court.run("1 + 1", actor="bia", owner="ana")

    assert verdict.action is Action.STOP
    assert verdict.notice is not None
    assert verdict.notice.case is None
    assert "M-2026" not in verdict.notice.text().plain()
    assert (await court.run("1 + 1", actor="bia")).action is Action.ALLOW


async def test_a_day_is_one_strike_as_shipped(open_court: Callable[[Cases], Court]) -> None:
    """Whoever tries everything out in one afternoon is stopped each time, and not pushed up the ladder."""
    court = open_court(Cases())
    for code in ("mining", "dos", "p2p", "proxy", "deepfake"):
        assert (await court.run(code)).action is Action.STOP
    assert court.strikes() == 1
    assert court.count(Sanction) == 0

    court.later(days=1)
    await court.run("p2p")

    assert court.held(Scope.GPU) is not None


async def test_strikes_decay(court: Court) -> None:
    await court.run("mining/a")
    court.later(days=90)
    assert court.strikes() == 0

    await court.run("mining/b")

    assert court.strikes() == 1
    assert court.count(Sanction) == 0


async def test_unknown_actors_hold_and_warn_never_strike(court: Court) -> None:
    for code in ("remote-access", "file-hosting/x"):
        assert (await court.run(code)).action is Action.HOLD
    court.reader.level = Level.WARN
    assert (await court.run("mining/w")).action is Action.WARN
    court.reader.level = Level.STOP
    for rule in "abcd":
        verdict = await court.desk.judge(Cell(f"mining/{rule}", None, "bia", "", "k"))
        assert verdict.action is Action.STOP

    assert court.count(Strike) == 0
    assert court.count(Sanction) == 0


async def test_a_restriction_is_written_with_its_letters(court: Court) -> None:
    await court.run("mining/a")
    await court.run("mining/b")

    with court.store.read() as session:
        made = session.scalars(select(Decision).where(Decision.action == "restrict")).one()
        assert session.scalars(select(Letter.channel).where(Letter.notice_id == made.notice_id)).all() == ["mail"]
        channels = session.scalars(select(Delivery.channel).where(Delivery.notice_id == made.notice_id)).all()
        assert sorted(channels) == ["notebook", "page"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scope": "account"}, "suspension_needs_a_person"),
        ({"scope": "everything"}, "scope_is_known"),
        ({"ends_at": NOON}, "it_ends"),
        ({"ends_at": None}, r"NOT NULL|not-null"),
        ({"decision_id": None}, r"NOT NULL|not-null"),
        ({"decision_id": 99}, r"FOREIGN KEY|foreign key"),
        ({"lifted_at": NOON}, "lifting_has_a_name"),
    ],
)
async def test_the_database_itself_refuses(court: Court, changes: dict[str, object], said: str) -> None:
    await court.run("p2p")
    with pytest.raises(StoreError, match=said), court.write() as session:
        made = court.last(session)
        values = {
            "case_id": made.case_id, "decision_id": made.id, "member": "ana", "scope": "gpu", "cause": "c",
            "by": "machine", "harm": False, "begins_at": NOON, "ends_at": NOON + timedelta(days=1),
        }  # fmt: skip
        session.add(Sanction(**(values | changes)))


async def test_a_second_strike_for_a_case_is_refused_by_the_database(court: Court) -> None:
    await court.run("mining")
    with pytest.raises(StoreError, match=r"(?i)unique"), court.write() as session:
        made = court.last(session)
        session.add(
            Strike(
                case_id=made.case_id, decision_id=made.id, member="ana", cause="c", at=NOON, ends_at=NOON + timedelta(1)
            )
        )


async def test_a_clean_cell_asks_the_database_at_most_once_a_second(court: Court) -> None:
    """The board renews itself meanwhile; only a look older than two seconds is waited for."""
    reads, time_s = 0, 0.0
    original = Board.refresh

    def counting(board: Board) -> None:
        nonlocal reads
        reads += 1
        original(board)

    board = Board(court.store, lambda: court.now, lambda: time_s)
    board.refresh = lambda: counting(board)  # type: ignore[method-assign]
    court.desk.board = board
    cell = Cell("1 + 1", "ana", "ana", "", "k")
    for _ in range(500):
        await court.desk.judge(cell)
    assert reads == 1
    time_s = STALE_S
    await court.desk.judge(cell)
    assert reads == 2


async def test_with_the_database_away_the_last_known_restriction_holds_until_its_end(court: Court) -> None:
    for rule in "abc":
        await court.run(f"mining/{rule}")
    court.desk.board.refresh()
    court.desk.board.store = type(court.store)("sqlite:////nowhere/at/all.sqlite")
    court.desk.board.soon()
    cell = Cell("1 + 1", "ana", "ana", "", "k")

    assert (await court.desk.judge(cell)).action is Action.STOP
    court.later(days=3)
    assert (await court.desk.judge(cell)) == Verdict(Action.ALLOW)


async def test_every_notice_of_a_decision_has_its_decision(court: Court) -> None:
    for code in ("remote-access", "mining/a", "mining/b", "p2p"):
        await court.run(code)

    with court.store.read() as session:
        pairs = session.execute(select(Notice.decided, Decision.key).join(Decision, Decision.notice_id == Notice.id))
        assert all(decided == key for decided, key in pairs)
        assert court.count(Notice) == court.count(Decision) == 4


async def test_attendance_counts_days_and_nothing_else(court: Court) -> None:
    """What makes an account established: clean cells count, a day once, and no trace of what was run."""
    for _ in range(3):
        for _ in range(3):
            await court.run("1 + 1")
        await court.run("p2p")
        court.desk.attendance.settle()
        court.later(days=6)
    await court.run("1 + 1")
    court.desk.attendance.settle()

    with court.store.read() as session:
        ana = session.get_one(Member, "ana")
        assert (ana.active_days, ana.first_seen_at) == (4, NOON)
        assert member.seen(session, "ana", court.now, created=NOON - timedelta(days=300)).first_seen_at < NOON
