"""Appeals: one call by the member, answered by another person; unanswered, the restriction lifts by itself."""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases import decision, letter, sanction
from mutirao.cases.action import APPEALABLE, Action
from mutirao.cases.office import Office, Refused
from mutirao.store import audit
from mutirao.store.consequence import Appeal, Pause, Sanction
from mutirao.store.models import Case, Decision

LONGEST = 2000
CLOCK = "appeals"


class Outcome(StrEnum):
    """How an appeal ends."""

    UPHELD = "upheld"
    LESSER = "lesser"
    REVERSED = "reversed"


_ACTION = {Outcome.UPHELD: Action.UPHOLD, Outcome.LESSER: Action.LESSEN, Outcome.REVERSED: Action.REVERSE}


def open_appeal(
    session: Session, office: Office, made: Decision, member: str, text: str, now: datetime
) -> Appeal | Refused:
    """Appeal against a decision of one's own case; `text` may be empty. An open appeal is returned as it is.

    Refused: not-yours, not-appealable, too-long, too-often (for this decision), too-many (open at once).
    """
    case = session.get_one(Case, made.case_id)
    if case.member != member:
        return Refused("not-yours")
    if made.action not in APPEALABLE:
        return Refused("not-appealable")
    text = text.strip()
    if len(text) > LONGEST:
        return Refused("too-long")
    earlier = list(session.scalars(select(Appeal).where(Appeal.decision_id == made.id)))
    for one in earlier:
        if one.answered_at is None:
            return one
    if len(earlier) >= office.rules.appeals_per_decision:
        return Refused("too-often")
    if _count_open(session, member) >= office.rules.appeals_per_member:
        return Refused("too-many")
    appeal = Appeal(
        case_id=case.id,
        decision_id=made.id,
        member=member,
        author=made.by,
        text=text,
        opened_at=now,
        due_at=now + timedelta(days=office.rules.appeal_answer_days),
    )
    session.add(appeal)
    session.flush()
    notice = office.letter(
        case,
        "received",
        Action.INFORM,
        lead="received",
        follows=letter.FOLLOWS["stands"],
        next_step=letter.GO_ON,
        due=letter.moment(appeal.due_at),
    )
    decision.inform(session, case, notice, now)
    content = {"case": case.number, "decision": made.id, "text": text}
    audit.append(session, now, "appeal.open", actor=member, subject=member, content=content)
    return appeal


def open_appeals(session: Session) -> list[Appeal]:
    """What waits for an answer, the one due first at the head."""
    wanted = select(Appeal).where(Appeal.answered_at.is_(None)).order_by(Appeal.due_at, Appeal.id)
    return list(session.scalars(wanted.options(selectinload(Appeal.case), selectinload(Appeal.decision))))


def of(session: Session, case: Case) -> list[Appeal]:
    """The appeals of a case, oldest first."""
    return list(session.scalars(select(Appeal).where(Appeal.case_id == case.id).order_by(Appeal.id)))


def may_answer(session: Session, appeal: Appeal, by: str) -> Refused | None:
    """None where `by` may answer: not the member, not the decision's author, nobody who answered it or lessened before.

    Refused: own (your own case), author, answered-before, answered (nothing is open).
    """
    if appeal.answered_at is not None:
        return Refused("answered")
    if by == appeal.member:
        return Refused("own")
    if by in (appeal.author, decision.MACHINE):
        return Refused("author")
    before = select(Appeal.id).where(Appeal.decision_id == appeal.decision_id, Appeal.answered_by == by)
    return Refused("answered-before") if session.scalars(before).first() is not None else None


def answer(
    session: Session,
    office: Office,
    appeal: Appeal,
    by: str,
    outcome: Outcome,
    why: str,
    now: datetime,
    *,
    ends_at: datetime | None = None,
) -> Appeal | Refused:
    """Answer an appeal. Reversed gives strike, restriction and its time back; lesser takes the strike and shortens.

    Lesser ends the restriction at `ends_at`, now if that is None. Refused: as may_answer, or why (no reason given),
    later (a milder end lies before the present one).
    """
    if (refused := may_answer(session, appeal, by)) is not None:
        return refused
    why = why.strip()
    if not why or len(why) > LONGEST:
        return Refused("why")
    case = session.get_one(Case, appeal.case_id)
    rows = list(session.scalars(select(Sanction).where(Sanction.decision_id == appeal.decision_id)))
    if outcome is Outcome.LESSER and ends_at is not None and any(ends_at >= row.ends_at for row in rows):
        return Refused("later")
    given, follows = 0, letter.FOLLOWS["stands"]
    if outcome is Outcome.REVERSED:
        given = sanction.take_back(
            session, [case.id], appeal.member, by, why, now, office.rules, decision=appeal.decision_id
        )
        follows = letter.FOLLOWS["given-back"]
    elif outcome is Outcome.LESSER:
        given = _lessen(session, office, case, rows, appeal, by, why, now, ends_at)
        follows = letter.FOLLOWS["milder"]
    notice = office.letter(
        case,
        _ACTION[outcome].value,
        _ACTION[outcome],
        lead="person",
        follows=follows,
        next_step=letter.READ_ON if outcome is Outcome.UPHELD else letter.GO_ON,
        by=by,
        why=why,
        hours=letter.hours(given),
        ends=letter.moment(ends_at or now),
    )
    made = decision.record(
        session, case, notice, by=by, reason=why, now=now, act="appeal.answer", more={"given_back_s": given}
    )
    appeal.outcome, appeal.answered_at, appeal.answered_by, appeal.answer = outcome.value, now, by, why
    appeal.answer_decision_id, appeal.given_back_s = made.id, given
    session.flush()
    if outcome is Outcome.REVERSED:
        from mutirao.cases import demotion

        demotion.note(session, case, now)
    return appeal


