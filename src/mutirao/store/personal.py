"""Personal data goes: when a person asks, and by itself after a time. What was decided stays, without a name.

What stays: that there was a case, its clause, rule, day, policy version, decisions and how the notice went; they make
the record of the rules. What goes: names (for a word that means nobody), excerpts, hashes of cells, reasons, and the
audit's content about them; its chain still verifies.

A case of which something still holds (a restriction with the strikes under it, an open appeal or report) keeps its
names until that has ended: being forgotten ends no restriction, and an appeal is answered to somebody.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, or_, select, true, update
from sqlalchemy.orm import Session, selectinload

from mutirao.store import audit
from mutirao.store.consequence import Appeal, Letter, Member, Report, Sanction, Strike
from mutirao.store.models import Audit, Base, Case, Delivery, Exemption, Notice
from mutirao.store.store import Store

NAMES: dict[str, tuple[str, ...]] = {
    "case": ("member", "owner"),
    "observation": ("actor", "owner"),
    "notice": ("member",),
    "permit": ("member",),
    "exemption": ("member",),
    "strike": ("member",),
    "sanction": ("member",),
    "appeal": ("member",),
    "member": ("name", "person"),
}
"""Columns that name a person: their name there becomes an alias."""

TEXTS: dict[str, tuple[str, ...]] = {
    "observation": ("excerpt", "digest", "server", "kernel"),
    "permit": ("reason", "digest", "kernel"),
    "exemption": ("purpose", "answer"),
    "appeal": ("text", "answer"),
    "report": ("contact", "source", "text", "answer"),
    "member": ("mail", "lang"),
}
"""Columns with a person's own words or what leads back to them: they are emptied."""

KEPT: dict[str, tuple[str, ...]] = {
    "adoption": ("by", "reason"),
    "case": ("fingerprint", "category", "origin"),
    "observation": ("sensor", "via", "category", "rule", "rule_version", "maturity", "level", "why", "cause"),
    "notice": ("action", "texts", "key", "decided"),
    "delivery": ("channel", "outcome"),
    "letter": ("channel",),
    "decision": ("by", "action", "reason", "key"),
    "exemption": ("category", "by", "kind"),
    "strike": ("cause", "void_by", "void_why"),
    "sanction": ("scope", "cause", "by", "lifted_by", "lifted_why"),
    "appeal": ("author", "outcome", "answered_by"),
    "report": ("token_hash", "category", "linked_by", "closed_by"),
    "incident": ("cause", "category", "outcome", "closed_by", "why"),
    "pause": ("what",),
    "tally": ("rule", "rule_version", "level"),
    "audit": ("actor", "act", "subject", "salt", "content", "commitment", "previous", "hash"),
}
"""Columns that stay (a notice loses its facts, a delivery the mail server's words, the audit goes entry by entry).

Reviewers' and operators' names and reasons are the record of power. Causes, strikes and sanctions stay, and so does
that a member was established: how many people one cause hit is counted with those who were forgotten since.
"""

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
    """How many cases and audit entries lost their personal data; `kept` cases wait until what holds has ended."""

    cases: int
    entries: int
    kept: int = 0


