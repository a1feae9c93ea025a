"""Persons: several accounts that are known to be one's, joined by a named human and by the rules of cases/link.py."""

import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from mutirao.cases import member, strike
from mutirao.cases.decision import MACHINE
from mutirao.cases.link import Key, Linked, NotLinked, link
from mutirao.cases.office import Refused
from mutirao.store import audit


def join(
    session: Session, one: str, other: str, shared: Iterable[Key], by: str, now: datetime
) -> Linked | NotLinked | Refused:
    """Take two accounts for one person's; the audit keeps by which keys, and who said so.

    The verdict is a strike that lives: not void, not gone, not silent in an incident. Refused: machine, same.
    """
    if by in ("", MACHINE):
        return Refused("machine")
    if one == other:
        return Refused("same")
    verdict = any(strike.live(session, name, now) for name in (one, other))
    found = link(shared, verdict=verdict)
    if isinstance(found, Linked):
        both = [member.seen(session, name, now) for name in (one, other)]
        person = both[0].person or both[1].person or uuid.uuid4().hex
        for account in both:
            account.person = person
        session.flush()
        content = {"with": other, "keys": sorted(found.keys)}
        audit.append(session, now, "person.join", actor=by, subject=one, content=content)
    return found
