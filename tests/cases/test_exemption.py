"""Exemptions and reports: asked for, answered by another person, bounded, and with an end."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from mutirao.cases import adoption, appeal, exemption, report
from mutirao.cases.action import Action
from mutirao.cases.exemption import Kind
from mutirao.cases.office import Refused
from mutirao.errors import StoreError
from mutirao.policy.category import Category
from mutirao.store.consequence import Appeal, Report
from mutirao.store.models import Decision, Exemption
from tests.cases.court import NOON, Court

PURPOSE = "A course on the detection of deepfakes"


def asked(court: Court, category: Category = Category.DEEPFAKE, purpose: str = PURPOSE) -> Exemption | Refused:
    with court.write() as session:
        return exemption.request(session, court.office, "ana", category, purpose, court.now)


def answered(court: Court, *, grant: bool, by: str = "rev", days: float | None = None) -> Exemption | Refused:
    with court.write() as session:
        one = exemption.of(session, "ana")[0]
        return exemption.answer(session, court.office, one, by, "I read it", court.now, grant=grant, days=days)


async def test_a_declared_purpose_holds_and_a_granted_one_runs_until_its_end(court: Court) -> None:
    assert (await court.run("deepfake")).action is Action.STOP
    assert isinstance(asked(court), Exemption)
    assert (await court.run("deepfake")).action is Action.HOLD
    assert court.texts()[-2] == "Your purpose has come in"

    assert answered(court, grant=True, by="ana") == Refused("own")
    assert isinstance(answered(court, grant=True, days=10), Exemption)

    assert (await court.run("deepfake")).action is Action.ALLOW
    assert court.strikes() == 0
    assert answered(court, grant=False) == Refused("answered")
    court.later(days=10)
    assert (await court.run("deepfake")).action is Action.STOP


async def test_rule_10_another_policy_version_ends_it(court: Court) -> None:
    asked(court)
    answered(court, grant=True)
    with court.write() as session:
        adoption.adopt(session, 2, known={2}, effective_from=court.now, now=court.now, by="op", reason="again")
        found = exemption.standing(session, "ana", Category.DEEPFAKE, 2, court.now)
        other = exemption.standing(session, "ana", Category.DEEPFAKE, 3, court.now)

    assert (found, other) == (exemption.Standing.EXEMPT, exemption.Standing.PLAIN)


async def test_a_refusal_gives_nothing_and_can_be_appealed(court: Court) -> None:
    asked(court)
    answered(court, grant=False)

    assert (await court.run("deepfake")).action is Action.STOP
    with court.write() as session:
        refused = exemption.of(session, "ana")[0]
        assert refused.refused
        refusal = session.scalars(select(Decision).where(Decision.action == "refuse")).one()
        made = appeal.open_appeal(session, court.office, refusal, "ana", "", court.now)
        assert isinstance(made, Appeal)


async def test_a_grant_is_bounded_and_a_request_too(court: Court) -> None:
    assert asked(court, purpose="short") == Refused("length")
    first, again = asked(court), asked(court)
    assert isinstance(first, Exemption)
    assert isinstance(again, Exemption)
    assert first.id == again.id
    done = answered(court, grant=True, days=10_000)
    assert isinstance(done, Exemption)
    assert done.ends_at == NOON + timedelta(days=180)
    with court.write() as session:
        asked_for = [
            exemption.request(session, court.office, "bia", one, PURPOSE, NOON, Kind.MAY_I) for one in Category
        ]
    assert asked_for[-1] == Refused("too-many")


def test_the_database_refuses_a_machine_s_answer(court: Court) -> None:
    asked(court)
    with pytest.raises(StoreError, match="a_person_answers"), court.write() as session:
        one = exemption.of(session, "ana")[0]
        one.under_review, one.by = False, "machine"


# Reports from outside

WORDS = "There is a video of me that I never made."


def reported(
    court: Court, source: str = "203.0.113.7", text: str = WORDS, contact: str = "me@example.org"
) -> report.Taken | Refused:
    with court.write() as session:
        return report.take(
            session, court.office, source=source, contact=contact, category=Category.DEEPFAKE, text=text, now=court.now
        )


def test_a_report_is_acknowledged_linked_and_answered(court: Court) -> None:
    taken = reported(court)
    assert isinstance(taken, report.Taken)
    with court.write() as session:
        entry = report.open_reports(session)[0]
        assert report.link(session, entry, "ana", "ana", "It was me", NOON) == Refused("own")
        assert isinstance(report.link(session, entry, "ana", "rev", "The runtime's log shows it", NOON), Report)
        assert report.link(session, entry, "bia", "rev", "no", NOON) == Refused("linked")
        assert report.close(session, entry, "ana", "Nothing in it.", NOON) == Refused("own")
        assert isinstance(report.close(session, entry, "rev", "It is gone, and will not come back.", NOON), Report)
    with court.store.read() as session:
        seen = report.by_token(session, taken.token)
        assert seen is not None
        assert seen.answer == "It is gone, and will not come back."
        assert seen.case.number == taken.number
        assert report.by_token(session, taken.token + "x") is None
        from mutirao.cases import record

        mine = record.record_of(session, "ana")
        assert [case["number"] for case in mine["cases"]] == [taken.number]
        assert "example.org" not in str(mine)
        assert "203.0.113.7" not in str(mine)


def test_reports_are_bounded_by_length_source_and_day(court: Court) -> None:
    assert reported(court, text="short") == Refused("length")
    assert reported(court, text="x" * 4001) == Refused("length")
    assert reported(court, contact="x") == Refused("contact")
    for _ in range(5):
        assert isinstance(reported(court), report.Taken)
    assert reported(court) == Refused("source-limit")
    assert isinstance(reported(court, source="203.0.113.8"), report.Taken)
    court.later(days=1)
    assert isinstance(reported(court), report.Taken)
