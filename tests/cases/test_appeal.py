"""Appeals: one click, another person, time and strikes given back, and a clock that lifts what nobody answers."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from mutirao.cases import appeal, review, sanction
from mutirao.cases.appeal import Outcome
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Refused
from mutirao.cases.tick import tick
from mutirao.errors import StoreError
from mutirao.fairness import Cases
from mutirao.store.consequence import Appeal, Pause, Sanction
from mutirao.store.models import Decision
from tests.cases.court import NOON, Court, with_rules


def opened(court: Court, member: str = "ana", text: str = "") -> Appeal | Refused:
    with court.write() as session:
        return appeal.open_appeal(session, court.office, court.last(session, member), member, text, court.now)


def answered(court: Court, by: str, outcome: Outcome, why: str = "I looked at it", **more: object) -> Appeal | Refused:
    with court.write() as session:
        one = appeal.open_appeals(session)[0]
        return appeal.answer(session, court.office, one, by, outcome, why, court.now, **more)  # type: ignore[arg-type]


def ticked(court: Court) -> int:
    with court.write() as session:
        return tick(session, court.office, court.now).lapsed


async def restricted(court: Court) -> None:
    await court.run("p2p/a")
    await court.run("p2p/b")
    await court.run("p2p/c")
    assert court.held(Scope.GPU) is not None


async def test_an_appeal_needs_no_words_and_a_second_click_finds_the_first(court: Court) -> None:
    await court.run("p2p")

    one, two = opened(court), opened(court, text="again")

    assert isinstance(one, Appeal)
    assert isinstance(two, Appeal)
    assert one.id == two.id
    assert one.due_at == NOON + timedelta(days=7)
    assert court.texts()[-1] == "Your appeal has come in"
    assert court.texts(lang="pt-BR")[-1] == "Seu recurso chegou"


async def test_two_open_appeals_for_a_decision_are_refused_by_the_database(court: Court) -> None:
    await court.run("p2p")
    one = opened(court)
    assert isinstance(one, Appeal)
    with pytest.raises(StoreError, match=r"(?i)unique"), court.write() as session:
        session.add(
            Appeal(case_id=one.case_id, decision_id=one.decision_id, member="ana", author="machine", text="", opened_at=NOON, due_at=NOON)
        )  # fmt: skip


@pytest.mark.parametrize("by", ["ana", "machine"])
async def test_the_database_refuses_an_answer_by_the_member_or_the_author(court: Court, by: str) -> None:
    await court.run("p2p")
    opened(court)
    with pytest.raises(StoreError, match="another_person_answers"), court.write() as session:
        one = appeal.open_appeals(session)[0]
        one.answered_at, one.answered_by, one.outcome = NOON, by, "upheld"


async def test_only_one_s_own_decision_is_appealed_and_not_without_bounds(court: Court) -> None:
    await court.run("p2p")
    with court.write() as session:
        made = court.last(session)
        assert appeal.open_appeal(session, court.office, made, "bia", "", NOON) == Refused("not-yours")
        assert appeal.open_appeal(session, court.office, made, "ana", "x" * 2001, NOON) == Refused("too-long")
        number = made.id
    for reviewer in ("rev", "eva"):
        with court.write() as session:
            made = session.get_one(Decision, number)
            one = appeal.open_appeal(session, court.office, made, "ana", "", NOON)
            assert isinstance(one, Appeal)
            appeal.answer(session, court.office, one, reviewer, Outcome.UPHELD, "It stands", NOON)
            last = appeal.open_appeal(session, court.office, made, "ana", "", NOON) if reviewer == "eva" else None
    assert last == Refused("too-often")


async def test_reversed_gives_back_strike_restriction_and_time(court: Court) -> None:
    await restricted(court)
    assert court.strikes() == 2
    opened(court, text="It was a lecture")
    court.later(hours=10)

    done = answered(court, "rev", Outcome.REVERSED)

    assert isinstance(done, Appeal)
    assert done.given_back_s == 36_000
    assert court.strikes() == 1
    assert court.held(Scope.GPU) is None
    assert court.texts()[-1] == "Your appeal was answered: the decision was wrong"
    with court.store.read() as session:
        assert sanction.given_back_s(session, "ana", NOON) == 36_000


async def test_reversing_the_strike_beneath_lifts_what_stood_on_it(court: Court) -> None:
    """The restriction came by the third matter; with the second one's strike it loses its ground."""
    await court.run("p2p/a")
    await court.run("p2p/b")
    opened(court)
    await court.run("p2p/c")
    assert court.held(Scope.GPU) is not None
    court.later(hours=1)

    done = answered(court, "rev", Outcome.REVERSED)

    assert court.held(Scope.GPU) is None
    assert isinstance(done, Appeal)
    assert done.given_back_s == 3600


