"""The circuit breaker: one cause, many established people, no account touched; one call undoes it all."""

from sqlalchemy import select

from mutirao.cases import incident
from mutirao.cases.action import Action
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Refused
from mutirao.store.consequence import Incident, Sanction, Strike
from tests.cases.court import NOON, Court

BAD = "mining/pkg/pip:evilpkg"


def the_incident(court: Court) -> Incident | None:
    with court.store.read() as session:
        return session.scalars(select(Incident)).one_or_none()


def reversed_(court: Court) -> int | Refused:
    with court.write() as session:
        found = incident.all_of(session)[0]
        return incident.reverse(session, court.office, found, "rev", "A package was poisoned", court.now)


async def test_the_poisoned_package_day(court: Court) -> None:
    """Rule 6: nobody is touched, all are told, offenders by other causes stay, one call clears it."""
    people = [f"p{number:02}" for number in range(20)]
    court.settle(*people, "ana")
    for name in people:
        verdict = await court.run(BAD, actor=name)
        assert verdict.action is Action.STOP
    for rule in "ab":
        await court.run(f"mining/{rule}/own", actor="ana")

    found = the_incident(court)
    assert found is not None
    assert found.people == 20
    assert sum(court.strikes(name) for name in people) == 0
    assert court.strikes("ana") == 2
    assert court.held(Scope.GPU, "ana") is not None
    assert all(court.held(Scope.GPU, name) is None for name in people)
    assert "nothing follows for your account" in verdict.notice.text().consequence  # type: ignore[union-attr]

    assert reversed_(court) == 20

    for name in people:
        assert court.texts(name)[-1] == "We were wrong, and we are sorry"
    assert "sorry" not in " ".join(court.texts("ana"))
    assert court.strikes("ana") == 2
    with court.store.read() as session:
        assert all(row.void_at for row in session.scalars(select(Strike).where(Strike.member != "ana")))
    assert reversed_(court) == Refused("closed")


async def test_what_followed_before_is_silent_from_then_on_and_given_back(court: Court) -> None:
    """Whoever was restricted by the cause before it was known as one is free at once."""
    court.settle(*"abcde")
    await court.run("dos/own", actor="a")
    await court.run(BAD, actor="a")
    assert court.held(Scope.GPU, "a") is not None
    court.later(hours=2)
    for name in "bcde":
        await court.run(BAD, actor=name)

    assert court.held(Scope.GPU, "a") is None
    assert court.strikes("a") == 1
    assert court.texts("a")[-1] == "A restriction is paused: many people are hit by the same cause"
    court.later(hours=5)
    reversed_(court)
    with court.store.read() as session:
        assert session.scalars(select(Sanction.given_back_s)).one() == 7200
    assert court.strikes("a") == 1


async def test_a_restriction_that_leaned_on_the_cause_is_silent_too(court: Court) -> None:
    court.settle(*"abcde")
    await court.run(BAD, actor="a")
    await court.run("dos/own", actor="a")
    assert court.held(Scope.GPU, "a") is not None
    for name in "bcde":
        await court.run(BAD, actor=name)

    assert court.held(Scope.GPU, "a") is None

    reversed_(court)
    assert court.held(Scope.GPU, "a") is None
    assert court.strikes("a") == 1


async def test_confirmed_it_counts_again_with_the_end_it_had(court: Court) -> None:
    court.settle(*"abcde")
    await court.run("dos/own", actor="a")
    await court.run(BAD, actor="a")
    before = court.held(Scope.GPU, "a")
    for name in "bcde":
        await court.run(BAD, actor=name)

    with court.write() as session:
        found = incident.find(session, "i-2026-0001")
        assert found is not None
        assert incident.confirm(session, found, "rev", "They all mined", court.now) is found

    assert court.held(Scope.GPU, "a") == before
    await court.run("mining/pkg/pip:evilpkg", actor="f")
    assert court.strikes("f") == 1


async def test_a_swarm_of_new_accounts_does_not_trip_it(court: Court) -> None:
    court.settle(*(f"old{number}" for number in range(30)), days=100, active=1)
    for number in range(30):
        await court.run(BAD, actor=f"new{number}")
        await court.run(BAD, actor=f"old{number}")

    assert the_incident(court) is None


async def test_accounts_of_one_person_are_one(court: Court) -> None:
    court.settle(*(f"x{number}" for number in range(10)), person="one and the same")
    court.settle(*"abc")
    for name in (*(f"x{number}" for number in range(10)), *"abc"):
        await court.run(BAD, actor=name)
    assert the_incident(court) is None

    court.settle("d")
    await court.run(BAD, actor="d")

    assert the_incident(court) is not None


async def test_the_same_cause_on_many_days_is_none(court: Court) -> None:
    for name in "abcdefgh":
        court.settle(name)
        await court.run(BAD, actor=name)
        court.later(hours=10)

    assert the_incident(court) is None


async def test_in_an_incident_a_matter_is_no_warning_for_the_next(court: Court) -> None:
    """Hit by a package, then one torrent: that is a first matter, not a second."""
    court.settle(*"abcdef")
    for name in "abcdef":
        await court.run(BAD, actor=name)

    await court.run("p2p", actor="f")

    assert court.strikes("f") == 0
    assert court.now == NOON