def _lessen(
    session: Session,
    office: Office,
    case: Case,
    rows: list[Sanction],
    appeal: Appeal,
    by: str,
    why: str,
    now: datetime,
    ends_at: datetime | None,
) -> int:
    """The strike goes, the restriction ends earlier; a restriction that leaned on the strike goes too."""
    from mutirao.cases import strike
    from mutirao.store.consequence import Strike

    for entry in session.scalars(select(Strike).where(Strike.case_id == case.id)):
        strike.void(session, entry, by, why, now)
    session.flush()
    given = 0
    for row in rows:
        if ends_at is None or ends_at <= now:
            given += sanction.lift(session, row, by, why, now, give_back=True)
        else:
            row.ends_at = ends_at
    session.flush()
    leaning = [row for row in sanction.unfounded(session, appeal.member, now, office.rules) if row not in rows]
    return given + sum(sanction.lift(session, row, by, why, now, give_back=True) for row in leaning)


def _count_open(session: Session, member: str | None = None) -> int:
    wanted = select(func.count()).select_from(Appeal).where(Appeal.answered_at.is_(None))
    return session.scalar(wanted if member is None else wanted.where(Appeal.member == member)) or 0


def clock_paused_since(session: Session) -> datetime | None:
    """Since when the clock of appeals stands still under a flood; None while it runs."""
    return session.scalars(select(Pause.since).where(Pause.what == CLOCK, Pause.until.is_(None))).first()


def anything_due(session: Session, office: Office, now: datetime) -> bool:
    """True where keep_clock or lapse would change something."""
    paused = clock_paused_since(session) is not None
    if paused != (_count_open(session) > office.rules.appeals_flood):
        return True
    due = select(Appeal.id).where(Appeal.answered_at.is_(None), Appeal.lapsed_at.is_(None), Appeal.due_at <= now)
    return not paused and session.scalars(due.limit(1)).first() is not None


def keep_clock(session: Session, office: Office, now: datetime) -> None:
    """Pause the clock where too many appeals are open, let it run again where not; waiting time moves due dates on."""
    paused = session.scalars(select(Pause).where(Pause.what == CLOCK, Pause.until.is_(None))).first()
    count = _count_open(session)
    if paused is None and count > office.rules.appeals_flood:
        session.add(Pause(what=CLOCK, since=now))
        audit.append(session, now, "appeal.clock-pause", actor=None, subject=None, content={"open": count})
    elif paused is not None and count <= office.rules.appeals_flood:
        paused.until = now
        for appeal in open_appeals(session):
            appeal.due_at += now - max(paused.since, appeal.opened_at)
        audit.append(session, now, "appeal.clock-run", actor=None, subject=None, content={"open": count})
    session.flush()


def lapse(session: Session, office: Office, now: datetime) -> int:
    """Lift what was appealed and not answered in time, unless harm was in progress; the appeal stays open.

    Returns how many lapsed. Each lapses once, whoever calls and how often.
    """
    if clock_paused_since(session) is not None:
        return 0
    due = [one for one in open_appeals(session) if one.due_at <= now and one.lapsed_at is None]
    for appeal in due:
        appeal.lapsed_at = now
        rows = select(Sanction).where(Sanction.decision_id == appeal.decision_id, Sanction.lifted_at.is_(None))
        lifted = [row for row in session.scalars(rows) if not row.harm and row.ends_at > now]
        for row in lifted:
            sanction.lift(session, row, decision.MACHINE, "appeal not answered in time", now)
        content = {"case": appeal.case.number, "lifted": len(lifted)}
        audit.append(session, now, "appeal.lapse", actor=None, subject=appeal.member, content=content)
        if lifted:
            notice = office.letter(appeal.case, "lift", Action.LIFT, lead="lapse", next_step=letter.GO_ON)
            decision.record(
                session, appeal.case, notice, by=decision.MACHINE, reason="appeal not answered in time", now=now
            )
    session.flush()
    return len(due)
