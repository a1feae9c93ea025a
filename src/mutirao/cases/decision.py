"""A decision and its notice, written together with the letters that carry it and the audit's link."""

import uuid
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from mutirao.cases.action import Action
from mutirao.cases.notice import Notice
from mutirao.store import audit
from mutirao.store.consequence import Letter
from mutirao.store.models import Case, Decision, Delivery
from mutirao.store.models import Notice as StoredNotice

MACHINE = "machine"
CHANNELS = ("notebook", "mail")
"""How a notice that no cell brought goes out; on the member's page it stands from the moment it is written."""


def record(
    session: Session,
    case: Case,
    notice: Notice,
    *,
    by: str,
    reason: str,
    now: datetime,
    member: str | None = None,
    version: int | None = None,
    act: str = "",
    channels: tuple[str, ...] = CHANNELS,
    more: dict[str, Any] | None = None,
) -> Decision:
    """Write notice, decision, letters and audit; `member` is who is told, the case's if not given."""
    member = member or case.member
    made = Decision(
        case_id=case.id,
        at=now,
        by=by,
        action=notice.action.value,
        policy_version=version or case.policy_version,
        reason=reason,
    )
    made.key = uuid.uuid4().hex
    stored = _write(session, case, notice, member, now, made.key, channels)
    made.notice_id = stored.id
    session.add(made)
    session.flush()
    session.expire(case, ["decisions"])
    content = {"case": case.number, "action": notice.action.value, "policy": made.policy_version, "reason": reason}
    actor = None if by == MACHINE else by
    audit.append(
        session, now, act or f"case.{notice.action}", actor=actor, subject=member, content=content | (more or {})
    )
    return made


def inform(session: Session, case: Case, notice: Notice, now: datetime, member: str | None = None) -> StoredNotice:
    """Write a notice that decides nothing, such as that an appeal has come in; its action is `inform`."""
    if notice.action is not Action.INFORM:
        raise ValueError(f"a notice of {notice.action} needs its decision: use record")
    return _write(session, case, notice, member or case.member, now, None, CHANNELS)


def _write(
    session: Session,
    case: Case,
    notice: Notice,
    member: str | None,
    now: datetime,
    decided: str | None,
    channels: tuple[str, ...],
) -> StoredNotice:
    texts = {lang: asdict(text) for lang, text in notice.texts.items()}
    stored = StoredNotice(
        case_id=case.id, member=member, written_at=now, action=notice.action.value, texts=texts, decided=decided
    )
    session.add(stored)
    session.flush()
    if member is not None and channels:
        session.add(Delivery(notice_id=stored.id, at=now, channel="page", outcome="stands on the member's page"))
        session.add_all(Letter(notice_id=stored.id, channel=channel, due_at=now) for channel in channels)
    return stored
