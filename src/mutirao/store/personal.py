"""Personal data goes: when a person asks, and by itself after a time. What was decided stays, without a name.

What stays: that there was a case, its clause, rule, day, policy version, decisions and how the notice went; they make
the record of the rules. What goes: names (for a word that means nobody), excerpts, hashes of cells, reasons, and the
audit's content about them; its chain still verifies.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, or_, select, update
from sqlalchemy.orm import Session

from mutirao.store import audit
from mutirao.store.models import Audit, Base, Case, Exemption, Notice
from mutirao.store.store import Store

NAMES: dict[str, tuple[str, ...]] = {
    "case": ("member", "owner"),
    "observation": ("actor", "owner"),
    "notice": ("member",),
    "permit": ("member",),
    "exemption": ("member",),
}
"""Columns that name a person: their name there becomes an alias."""

TEXTS: dict[str, tuple[str, ...]] = {
    "observation": ("excerpt", "digest", "server", "kernel"),
    "permit": ("reason", "digest", "kernel"),
    "exemption": ("purpose",),
}
"""Columns with a person's own words or what leads back to them: they are emptied."""

KEPT: dict[str, tuple[str, ...]] = {
    "adoption": ("by", "reason"),
    "case": ("fingerprint", "category"),
    "observation": ("sensor", "via", "category", "rule", "rule_version", "maturity", "level", "why"),
    "notice": ("action", "texts"),
    "delivery": ("channel", "outcome"),
    "decision": ("by", "action", "reason"),
    "exemption": ("category", "by"),
    "tally": ("rule", "rule_version", "level"),
    "audit": ("actor", "act", "subject", "salt", "content", "commitment", "previous", "hash"),
}
"""Columns that stay (a notice's texts lose their facts, the audit is erased entry by entry)."""

FOR_EVER = ("policy.", "privacy.", "service.", "env.")
"""Acts of the audit that never expire: what administrators did to the service."""

SWEEP = "privacy.sweep"
ALIAS = "forgotten-"
BATCH = 200
AUDIT_BATCH = 2_000
LEAP = timedelta(days=7)
"""A sweep goes no further than this past the one before: a clock that jumps ahead must not empty the store."""


@dataclass(frozen=True, slots=True)
class Gone:
    """How many cases and audit entries lost their personal data."""

    cases: int
    entries: int


def forget(store: Store, name: str, now: datetime, actor: str) -> Gone:
    """Take everything personal about `name` away; an unknown name is none."""
    with store.read() as session:
        numbers, seen = _naming(session, name, 0)
    with store.write() as session:
        numbers += _naming(session, name, seen)[0]
        alias = _alias()
        about = _about(name)
        mine = list(session.scalars(select(Case.id).where(about)))
        for start in range(0, len(mine), BATCH):
            _empty(session, mine[start : start + BATCH])
        for table in ("exemption",):
            session.execute(_emptied(Base.metadata.tables[table], Base.metadata.tables[table].c.member == name))
        for table_name, columns in NAMES.items():
            table_ = Base.metadata.tables[table_name]
            for column in columns:
                session.execute(update(table_).where(table_.c[column] == name).values({column: alias}))
        erased = audit.erase(session, numbers, now, actor=actor, why="forgotten")
    return Gone(len(mine), erased)


def expire(store: Store, now: datetime, keep: timedelta) -> Gone:
    """Take personal data away that is older than `keep`; a few cases a transaction, so that nobody waits.

    The first sweep of a store only notes when it was.
    """
    with store.write() as session:
        last = session.scalars(select(Audit).where(Audit.act == SWEEP).order_by(Audit.id.desc()).limit(1)).first()
        before = datetime.fromisoformat(last.content["until"]) if last and last.content else None
        until = min(now, before + LEAP) if before else now
        content = {"until": until.isoformat(), "keep_days": keep.days}
        audit.append(session, now, SWEEP, actor="machine", subject=None, content=content)
    if before is None:
        return Gone(0, 0)
    cutoff = until - keep
    cases = entries = 0
    while part := _expire_cases(store, cutoff):
        cases += part
    with store.write() as session:
        lapsed = select(Exemption).where(Exemption.ends_at < cutoff, Exemption.member.not_like(f"{ALIAS}%"))
        for exemption in session.scalars(lapsed):
            exemption.member, exemption.purpose = _alias(), ""
    with store.read() as session:
        public = or_(*(Audit.act.like(f"{head}%") for head in FOR_EVER))
        old = select(Audit.id).where(Audit.at < cutoff, Audit.salt.is_not(None), ~and_(Audit.subject.is_(None), public))
        numbers = list(session.scalars(old.order_by(Audit.id)))
    for start in range(0, len(numbers), AUDIT_BATCH):
        with store.write() as session:
            part_numbers = numbers[start : start + AUDIT_BATCH]
            entries += audit.erase(session, part_numbers, now, actor="machine", why=f"older than {keep.days} days")
    return Gone(cases, entries)


def _expire_cases(store: Store, cutoff: datetime) -> int:
    with store.write() as session:
        wanted = select(Case).where(Case.last_seen_at < cutoff, Case.owner.not_like(f"{ALIAS}%")).limit(BATCH)
        cases = list(session.scalars(wanted))
        for case in cases:
            alias = _alias()
            for table_name, columns in NAMES.items():
                table = Base.metadata.tables[table_name]
                mine = _of_cases(table, [case.id])
                if mine is None:
                    continue
                for column in columns:
                    session.execute(update(table).where(mine, table.c[column].is_not(None)).values({column: alias}))
        _empty(session, [case.id for case in cases])
    return len(cases)


def _about(name: str) -> ColumnElement[bool]:
    """Cases about a person: theirs, and those in their runtime where nobody else is known."""
    return or_(Case.member == name, and_(Case.member.is_(None), Case.owner == name))


def _of_cases(table: Table, cases: Collection[int]) -> ColumnElement[bool] | None:
    """The rows of a table that belong to these cases; None where its rows belong to none."""
    column = table.c.id if table.name == "case" else table.c.get("case_id")
    return None if column is None else column.in_(cases)


def _empty(session: Session, cases: Sequence[int]) -> None:
    """Empty the texts of these cases."""
    for table_name in TEXTS:
        table = Base.metadata.tables[table_name]
        mine = _of_cases(table, cases)
        if mine is not None:
            session.execute(_emptied(table, mine))
    for notice in session.scalars(select(Notice).where(Notice.case_id.in_(cases))):
        notice.texts = {lang: {**text, "facts": []} for lang, text in notice.texts.items()}


def _emptied(table: Table, where: ColumnElement[bool]) -> Any:
    return update(table).where(where).values(dict.fromkeys(TEXTS[table.name], ""))


def _naming(session: Session, name: str, after: int) -> tuple[list[int], int]:
    """The audit's entries past `after` that name the person anywhere, and the last number that was read."""
    found, last = [], after
    wanted = select(Audit.id, Audit.actor, Audit.subject, Audit.content).where(Audit.id > after).order_by(Audit.id)
    with session.execute(wanted.execution_options(yield_per=AUDIT_BATCH)) as rows:
        for number, actor, subject, content in rows:
            last = number
            if name in (actor, subject) or name in _values(content):
                found.append(number)
    return found, last


def _values(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        for value in content.values():
            yield from _values(value)
    elif isinstance(content, list):
        for value in content:
            yield from _values(value)
    else:
        yield content


def _alias() -> str:
    """A name that means nobody and can't be one: no two are alike, so cases stay apart."""
    return ALIAS + secrets.token_hex(6)
