"""Incidents, the circuit breaker: a cause that hits many established people touches no account until somebody looks."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases import decision, letter, sanction
from mutirao.cases.action import Action
from mutirao.cases.member import people_hit
from mutirao.cases.office import Office, Refused
from mutirao.store import audit
from mutirao.store.consequence import Incident, Sanction, Strike
from mutirao.store.models import Case, Observation


def open_for(session: Session, cause: str) -> Incident | None:
    """The open incident of a cause."""
    return session.scalars(select(Incident).where(Incident.cause == cause, Incident.closed_at.is_(None))).first()


def all_of(session: Session, *, open_only: bool = False) -> list[Incident]:
    """The incidents, newest first."""
    wanted = select(Incident).order_by(Incident.id.desc())
    return list(session.scalars(wanted.where(Incident.closed_at.is_(None)) if open_only else wanted))


def find(session: Session, number: str) -> Incident | None:
    """The incident with this number, as people write it: I-2026-0001."""
    tail = number.upper().rpartition("-")[2]
    if not tail.isascii() or not tail.isdigit() or len(tail) > 9:
        return None
    found = session.get(Incident, int(tail))
    return found if found is not None and found.number == number.upper() else None


def cases_of(session: Session, incident: Incident) -> list[Case]:
    """The cases of everybody whom the cause stopped, before the incident and ever since."""
    hit = select(Observation.case_id).where(Observation.cause == incident.cause, Observation.level == "stop")
    wanted = select(Case).where(Case.id.in_(hit), Case.member.is_not(None)).order_by(Case.id)
    return list(session.scalars(wanted.options(selectinload(Case.decisions))))


def hit(session: Session, office: Office, cause: str, category: str, now: datetime) -> Incident | None:
    """The open incident of a cause, opened now where it has hit enough established people; None where it has not.

    A cause that a person confirmed as disallowed opens no other.
    """
    found = open_for(session, cause)
    people = people_hit(session, cause, now, office.rules)
    if found is not None:
        found.people = max(found.people, people)
        return found
    if people < office.rules.incident_people or _confirmed(session, cause):
        return None
    made = Incident(cause=cause, category=category, opened_at=now, people=people)
    session.add(made)
    session.flush()
    content = {"incident": made.number, "cause": cause, "category": category, "people": people}
    audit.append(session, now, "incident.open", actor=None, subject=None, content=content)
    _silence(session, office, made, now)
    return made


def _confirmed(session: Session, cause: str) -> bool:
    wanted = select(Incident.id).where(Incident.cause == cause, Incident.outcome == "confirmed")
    return session.scalars(wanted.limit(1)).first() is not None


def _silence(session: Session, office: Office, incident: Incident, now: datetime) -> None:
    """What followed already from this cause is silent from now on, and whoever was touched is told."""
    strikes = list(
        session.scalars(
            select(Strike).where(Strike.cause == incident.cause, Strike.void_at.is_(None), Strike.ends_at > now)
        )
    )
    for entry in strikes:
        entry.incident_id = incident.id
    session.flush()
    touched = {entry.member: entry.case for entry in strikes}
    mine = select(Sanction).where(
        Sanction.cause == incident.cause, Sanction.by == "machine", Sanction.lifted_at.is_(None), Sanction.ends_at > now
    )
    silent = list(session.scalars(mine))
    for member in touched:
        silent += sanction.unfounded(session, member, now, office.rules)
    for row in silent:
        row.incident_id = incident.id
        touched.setdefault(row.member, row.case)
    session.flush()
    for member, case in touched.items():
        _tell(session, office, incident, case, member, "pause", Action.LIFT, decision.MACHINE, "incident opened", now)


def _tell(
    session: Session,
    office: Office,
    incident: Incident,
    case: Case,
    member: str,
    kind: str,
    action: Action,
    by: str,
    why: str,
    now: datetime,
    given_s: int = 0,
) -> None:
    notice = office.letter(
        case,
        kind,
        action,
        lead=kind,
        follows=letter.FOLLOWS["given-back"] if kind == "apology" else None,
        next_step=letter.GO_ON,
        incident=incident.number,
        why=why,
        hours=letter.hours(given_s),
    )
    more = {"incident": incident.number, "given_back_s": given_s}
    decision.record(session, case, notice, by=by, reason=why, now=now, member=member, more=more)


def reverse(session: Session, office: Office, incident: Incident, by: str, why: str, now: datetime) -> int | Refused:
    """Undo a whole incident: strikes void, restrictions lifted, time given back, and everybody hit is asked pardon.

    Returns how many members were told. Refused: closed. What members did beside this cause stays.
    """
    if incident.closed_at is not None:
        return Refused("closed")
    _close(session, incident, "reversed", by, why, now)
    cases: dict[str, list[Case]] = {}
    for case in cases_of(session, incident):
        cases.setdefault(case.member or "", []).append(case)
    for member, mine in cases.items():
        given = sum(
            sanction.lift(session, row, by, why, now, give_back=True) for row in _silent(session, incident, member)
        )
        given += sanction.take_back(session, _struck(session, incident, member), member, by, why, now, office.rules)
        _tell(session, office, incident, mine[-1], member, "apology", Action.REVERSE, by, why, now, given)
    return len(cases)


def _silent(session: Session, incident: Incident, member: str) -> list[Sanction]:
    """The restrictions of a member that this incident silenced, those too that only leaned on its strikes."""
    wanted = select(Sanction).where(Sanction.member == member, Sanction.incident_id == incident.id)
    return list(session.scalars(wanted.options(selectinload(Sanction.case))))


def _struck(session: Session, incident: Incident, member: str) -> list[int]:
    """The cases of a member that this cause has brought a strike."""
    wanted = select(Strike.case_id).where(Strike.member == member, Strike.cause == incident.cause)
    return list(session.scalars(wanted))


def confirm(session: Session, incident: Incident, by: str, why: str, now: datetime) -> Incident | Refused:
    """The cause was disallowed work after all: what was silent counts again, with the ends it always had.

    Refused: closed.
    """
    if incident.closed_at is not None:
        return Refused("closed")
    _close(session, incident, "confirmed", by, why, now)
    for entry in session.scalars(select(Strike).where(Strike.incident_id == incident.id)):
        entry.incident_id = None
    for row in session.scalars(select(Sanction).where(Sanction.incident_id == incident.id)):
        row.incident_id = None
    session.flush()
    return incident


def _close(session: Session, incident: Incident, outcome: str, by: str, why: str, now: datetime) -> None:
    incident.outcome, incident.closed_at, incident.closed_by, incident.why = outcome, now, by, why
    content = {"incident": incident.number, "why": why}
    audit.append(session, now, f"incident.{outcome}", actor=by, subject=None, content=content)
    session.flush()