async def test_lesser_shortens_and_never_lengthens(court: Court) -> None:
    await restricted(court)
    opened(court)
    assert answered(court, "rev", Outcome.LESSER, ends_at=NOON + timedelta(days=8)) == Refused("later")

    done = answered(court, "rev", Outcome.LESSER, ends_at=NOON + timedelta(days=1))

    assert isinstance(done, Appeal)
    held = court.held(Scope.GPU)
    assert held is not None
    assert held.ends_at == NOON + timedelta(days=1)
    assert court.strikes() == 1


async def test_rule_5_a_suspension_needs_a_name_and_another_one_answers(court: Court) -> None:
    verdict = await court.run("mining")
    with court.write() as session:
        case = court.case(session, verdict)

        def suspend(by: str, days: float = 30) -> Sanction | Refused:
            return review.restrict(session, court.office, case, Scope.ACCOUNT, days, by, "Sold access to others", NOON)

        assert suspend("machine") == Refused("machine")
        assert suspend("ana") == Refused("own")
        assert suspend("rev", 1000) == Refused("days")
        assert isinstance(suspend("rev"), Sanction)
    assert court.held(Scope.COMPUTE) is not None
    assert court.texts()[-1] == "Your account is suspended until 2026-12-22 12:00"
    opened(court)
    assert answered(court, "ana", Outcome.REVERSED) == Refused("own")
    assert answered(court, "rev", Outcome.REVERSED) == Refused("author")
    assert isinstance(answered(court, "eva", Outcome.UPHELD), Appeal)
    assert court.held(Scope.ACCOUNT) is not None
    with court.write() as session:
        made = session.get_one(Decision, session.scalars(select(Sanction.decision_id)).one())
        appeal.open_appeal(session, court.office, made, "ana", "please", court.now)
    assert answered(court, "eva", Outcome.REVERSED) == Refused("answered-before")
    assert isinstance(answered(court, "ivo", Outcome.REVERSED), Appeal)
    assert court.held(Scope.ACCOUNT) is None


async def test_a_machine_s_decision_reversed_leaves_a_person_s_alone(court: Court) -> None:
    verdict = await court.run("p2p")
    opened(court)
    with court.write() as session:
        case = court.case(session, verdict)
        review.restrict(session, court.office, case, Scope.GPU, 5, "rev", "Shared the account", NOON)

    answered(court, "eva", Outcome.REVERSED)

    assert court.held(Scope.GPU) is not None


async def test_unanswered_it_lifts_once_and_stays_open(court: Court) -> None:
    await restricted(court)
    opened(court)
    court.later(days=6, hours=23)
    assert ticked(court) == 0
    assert court.held(Scope.GPU) is not None

    with court.write() as session:  # the GPU restriction of seven days would end by itself: make it a longer one
        session.scalars(select(Sanction)).one().ends_at = court.now + timedelta(days=5)
    court.later(hours=1)

    assert [ticked(court), ticked(court)] == [1, 0]
    assert court.held(Scope.GPU) is None
    assert court.texts().count("A restriction was lifted") == 1
    assert isinstance(answered(court, "rev", Outcome.UPHELD), Appeal)


async def test_two_who_look_at_the_timers_at_once_lift_once(court: Court) -> None:
    await restricted(court)
    opened(court)
    with court.write() as session:
        session.scalars(select(Sanction)).one().ends_at = court.now + timedelta(days=20)
    court.later(days=7)
    start, lapsed = threading.Barrier(3), []

    def go() -> None:
        start.wait()
        lapsed.append(ticked(court))

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(lapsed) == [0, 0, 1]
    assert court.texts().count("A restriction was lifted") == 1


async def test_harm_in_progress_is_not_lifted_by_the_clock(court: Court) -> None:
    await court.run("mining/a")
    await court.run("mining/b")
    opened(court)
    with court.write() as session:
        session.scalars(select(Sanction)).one().ends_at = court.now + timedelta(days=20)
    court.later(days=7)

    assert ticked(court) == 1

    assert court.held(Scope.GPU) is not None


async def test_under_a_flood_the_clock_pauses_visibly_and_runs_on(open_court: Callable[[Cases], Court]) -> None:
    court = open_court(with_rules(appeals_flood=2))
    for name in ("ana", "bia", "caio"):
        await court.run("p2p", actor=name)
        opened(court, name)
    court.later(days=1)
    ticked(court)
    with court.store.read() as session:
        assert appeal.clock_paused_since(session) == court.now
        assert review.queue(session, court.now).clock_paused_since == court.now
    court.later(days=10)
    assert ticked(court) == 0

    answered(court, "rev", Outcome.UPHELD)
    assert ticked(court) == 0

    with court.store.read() as session:
        assert appeal.clock_paused_since(session) is None
        assert {one.due_at for one in appeal.open_appeals(session)} == {NOON + timedelta(days=17)}
    assert court.count(Pause) == 1
    court.later(days=6)
    assert ticked(court) == 2
    assert court.audit_holds()


async def test_one_member_can_not_flood_alone(court: Court) -> None:
    for rule in "abcdef":
        await court.run(f"remote-access/{rule}")
        last = opened(court)

    assert last == Refused("too-many")
