"""A clock that jumps: the chain holds, no case is doubled, nothing that has ended comes back, nothing due is lost."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from mutirao.cases import adoption, permit, record
from mutirao.cases.action import Action
from mutirao.cases.casebook import ROWS_A_CASE
from mutirao.policy.category import Category
from mutirao.policy.version import load_versions
from mutirao.store import audit, personal
from mutirao.store.models import Adoption, Audit, Case, Decision, Observation
from mutirao.store.store import Store
from mutirao.web.view import Standing, view_version
from tests.cases.test_desk import NOON, World, world

__all__ = ["world"]

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
JUMPS = [-365 * DAY, -DAY, -HOUR, -MINUTE, timedelta(0), MINUTE, HOUR, DAY, 365 * DAY]


def chain_holds(store: Store) -> bool:
    with store.read() as session:
        return audit.verify(audit.entries(session)) is None


async def grant(world: World) -> None:
    """The member gives a reason for the cell that was held."""
    await world.run(Category.REMOTE_ACCESS)
    with world.store.write() as session:
        case = session.scalars(select(Case).order_by(Case.id.desc())).first()
        assert case is not None
        loaded = record.find_case(session, case.number)
        assert loaded is not None
        assert isinstance(permit.grant(session, loaded, "ana", "a good reason", world.clock.now), permit.Granted)


@given(jumps=st.lists(st.sampled_from(JUMPS), min_size=2, max_size=6))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_the_clock_does_the_chain_holds_and_a_day_has_one_case(
    world: World, jumps: list[timedelta]
) -> None:
    for jump in jumps:
        world.clock.now += jump
        await world.run(Category.MINING)

    assert chain_holds(world.store)
    with world.store.read() as session:
        per_day = session.execute(
            select(Case.day, func.count()).group_by(Case.day, Case.member, Case.fingerprint)
        ).all()
    assert {count for _, count in per_day} == {1}


@pytest.mark.parametrize(
    ("then", "runs"),
    [
        ([9 * MINUTE], True),
        ([10 * MINUTE], False),
        ([365 * DAY], False),
        # Set back before it was given: a time at which there was no such permit.
        ([-MINUTE], False),
        ([-365 * DAY], False),
        # Seen to have ended, then set back into its ten minutes.
        ([11 * MINUTE, -5 * MINUTE], False),
        ([365 * DAY, 5 * MINUTE - 365 * DAY], False),
        # Set back and forth inside its ten minutes.
        ([5 * MINUTE, -3 * MINUTE], True),
        # Far ahead before it was given, put right since: others' old entries from the future don't count.
    ],
)
async def test_a_permit_holds_for_its_ten_minutes_and_never_again(
    world: World, then: list[timedelta], runs: bool
) -> None:
    await grant(world)
    for jump in then:
        world.clock.now += jump
        verdict = await world.run(Category.REMOTE_ACCESS)

    assert verdict.action is (Action.ALLOW if runs else Action.HOLD)


async def test_entries_from_a_future_that_was_a_mistake_do_not_end_a_new_permit(world: World) -> None:
    world.clock.now = NOON + 365 * DAY
    await world.run(Category.MINING)
    world.clock.now = NOON
    await grant(world)

    assert (await world.run(Category.REMOTE_ACCESS)).action is Action.ALLOW


async def test_a_permit_that_was_outlived_can_be_asked_for_again(world: World) -> None:
    await grant(world)
    world.clock.now += 11 * MINUTE
    await world.run(Category.REMOTE_ACCESS)
    world.clock.now -= 5 * MINUTE
    await grant(world)

    assert (await world.run(Category.REMOTE_ACCESS)).action is Action.ALLOW


@pytest.mark.parametrize("back", [MINUTE, DAY, 3650 * DAY])
async def test_a_policy_in_force_from_its_announcement_stays_so(world: World, back: timedelta) -> None:
    world.clock.now = NOON - back

    assert (await world.run(Category.MINING)).action is Action.STOP
    with world.store.read() as session:
        adopted = adoption.adoptions(session)
        assert view_version(load_versions()[2], adopted, world.clock.now).standing is Standing.IN_FORCE


async def test_a_policy_that_was_dated_ahead_waits_for_its_day_by_any_clock(world: World) -> None:
    with world.store.write() as session:
        session.add(Adoption(version=1, announced_at=NOON, effective_from=NOON + 14 * DAY, by="op", reason="milder"))
    with world.store.read() as session:
        for now, version in ((NOON, 2), (NOON + 14 * DAY, 1), (NOON + 13 * DAY, 2), (NOON - DAY, 2)):
            assert adoption.in_force(session, now).version == version


async def test_repeats_are_told_again_after_a_clock_was_set_back(world: World) -> None:
    """Else a loop would be told of only when the clock has caught up."""
    for _ in range(ROWS_A_CASE + 1):
        await world.run(Category.MINING)
    before = world.rows(Decision)
    world.clock.now -= 2 * HOUR
    await world.run(Category.MINING)

    assert world.rows(Decision) == before + 1


# Expiry


def old_case(store: Store, at: datetime) -> None:
    with store.write() as session:
        made = Case(
            member="ana", owner="ana", fingerprint=f"x{at}", category="mining", day=at.date(), policy_version=2,
            opened_at=at, last_seen_at=at,
        )  # fmt: skip
        session.add(made)
        session.flush()
        audit.append(session, at, "case.open", actor=None, subject="ana", content={"case": made.number})
        session.add(
            Observation(
                case_id=made.id, at=at, sensor="gate", actor="ana", owner="ana", server="", kernel="k", via="x", digest="d",
                category="mining", rule="r", rule_version="1", maturity="stable", level="stop", line=1, excerpt="words", why={},
            )
        )  # fmt: skip


def named(store: Store) -> int:
    """How many cases still name somebody."""
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(Case).where(Case.member == "ana")) or 0


def test_personal_data_goes_after_its_time_and_the_chain_holds(store: Store) -> None:
    old_case(store, NOON - 400 * DAY)
    old_case(store, NOON - 10 * DAY)
    personal.expire(store, NOON - DAY, 365 * DAY)
    assert named(store) == 2

    gone = personal.expire(store, NOON, 365 * DAY)

    assert (gone.cases, gone.entries, named(store)) == (1, 1, 1)
    assert chain_holds(store)
    with store.read() as session:
        assert sorted(session.scalars(select(Observation.excerpt))) == ["", "words"]
        assert [entry.act for entry in audit.entries(session)].count("erased") == 1
    assert personal.expire(store, NOON, 365 * DAY) == personal.Gone(0, 0)


def test_a_clock_that_jumps_ahead_expires_a_week_and_no_more(store: Store) -> None:
    for age in (360, 300, 1):
        old_case(store, NOON - age * DAY)
    personal.expire(store, NOON, 365 * DAY)

    assert personal.expire(store, NOON + 3650 * DAY, 365 * DAY).cases == 1
    assert personal.expire(store, NOON + DAY, 365 * DAY).cases == 0
    assert named(store) == 2


def test_many_cases_go_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal, "BATCH", 3)
    for number in range(8):
        old_case(store, NOON - 500 * DAY - number * DAY)
    personal.expire(store, NOON - DAY, 365 * DAY)

    assert personal.expire(store, NOON, 365 * DAY).cases == 8
    with store.read() as session:
        assert len(set(session.scalars(select(Case.owner)))) == 8
        assert session.scalar(select(func.count()).select_from(Audit).where(Audit.subject == "ana")) == 0
    assert chain_holds(store)


def test_times_are_utc_whatever_the_machine_says() -> None:
    assert NOON.tzinfo is UTC
