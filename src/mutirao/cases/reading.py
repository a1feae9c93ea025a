"""Who looked at another's case: an act of its own in the audit, at most one for a reader and a case in an hour."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.store import audit
from mutirao.store.models import Audit, Case

READ = "case.read"
EVERY = timedelta(hours=1)


def note_reading(session: Session, reader: str, case: Case, now: datetime) -> None:
    """Write that `reader` saw the case, unless the last hour's entry says so; a clock set back counts as a new hour."""
    subject = case.owner if case.member is None else case.member
    wanted = select(Audit).where(Audit.subject == subject, Audit.act == READ, Audit.actor == reader)
    for entry in session.scalars(wanted.order_by(Audit.id.desc())):
        if not timedelta(0) <= now - entry.at < EVERY:
            break
        if entry.content is not None and entry.content.get("case") == case.number:
            return
    audit.append(session, now, READ, actor=reader, subject=subject, content={"case": case.number})
