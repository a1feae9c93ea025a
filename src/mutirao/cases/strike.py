"""Strikes: at most one for a case, gone after a set time, taken back where the decision was wrong."""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from mutirao.fairness import Cases
from mutirao.store import audit
from mutirao.store.consequence import Incident, Strike
from mutirao.store.models import Case, Decision, Observation


def of(session: Session, member: str) -> list[Strike]:
    """Every strike a member ever had, newest first, each with its case, its end, and whether it is void or silent."""
    wanted = select(Strike).where(Strike.member == member).options(selectinload(Strike.case))
    return list(session.scalars(wanted.order_by(Strike.id.desc())))


def live(session: Session, member: str, now: datetime) -> list[Strike]:
    """The strikes that count now: not yet gone, not taken back, not silent in an open incident."""
    return [
        entry
        for entry in of(session, member)
        if entry.ends_at > now and entry.void_at is None and entry.incident_id is None
    ]


def on_day(session: Session, member: str, now: datetime) -> int:
    """How many strikes of today (UTC) a member has, those taken back not counted."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    wanted = select(func.count()).select_from(Strike)
    return session.scalar(wanted.where(Strike.member == member, Strike.at >= today, Strike.void_at.is_(None))) or 0


def stopped_before(session: Session, case: Case, now: datetime, rules: Cases) -> int:
    """How many other matters of this member were stopped within a strike's life and not found wrong, nor in doubt."""
    pardoned = select(Incident.cause).where(or_(Incident.outcome.is_(None), Incident.outcome != "confirmed"))
    later = aliased(Decision)
    wanted = (
        select(func.count(func.distinct(Case.id)))
        .join(Decision, Decision.case_id == Case.id)
        .outerjoin(Strike, Strike.case_id == Case.id)
        .where(
            Case.member == case.member,
            Case.id != case.id,
            Decision.action.in_(("stop", "restrict")),
            Decision.at > now - timedelta(days=rules.strike_days),
            Strike.void_at.is_(None),
            Strike.incident_id.is_(None),
            ~select(Observation.id).where(Observation.case_id == Case.id, Observation.cause.in_(pardoned)).exists(),
            ~select(later.id).where(later.case_id == Case.id, later.action.in_(("reverse", "lift"))).exists(),
        )
    )
    return session.scalar(wanted) or 0


def add(session: Session, case: Case, decision: Decision, cause: str, now: datetime, rules: Cases) -> Strike:
    """The one strike of a case; the database refuses a second."""
    assert case.member is not None, "nobody can be struck where nobody is known"
    made = Strike(
        case_id=case.id,
        decision_id=decision.id,
        member=case.member,
        cause=cause,
        at=now,
        ends_at=now + timedelta(days=rules.strike_days),
    )
    session.add(made)
    session.flush()
    content = {"case": case.number, "ends_at": made.ends_at.isoformat()}
    audit.append(session, now, "strike.add", actor=None, subject=case.member, content=content)
    return made


def void(session: Session, strike: Strike, by: str, why: str, now: datetime) -> None:
    """Take a strike back; a second call changes nothing."""
    if strike.void_at is not None:
        return
    strike.void_at, strike.void_by, strike.void_why, strike.incident_id = now, by, why, None
    actor = None if by == "machine" else by
    audit.append(session, now, "strike.void", actor=actor, subject=strike.member, content={"strike": strike.id})
