"""The audit: a hash chain over salted commitments, so that personal data can go while the chain still verifies.

commitment = SHA-256(salt | canonical JSON of the content)
hash       = SHA-256(previous hash | id | time | commitment)
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.store.models import Audit, storable

GENESIS = "0" * 64


def commit(salt: str, content: dict[str, Any]) -> str:
    """The salted commitment to `content`, in hexadecimal."""
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{salt}|{body}".encode()).hexdigest()


def link(previous: str, number: int, at: datetime, commitment: str) -> str:
    """The hash of one link, in hexadecimal."""
    return hashlib.sha256(f"{previous}|{number}|{at.isoformat()}|{commitment}".encode()).hexdigest()


def append(
    session: Session, at: datetime, act: str, *, actor: str | None, subject: str | None, content: dict[str, Any]
) -> Audit:
    """Add a link within the caller's write transaction."""
    last = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(1)).first()
    number = last.id + 1 if last else 1
    previous = last.hash if last else GENESIS
    salt = secrets.token_hex(16)
    actor, subject = _plain(actor), _plain(subject)
    content = _plain({"act": act, "actor": actor, "subject": subject, **content})
    commitment = commit(salt, content)
    entry = Audit(
        id=number,
        at=at,
        actor=actor,
        act=act,
        subject=subject,
        salt=salt,
        content=content,
        commitment=commitment,
        previous=previous,
        hash=link(previous, number, at, commitment),
    )
    session.add(entry)
    session.flush()
    return entry


def _plain(value: Any) -> Any:
    """The value with every text in it as the database keeps it."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Broken:
    """The first link that does not hold, and why."""

    number: int
    reason: str


def verify(entries: Iterable[Audit]) -> Broken | None:
    """None when every link holds; entries come in order of their numbers."""
    previous, expected = GENESIS, 1
    for entry in entries:
        if entry.id != expected:
            return Broken(expected, f"entry {expected} is missing")
        if entry.previous != previous:
            return Broken(entry.id, "it does not follow the entry before it")
        if entry.salt is not None and entry.content is not None:
            if commit(entry.salt, entry.content) != entry.commitment:
                return Broken(entry.id, "its content was changed")
            told = (entry.content.get("act"), entry.content.get("actor"), entry.content.get("subject"))
            if told != (entry.act, entry.actor, entry.subject):
                return Broken(entry.id, "its columns differ from its content")
        if link(previous, entry.id, entry.at, entry.commitment) != entry.hash:
            return Broken(entry.id, "its hash does not fit")
        previous, expected = entry.hash, expected + 1
    return None
