"""Members as enforcement knows them: since when, on how many days, and whose several accounts are one person."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mutirao.fairness import Cases
from mutirao.store import audit
from mutirao.store.consequence import Member
from mutirao.store.models import Observation


def seen(session: Session, name: str, now: datetime, created: datetime | None = None) -> Member:
    """Note that a member ran something today; `created` is when the hub made the account, where that is known.

    Called as often as one likes: a day counts once, and nothing is written on its second call.
    """
    found = session.get(Member, name)
    if found is None:
        found = Member(name=name, first_seen_at=created or now, last_seen_on=now.date(), active_days=1)
        session.add(found)
        session.flush()
    elif found.last_seen_on < now.date():
        found.last_seen_on = now.date()
        found.active_days += 1
    if created is not None and created < found.first_seen_at:
        found.first_seen_at = created
    return found


def people_hit(session: Session, cause: str, now: datetime, rules: Cases) -> int:
    """How many established people one cause has hit within the window; several accounts of a person are one."""
    wanted = (
        select(func.count(func.distinct(func.coalesce(Member.person, Member.name))))
        .select_from(Observation)
        .join(Member, Member.name == Observation.actor)
        .where(
            Observation.cause == cause,
            Observation.level == "stop",
            Observation.at >= now - timedelta(hours=rules.incident_window_h),
            Member.first_seen_at <= now - timedelta(days=rules.established_days),
            Member.active_days >= rules.established_active_days,
        )
    )
    return session.scalar(wanted) or 0


def reach(session: Session, name: str, now: datetime, *, mail: str | None, lang: str | None = None) -> None:
    """Where and in which language to write to a member; None takes the address away."""
    found = seen(session, name, now)
    found.mail, found.lang = mail, lang or found.lang
    audit.append(session, now, "member.reach", actor=name, subject=name, content={"mail": mail is not None})
