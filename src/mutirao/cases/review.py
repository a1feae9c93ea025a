"""What reviewers do with a case: look, restrict, suspend, lift, close. Roles are asked before, by whoever calls."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases import appeal, decision, exemption, incident, letter, report, sanction
from mutirao.cases.action import Action
from mutirao.cases.decide import NEVER_HELD
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Office, Refused
from mutirao.cases.reading import note_reading
from mutirao.policy.category import Category
from mutirao.store.consequence import Appeal, Incident, Report, Sanction
from mutirao.store.models import Case, Decision, Exemption

REASON_LENGTH = range(10, 2001)


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for a person: appeals (due first), exemptions, reports, open incidents, the newest cases."""

    appeals: list[Appeal]
    clock_paused_since: datetime | None
    exemptions: list[Exemption]
    reports: list[Report]
    incidents: list[Incident]
    cases: list[Case]


def queue(session: Session, now: datetime, cases: int = 100) -> Queue:
    """Everything that waits, for one page."""
    newest = select(Case).order_by(Case.last_seen_at.desc(), Case.id.desc()).limit(cases)
    return Queue(
        appeals=appeal.open_appeals(session),
        clock_paused_since=appeal.clock_paused_since(session),
        exemptions=exemption.waiting_for_answer(session, now),
        reports=report.open_reports(session),
        incidents=incident.all_of(session, open_only=True),
        cases=list(session.scalars(newest.options(selectinload(Case.decisions)))),
    )


def look(session: Session, case: Case, by: str, now: datetime) -> None:
    """Somebody reads another's case, and the audit says so once an hour; one's own needs no record."""
    if by != (case.owner if case.member is None else case.member):
        note_reading(session, by, case, now)


def restrict(
    session: Session, office: Office, case: Case, scope: Scope, days: float, by: str, why: str, now: datetime
) -> Sanction | Refused:
    """A person restricts the case's member for so many days; scope `account` suspends.

    Refused: nobody (the case has no member), own, machine (needs a name), days, why.
    """
    why = why.strip()
    if case.member is None:
        return Refused("nobody")
    if by == case.member:
        return Refused("own")
    if by in ("", decision.MACHINE):
        return Refused("machine")
    if not 0 < days <= office.rules.longest_suspension_days:
        return Refused("days")
    if len(why) not in REASON_LENGTH:
        return Refused("why")
    action = Action.SUSPEND if scope is Scope.ACCOUNT else Action.RESTRICT
    ends = now + timedelta(days=days)
    notice = office.letter(
        case,
        action.value,
        action,
        lead="person",
        follows=letter.RESTRICTED[scope],
        next_step=letter.APPEAL,
        by=by,
        why=why,
        begins=letter.moment(now),
        ends=letter.moment(ends),
    )
    made = decision.record(session, case, notice, by=by, reason=why, now=now)
    harm = Category(case.category) in NEVER_HELD
    return sanction.impose(
        session, case, made, scope, ends - now, cause=f"case:{case.id}", harm=harm, now=now, rules=office.rules
    )


def lift(
    session: Session, office: Office, entry: Sanction, by: str, why: str, now: datetime, *, give_back: bool = False
) -> Sanction | Refused:
    """A person lifts a restriction before its end, and the member is told.

    Refused: over (ended or lifted already), own, why.
    """
    why = why.strip()
    if entry.lifted_at is not None or entry.ends_at <= now:
        return Refused("over")
    if by == entry.member:
        return Refused("own")
    if len(why) not in REASON_LENGTH:
        return Refused("why")
    given = sanction.lift(session, entry, by, why, now, give_back=give_back)
    case = session.get_one(Case, entry.case_id)
    notice = office.letter(case, "lift", Action.LIFT, lead="lift", next_step=letter.GO_ON, by=by, why=why)
    decision.record(session, case, notice, by=by, reason=why, now=now, more={"given_back_s": given})
    return entry


def close(session: Session, office: Office, case: Case, by: str, why: str, now: datetime) -> Decision | Refused:
    """A person closes a case with words for its member, such as a report that came to nothing; nothing follows.

    Refused: nobody, own, why.
    """
    why = why.strip()
    if case.member is None:
        return Refused("nobody")
    if by == case.member:
        return Refused("own")
    if len(why) not in REASON_LENGTH:
        return Refused("why")
    notice = office.letter(case, "close", Action.CLOSE, lead="person", next_step=letter.GO_ON, by=by, why=why)
    return decision.record(session, case, notice, by=by, reason=why, now=now)


def find_sanction(session: Session, number: int) -> Sanction | None:
    """The sanction with this number, with its case."""
    return session.get(Sanction, number, options=[selectinload(Sanction.case)])