def forget(store: Store, name: str, now: datetime, actor: str) -> Gone:
    """Take everything personal about `name` away; an unknown name is none."""
    with store.read() as session:
        numbers, seen = _naming(session, name, 0)
    with store.write() as session:
        numbers += _naming(session, name, seen)[0]
        alias = _alias()
        about = _about(name)
        kept = list(session.scalars(select(Case.id).where(about, _holds(now))))
        mine = list(session.scalars(select(Case.id).where(about, Case.id.not_in(kept))))
        for start in range(0, len(mine), BATCH):
            _empty(session, mine[start : start + BATCH], now)
        for table_name, columns in NAMES.items():
            table = Base.metadata.tables[table_name]
            if table_name == "member" and kept:
                continue
            waits = _of_cases(table, kept)
            free: ColumnElement[bool] = true() if waits is None else or_(~waits, _case_of(table).is_(None))
            if table_name in TEXTS:
                session.execute(_emptied(table, and_(table.c[columns[0]] == name, free)))
            for column in columns:
                session.execute(update(table).where(table.c[column] == name, free).values({column: alias}))
        session.execute(update(Member).where(Member.name == alias).values(person=None))
        erased = audit.erase(session, numbers, now, actor=actor, why="forgotten")
    return Gone(len(mine), erased, len(kept))


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
    while part := _expire_cases(store, cutoff, until):
        cases += part
    with store.write() as session:
        lapsed = select(Exemption).where(Exemption.ends_at < cutoff, Exemption.member.not_like(f"{ALIAS}%"))
        for exemption in session.scalars(lapsed):
            exemption.member, exemption.purpose, exemption.answer = _alias(), "", None
        session.execute(delete(Member).where(Member.last_seen_on < cutoff.date()))
    with store.read() as session:
        public = or_(*(Audit.act.like(f"{head}%") for head in FOR_EVER))
        old = select(Audit.id).where(Audit.at < cutoff, Audit.salt.is_not(None), ~and_(Audit.subject.is_(None), public))
        numbers = list(session.scalars(old.order_by(Audit.id)))
    for start in range(0, len(numbers), AUDIT_BATCH):
        with store.write() as session:
            part_numbers = numbers[start : start + AUDIT_BATCH]
            entries += audit.erase(session, part_numbers, now, actor="machine", why=f"older than {keep.days} days")
    return Gone(cases, entries)


def _expire_cases(store: Store, cutoff: datetime, now: datetime) -> int:
    with store.write() as session:
        declared = select(Exemption.case_id).where(Exemption.case_id.is_not(None), Exemption.ends_at > now)
        old = and_(Case.last_seen_at < cutoff, Case.owner.not_like(f"{ALIAS}%"))
        wanted = select(Case).where(old, ~_holds(now), Case.id.not_in(declared)).limit(BATCH)
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
        _empty(session, [case.id for case in cases], now)
    return len(cases)


def _holds(now: datetime) -> ColumnElement[bool]:
    """True for a case of which something still holds, or that somebody still has to answer."""
    in_force = and_(Sanction.lifted_at.is_(None), Sanction.ends_at > now)
    alive = and_(Strike.void_at.is_(None), Strike.ends_at > now)
    return or_(
        Case.id.in_(select(Sanction.case_id).where(in_force)),
        Case.id.in_(select(Strike.case_id).where(alive, Strike.member.in_(select(Sanction.member).where(in_force)))),
        Case.id.in_(select(Appeal.case_id).where(Appeal.answered_at.is_(None))),
        Case.id.in_(select(Report.case_id).where(Report.closed_at.is_(None))),
    )


def _about(name: str) -> ColumnElement[bool]:
    """Cases about a person: theirs, and those in their runtime where nobody else is known."""
    return or_(Case.member == name, and_(Case.member.is_(None), Case.owner == name))


def _of_cases(table: Table, cases: Collection[int]) -> ColumnElement[bool] | None:
    """The rows of a table that belong to these cases; None where its rows belong to none."""
    column = _case_of(table)
    return None if column is None else column.in_(cases)


def _case_of(table: Table) -> Any:
    """The column that tells a row's case; None where rows belong to none."""
    return table.c.id if table.name == "case" else table.c.get("case_id")


def _empty(session: Session, cases: Sequence[int], now: datetime) -> None:
    """Empty the texts of these cases; what is still in the post goes to nobody."""
    for table_name in TEXTS:
        table = Base.metadata.tables[table_name]
        mine = _of_cases(table, cases)
        if mine is not None:
            session.execute(_emptied(table, mine))
    wanted = select(Notice).where(Notice.case_id.in_(cases)).options(selectinload(Notice.deliveries))
    told = list(session.scalars(wanted))
    for notice in told:
        notice.texts = {lang: {**text, "facts": []} for lang, text in notice.texts.items()}
        for delivery in notice.deliveries:
            delivery.outcome = delivery.outcome.partition(":")[0]
    numbers = [notice.id for notice in told]
    for letter in session.scalars(select(Letter).where(Letter.notice_id.in_(numbers), Letter.done_at.is_(None))):
        letter.done_at = now
        outcome = "given up: the name is gone"
        session.add(Delivery(notice_id=letter.notice_id, at=now, channel=letter.channel, outcome=outcome))


def _emptied(table: Table, where: ColumnElement[bool]) -> Any:
    empty = {column: None if table.c[column].nullable else "" for column in TEXTS[table.name]}
    return update(table).where(where).values(empty)


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
