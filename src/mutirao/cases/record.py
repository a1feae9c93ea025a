"""All that is recorded about one member, for that member."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session, selectinload

from mutirao.store.consequence import Appeal, Letter, Member, Report, Sanction, Strike
from mutirao.store.models import Audit, Base, Case, Decision, Delivery, Exemption, Notice, Observation, Permit

LARGEST_ID = 2**31 - 1
"""What a case's number can be in the database; PostgreSQL takes a larger one for a fault."""


def find_case(session: Session, number: str) -> Case | None:
    """The case with this number, as people write it: M-2026-000123; None where there is none."""
    head, _, tail = number.upper().rpartition("-")
    if not tail.isascii() or not tail.isdigit() or len(tail) > 12 or int(tail) > LARGEST_ID:
        return None
    case = session.get(
        Case,
        int(tail),
        options=[
            selectinload(Case.observations),
            selectinload(Case.permits),
            selectinload(Case.decisions).selectinload(Decision.notice).selectinload(Notice.deliveries),
        ],
    )
    return case if case is not None and case.number == f"{head}-{tail}" else None


def cases_of(session: Session, member: str) -> list[Case]:
    """The member's cases, newest first, each with its decisions and notices."""
    wanted = select(Case).where(Case.member == member).order_by(Case.last_seen_at.desc(), Case.id.desc())
    return list(session.scalars(wanted.options(selectinload(Case.decisions).selectinload(Decision.notice))))


def notices_of(session: Session, member: str, limit: int = 100) -> list[Notice]:
    """The member's notices, newest first."""
    wanted = select(Notice).where(Notice.member == member).order_by(Notice.id.desc()).limit(limit)
    return list(session.scalars(wanted.options(selectinload(Notice.case), selectinload(Notice.deliveries))))


def record_of(session: Session, member: str) -> dict[str, Any]:
    """Everything stored that names the member, table by table, as plain JSON values."""
    about_me = or_(Case.member == member, and_(Case.member.is_(None), Case.owner == member))
    cases = list(session.scalars(select(Case).where(about_me)))
    mine = [case.id for case in cases]
    observations = select(Observation).where(Observation.case_id.in_(mine))
    return {
        "member": member,
        "cases": [{"number": case.number, **_row(case)} for case in cases],
        "observations": [_row(row) for row in session.scalars(observations)],
        "decisions": [_row(row) for row in session.scalars(select(Decision).where(Decision.case_id.in_(mine)))],
        "notices": [_row(row) for row in session.scalars(select(Notice).where(Notice.case_id.in_(mine)))],
        "deliveries": [
            _row(row)
            for row in session.scalars(
                select(Delivery).join(Notice, Notice.id == Delivery.notice_id).where(Notice.case_id.in_(mine))
            )
        ],
        "permits": [_row(row) for row in session.scalars(select(Permit).where(Permit.member == member))],
        "exemptions": [_row(row) for row in session.scalars(select(Exemption).where(Exemption.member == member))],
        "attendance": [_row(row) for row in session.scalars(select(Member).where(Member.name == member))],
        "strikes": [_row(row) for row in session.scalars(select(Strike).where(Strike.member == member))],
        "sanctions": [_row(row) for row in session.scalars(select(Sanction).where(Sanction.member == member))],
        "appeals": [_row(row) for row in session.scalars(select(Appeal).where(Appeal.member == member))],
        "letters": [
            _row(row)
            for row in session.scalars(
                select(Letter).join(Notice, Notice.id == Letter.notice_id).where(Notice.case_id.in_(mine))
            )
        ],
        "reports": [  # that there is one, never by whom, nor words that would tell
            {key: value for key, value in _row(row).items() if key not in ("contact", "source", "token_hash", "text")}
            for row in session.scalars(select(Report).where(Report.case_id.in_(mine)))
        ],
        "audit": [
            _row(row)
            for row in session.scalars(select(Audit).where(or_(Audit.subject == member, Audit.actor == member)))
        ],
    }


def _row(entry: Base) -> dict[str, Any]:
    values = {column.key: getattr(entry, column.key) for column in entry.__table__.columns}
    return {key: value.isoformat() if isinstance(value, datetime | date) else value for key, value in values.items()}
