"""Reports from outside: a victim of a deepfake, an abuse mail from upstream. Each is a case with an acknowledgement."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases.adoption import in_force
from mutirao.cases.office import Office, Refused
from mutirao.policy.category import Category
from mutirao.store import audit
from mutirao.store.consequence import Report
from mutirao.store.models import Case

TEXT_LENGTH = range(20, 4001)
CONTACT_LENGTH = range(3, 201)


@dataclass(frozen=True, slots=True)
class Taken:
    """The acknowledgement: the case's number, and the key by which the reporter alone sees how it stands."""

    report: Report
    number: str
    token: str


def take(
    session: Session, office: Office, *, source: str, contact: str, category: Category, text: str, now: datetime
) -> Taken | Refused:
    """Take a report; `source` is whatever sends it (an address, say), kept as a hash for counting only.

    Refused: length, contact, not-in-policy, source-limit, day-limit.
    """
    text, contact = text.strip(), contact.strip()
    if len(text) not in TEXT_LENGTH:
        return Refused("length")
    if len(contact) not in CONTACT_LENGTH:
        return Refused("contact")
    version = in_force(session, now).version
    if category not in office.policies[version].clauses:
        return Refused("not-in-policy")
    hashed = hashlib.sha256(f"{now.date()}|{source}".encode("utf-8", "replace")).hexdigest()[:32]
    today = select(func.count()).select_from(Report).where(Report.at > now - timedelta(days=1))
    if (session.scalar(today.where(Report.source == hashed)) or 0) >= office.rules.reports_per_source:
        return Refused("source-limit")
    if (session.scalar(today) or 0) >= office.rules.reports_per_day:
        return Refused("day-limit")
    token = secrets.token_urlsafe(18)
    case = Case(
        member=None,
        owner="",
        fingerprint=f"report:{secrets.token_hex(8)}",
        category=category.value,
        day=now.date(),
        policy_version=version,
        opened_at=now,
        last_seen_at=now,
        seen=1,
        origin="report",
    )
    session.add(case)
    session.flush()
    made = Report(
        case_id=case.id,
        token_hash=_hash(token),
        at=now,
        source=hashed,
        contact=contact,
        category=category.value,
        text=text,
    )
    session.add(made)
    session.flush()
    content = {"case": case.number, "category": category.value}
    audit.append(session, now, "report.take", actor=None, subject=None, content=content)
    return Taken(made, case.number, token)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def by_token(session: Session, token: str) -> Report | None:
    """The report that this key opens: it shows state and answer, never who the member is."""
    wanted = select(Report).where(Report.token_hash == _hash(token)).options(selectinload(Report.case))
    return session.scalars(wanted).first()


def open_reports(session: Session) -> list[Report]:
    """The reports that nobody has closed, oldest first."""
    wanted = select(Report).where(Report.closed_at.is_(None)).options(selectinload(Report.case))
    return list(session.scalars(wanted.order_by(Report.id)))


def link(session: Session, entry: Report, member: str, by: str, why: str, now: datetime) -> Report | Refused:
    """Say whom a report is about: the case is that member's from now on, who sees it, but not who reported.

    Refused: closed, linked (already), own (the reviewer is the member), why.
    """
    if entry.closed_at is not None:
        return Refused("closed")
    if entry.linked_at is not None:
        return Refused("linked")
    if by == member:
        return Refused("own")
    if not why.strip() or not member:
        return Refused("why")
    case = session.get_one(Case, entry.case_id)
    case.member = case.owner = member
    entry.linked_at, entry.linked_by = now, by
    content = {"case": case.number, "why": why}
    audit.append(session, now, "report.link", actor=by, subject=member, content=content)
    session.flush()
    return entry


def close(session: Session, entry: Report, by: str, answer: str, now: datetime) -> Report | Refused:
    """Close a report with an answer, which the reporter reads by their key.

    Refused: closed, own (it is about the reviewer), why (no answer).
    """
    answer = answer.strip()
    case = session.get_one(Case, entry.case_id)
    if entry.closed_at is not None:
        return Refused("closed")
    if by == case.member:
        return Refused("own")
    if not answer or len(answer) > 2000:
        return Refused("why")
    entry.closed_at, entry.closed_by, entry.answer = now, by, answer
    content = {"case": case.number, "answer": answer}
    audit.append(session, now, "report.close", actor=by, subject=case.member, content=content)
    session.flush()
    return entry
