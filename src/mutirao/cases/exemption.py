"""Exemptions and "may I?": asked for by a member, answered by a person, bound to a policy version and an end."""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.cases import decision, letter
from mutirao.cases.action import Action
from mutirao.cases.adoption import in_force
from mutirao.cases.decide import Standing
from mutirao.cases.office import Office, Refused
from mutirao.policy.category import Category
from mutirao.store import audit
from mutirao.store.models import Case, Exemption

PURPOSE_LENGTH = range(20, 2001)
REVIEW_DAYS = 30
"""A request that nobody answers is forgotten after so long."""
OPEN_A_MEMBER = 5


class Kind(StrEnum):
    """What was asked: leave for a purpose, or whether something is allowed at all."""

    EXEMPTION = "exemption"
    MAY_I = "may-i"


def standing(session: Session, member: str | None, category: Category, version: int, now: datetime) -> Standing:
    """What a member has declared about one category, under a policy version; a refusal gives nothing."""
    if member is None:
        return Standing.PLAIN
    wanted = select(Exemption).where(
        Exemption.member == member,
        Exemption.category == category.value,
        Exemption.policy_version == version,
        Exemption.ends_at > now,
        Exemption.refused.is_(False),
    )
    found = session.scalars(wanted.order_by(Exemption.under_review)).first()
    if found is None:
        return Standing.PLAIN
    return Standing.UNDER_REVIEW if found.under_review else Standing.EXEMPT


def request(
    session: Session,
    office: Office,
    member: str,
    category: Category,
    purpose: str,
    now: datetime,
    kind: Kind = Kind.EXEMPTION,
) -> Exemption | Refused:
    """Declare a purpose under the policy in force; it becomes a case of its own, whose answer can be appealed.

    One that waits already for this category is returned as it is. Refused: length, not-in-policy, too-many.
    """
    purpose = purpose.strip()
    if len(purpose) not in PURPOSE_LENGTH:
        return Refused("length")
    version = in_force(session, now).version
    if category not in office.policies[version].clauses:
        return Refused("not-in-policy")
    waiting = [one for one in waiting_for_answer(session, now) if one.member == member]
    for one in waiting:
        if one.category == category and one.policy_version == version and one.kind == kind:
            return one
    if len(waiting) >= OPEN_A_MEMBER:
        return Refused("too-many")
    case = _case(session, member, category, version, now)
    made = Exemption(
        member=member,
        category=category.value,
        policy_version=version,
        purpose=purpose,
        under_review=True,
        by=member,
        granted_at=now,
        ends_at=now + timedelta(days=REVIEW_DAYS),
        kind=kind.value,
        case_id=case.id,
    )
    session.add(made)
    session.flush()
    notice = office.letter(case, "declared", Action.INFORM, version=version, lead="declared", next_step=letter.GO_ON)
    decision.inform(session, case, notice, now)
    content = {"case": case.number, "category": category.value, "kind": kind.value, "purpose": purpose}
    audit.append(session, now, "exemption.request", actor=member, subject=member, content=content)
    return made


def _case(session: Session, member: str, category: Category, version: int, now: datetime) -> Case:
    """The case of today's requests of one member for one category."""
    fingerprint = f"exemption:{category}"
    wanted = select(Case).where(Case.member == member, Case.fingerprint == fingerprint, Case.day == now.date())
    case = session.scalars(wanted).first()
    if case is None:
        case = Case(
            member=member,
            owner=member,
            fingerprint=fingerprint,
            category=category.value,
            day=now.date(),
            policy_version=version,
            opened_at=now,
            last_seen_at=now,
            seen=0,
            origin="exemption",
        )
        session.add(case)
        session.flush()
    case.seen += 1
    case.last_seen_at = now
    return case


def waiting_for_answer(session: Session, now: datetime) -> list[Exemption]:
    """The requests that nobody has answered, oldest first."""
    wanted = select(Exemption).where(Exemption.under_review.is_(True), Exemption.ends_at > now)
    return list(session.scalars(wanted.order_by(Exemption.id)))


def of(session: Session, member: str) -> list[Exemption]:
    """What a member has asked for, newest first."""
    return list(session.scalars(select(Exemption).where(Exemption.member == member).order_by(Exemption.id.desc())))


def answer(
    session: Session,
    office: Office,
    entry: Exemption,
    by: str,
    why: str,
    now: datetime,
    *,
    grant: bool,
    days: float | None = None,
) -> Exemption | Refused:
    """Grant for so many days (the most that is configured if None) or refuse; the member is told.

    Refused: answered, own (nobody answers their own), why (no reason given).
    """
    why = why.strip()
    if not entry.under_review:
        return Refused("answered")
    if by == entry.member:
        return Refused("own")
    if not why or len(why) > 2000:
        return Refused("why")
    longest = office.rules.exemption_days
    entry.under_review, entry.refused, entry.by, entry.answer, entry.granted_at = False, not grant, by, why, now
    if grant:
        entry.ends_at = now + timedelta(days=min(days if days and days > 0 else longest, longest))
    case = (
        session.get_one(Case, entry.case_id)
        if entry.case_id
        else _case(session, entry.member, Category(entry.category), entry.policy_version, now)
    )
    action = Action.GRANT if grant else Action.REFUSE
    notice = office.letter(
        case,
        action.value,
        action,
        version=entry.policy_version,
        lead="person",
        follows=letter.FOLLOWS["allowed" if grant else "as-before"],
        next_step=letter.GO_ON if grant else letter.APPEAL,
        by=by,
        why=why,
        ends=letter.moment(entry.ends_at),
    )
    decision.record(
        session, case, notice, by=by, reason=why, now=now, version=entry.policy_version, act=f"exemption.{action}"
    )
    return entry
