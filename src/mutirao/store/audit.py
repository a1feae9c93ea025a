"""The audit: a hash chain over salted commitments, so that personal data can go while the chain still verifies.

commitment = SHA-256(salt | canonical JSON of the content)
hash       = SHA-256(previous hash | id | time | commitment)

An erased entry keeps number, time, commitment and hashes. Whoever erases says so in an entry of the chain, and
`verify` takes an entry without content for broken where no later one names it.
"""

import hashlib
import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

from sqlalchemy import null, select, update
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


ERASE = "privacy.erase"
"""The act of an entry that names the entries whose content was erased."""

ERASED = "erased"
"""What stands for the act of an entry whose content is gone: nothing there is told that nothing vouches for."""

BATCH = 2_000
COLUMNS = (
    Audit.id,
    Audit.at,
    Audit.actor,
    Audit.act,
    Audit.subject,
    Audit.salt,
    Audit.content,
    Audit.commitment,
    Audit.previous,
    Audit.hash,
)


class Entry(Protocol):
    """What is read of one link: a row of the table, or the same from a backup."""

    id: Any
    at: Any
    actor: Any
    act: Any
    subject: Any
    salt: Any
    content: Any
    commitment: Any
    previous: Any
    hash: Any


def entries(session: Session) -> Iterator[Entry]:
    """Every link in order, a batch in memory at a time."""
    wanted = select(*COLUMNS).order_by(Audit.id).execution_options(yield_per=BATCH)
    with session.execute(wanted) as rows:
        yield from cast(Iterator[Entry], rows)


def erase(session: Session, numbers: Collection[int], at: datetime, *, actor: str, why: str) -> int:
    """Take content, salt and names out of these entries, and say so in the chain; how many there were.

    An entry that tells of an erasure stays: without it nobody could tell erased from destroyed.
    """
    wanted = sorted(set(numbers))
    gone: list[int] = []
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        erasable = select(Audit.id).where(Audit.id.in_(part), Audit.act != ERASE, Audit.salt.is_not(None))
        found = list(session.scalars(erasable.order_by(Audit.id)))
        session.execute(
            update(Audit)
            .where(Audit.id.in_(found))
            .values(salt=None, content=null(), actor=None, subject=None, act=ERASED)
        )
        gone += found
    if gone:
        append(session, at, ERASE, actor=actor, subject=None, content={"why": why, "entries": _ranges(gone)})
    return len(gone)


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Rising numbers as [first, last] pairs."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


@dataclass(frozen=True, slots=True)
class Broken:
    """The first link that does not hold, and why."""

    number: int
    reason: str


@dataclass(slots=True)
class Check:
    """Checks a chain link by link, in bounded memory; `heads` are the hashes that were signed, by number.

    `number` and `hash` are those of the last link that held.
    """

    heads: Mapping[int, str] = field(default_factory=dict)
    number: int = 0
    hash: str = GENESIS
    _blank: list[list[int]] = field(default_factory=list)

    def take(self, entry: Entry) -> Broken | None:
        """None where this link holds and follows the one before."""
        expected = self.number + 1
        if entry.id != expected:
            return Broken(expected, f"entry {expected} is missing")
        if entry.previous != self.hash:
            return Broken(entry.id, "it does not follow the entry before it")
        if entry.salt is not None and entry.content is not None:
            if commit(entry.salt, entry.content) != entry.commitment:
                return Broken(entry.id, "its content was changed")
            told = (entry.content.get("act"), entry.content.get("actor"), entry.content.get("subject"))
            if told != (entry.act, entry.actor, entry.subject):
                return Broken(entry.id, "its columns differ from its content")
            if entry.act == ERASE:
                self._covered(entry.content["entries"])
        elif (entry.act, entry.actor, entry.subject) != (ERASED, None, None):
            return Broken(entry.id, "its content is gone, but its columns still tell something")
        elif self._blank and self._blank[-1][1] == entry.id - 1:
            self._blank[-1][1] = entry.id
        else:
            self._blank.append([entry.id, entry.id])
        if link(self.hash, entry.id, entry.at, entry.commitment) != entry.hash:
            return Broken(entry.id, "its hash does not fit")
        if self.heads.get(entry.id, entry.hash) != entry.hash:
            return Broken(entry.id, "it is not the entry whose hash was signed: the chain was written anew")
        self.number, self.hash = entry.id, entry.hash
        return None

    def end(self) -> Broken | None:
        """None where nothing lacks behind the last link, and every erased entry is named by an erasure."""
        if self._blank:
            return Broken(self._blank[0][0], "its content is gone, and no erasure names it")
        if self.heads and max(self.heads) > self.number:
            return Broken(
                self.number + 1, f"entry {self.number + 1} is missing: a head was signed at entry {max(self.heads)}"
            )
        return None

    def _covered(self, ranges: Iterable[Sequence[int]]) -> None:
        """Forget the blank entries that an erasure names."""
        for first, last in ranges:
            left: list[list[int]] = []
            for low, high in self._blank:
                if low < first:
                    left.append([low, min(high, first - 1)])
                if high > last:
                    left.append([max(low, last + 1), high])
            self._blank = left


def verify(chain: Iterable[Entry], heads: Mapping[int, str] | None = None) -> Broken | None:
    """None when every link holds; entries come in order of their numbers, `heads` are signed hashes by number."""
    check = Check(heads or {})
    for entry in chain:
        broken = check.take(entry)
        if broken:
            return broken
    return check.end()
