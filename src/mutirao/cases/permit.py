"""Leave to run one held cell: ten minutes, one kernel, one hash, for a reason that is reviewed afterwards."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.cases.action import Action
from mutirao.cases.decide import NEVER_HELD
from mutirao.policy.category import Category
from mutirao.store import audit
from mutirao.store.models import Audit, Case, Observation, Permit

PERMIT_LIFE = timedelta(minutes=10)
REASON_LENGTH = range(10, 2001)


@dataclass(frozen=True, slots=True)
class Granted:
    """The permit, and until when it holds."""

    permit: Permit


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no permit: not-held, never-held, reason-length."""

    why: str


def held(case: Case, cell: str = "") -> Observation | None:
    """The newest observation of the cell whose digest begins with `cell`; of the last cell where that is empty."""
    return next((seen for seen in reversed(case.observations) if seen.digest.startswith(cell)), None)


def holding(case: Case, seen: Observation | None, now: datetime) -> Permit | None:
    """The permit of this case that covers the observed cell now."""
    if seen is None:
        return None
    mine = (permit for permit in reversed(case.permits) if permit.granted_at <= now < permit.expires_at)
    return next((permit for permit in mine if (permit.kernel, permit.digest) == (seen.kernel, seen.digest)), None)


def grant(session: Session, case: Case, member: str, reason: str, now: datetime, cell: str = "") -> Granted | Refused:
    """Let `member` run one held cell of their own case, named by the first digits of its digest, or the last one.

    Mining and DoS are never held. A cell that has a permit keeps that one.
    """
    if Category(case.category) in NEVER_HELD:
        return Refused("never-held")
    if not case.decisions or case.decisions[-1].action != Action.HOLD or case.member != member:
        return Refused("not-held")
    reason = reason.strip()
    if len(reason) not in REASON_LENGTH:
        return Refused("reason-length")
    seen = held(case, cell)
    if seen is None:
        return Refused("not-held")
    if (standing := holding(case, seen, now)) is not None and not _outlived(session, standing):
        return Granted(standing)
    permit = Permit(
        case_id=case.id,
        member=member,
        kernel=seen.kernel,
        digest=seen.digest,
        reason=reason,
        granted_at=now,
        expires_at=now + PERMIT_LIFE,
    )
    session.add(permit)
    content = {"case": case.number, "digest": seen.digest, "reason": reason}
    audit.append(session, now, "permit.grant", actor=member, subject=member, content=content)
    return Granted(permit)


def valid(session: Session, member: str | None, kernel: str, digest: str, now: datetime) -> Permit | None:
    """The permit that covers this cell now."""
    if member is None:
        return None
    wanted = select(Permit).where(
        Permit.member == member,
        Permit.kernel == kernel,
        Permit.digest == digest,
        Permit.granted_at <= now,
        Permit.expires_at > now,
    )
    found = session.scalars(wanted.order_by(Permit.id.desc()).limit(1)).first()
    return None if found is None or _outlived(session, found) else found


def _outlived(session: Session, permit: Permit) -> bool:
    """True where the audit has seen a time past the permit's end since it was granted: the clock was set back."""
    granted = select(Audit.id).where(
        Audit.subject == permit.member, Audit.act == "permit.grant", Audit.at == permit.granted_at
    )
    number = session.scalars(granted.order_by(Audit.id).limit(1)).first()
    if number is None:
        return False
    later = select(Audit.id).where(Audit.id > number, Audit.at >= permit.expires_at)
    return session.scalars(later.limit(1)).first() is not None
