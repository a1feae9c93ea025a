"""Which policy version is in force when: versions ship with the software, an operator adopts them, dated ahead."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.errors import PolicyError
from mutirao.store import audit
from mutirao.store.models import Adoption


@dataclass(frozen=True, slots=True)
class InForce:
    """A version with the time since which it has been in force."""

    version: int
    since: datetime
    announced_at: datetime


def adoptions(session: Session) -> list[Adoption]:
    """Every adoption, oldest first by the time it takes effect."""
    return list(session.scalars(select(Adoption).order_by(Adoption.effective_from, Adoption.id)))


def has_begun(entry: Adoption, now: datetime) -> bool:
    """True where the version has taken effect: its time has come, or it took effect when it was announced.

    The latter holds even where the clock was set back since; or the first policy would be in force no more.
    """
    return entry.effective_from <= now or entry.effective_from <= entry.announced_at


def in_force(session: Session, now: datetime) -> InForce:
    """The adoption in force at `now`: the latest that has taken effect, a later one standing in for an earlier."""
    past = [entry for entry in adoptions(session) if has_begun(entry, now)]
    if not past:
        raise PolicyError("No policy is in force: adopt one with `mutirao policy adopt 1`.")
    last = past[-1]
    return InForce(last.version, last.effective_from, last.announced_at)


def adopt(
    session: Session, version: int, *, known: set[int], effective_from: datetime, now: datetime, by: str, reason: str
) -> Adoption:
    """Announce a version now, to take effect then; a time in the past or an unknown version is refused."""
    if version not in known:
        raise PolicyError(f"Policy {version} does not ship with this Mutirão: choose one of {sorted(known)}.")
    when = f"{effective_from:%Y-%m-%d %H:%M} UTC"
    if effective_from < now:
        raise PolicyError(f"Policy {version} can't take effect at {when}: that has passed.")
    entry = Adoption(version=version, announced_at=now, effective_from=effective_from, by=by, reason=reason)
    session.add(entry)
    content = {"version": version, "effective_from": effective_from.isoformat(), "reason": reason}
    audit.append(session, now, "policy.adopt", actor=by, subject=None, content=content)
    return entry
