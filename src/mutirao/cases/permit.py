"""Leave to run one held cell: ten minutes, one kernel, one hash, for a reason that is reviewed afterwards."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.cases.action import Action
from mutirao.cases.decide import NEVER_HELD
from mutirao.policy.category import Category
from mutirao.store import audit
from mutirao.store.models import Case, Permit

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


def grant(session: Session, case: Case, member: str, reason: str, now: datetime) -> Granted | Refused:
    """Let `member` run the last held cell of their own case; mining and DoS are never held."""
    if Category(case.category) in NEVER_HELD:
        return Refused("never-held")
    if not case.decisions or case.decisions[-1].action != Action.HOLD or case.member != member:
        return Refused("not-held")
    reason = reason.strip()
    if len(reason) not in REASON_LENGTH:
        return Refused("reason-length")
    seen = case.observations[-1]
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
        Permit.member == member, Permit.kernel == kernel, Permit.digest == digest, Permit.expires_at > now
    )
    return session.scalars(wanted.order_by(Permit.id.desc()).limit(1)).first()
