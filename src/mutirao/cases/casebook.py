"""The casebook: one case per member, matter and day, its observations, and what is only counted."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from mutirao.cases.action import Action
from mutirao.cases.cause import cause_of
from mutirao.cases.cell import Cell
from mutirao.detect.finding import Finding
from mutirao.store import audit
from mutirao.store.models import Case, Decision, Observation, Tally

ROWS_A_CASE = 50
"""Past so many observations of one matter in a day repeats are counted, not written: a loop must not fill the disk."""

MOST_ROWS_A_CASE = 500
"""Held cells that differ get rows up to here, because a permit needs the one it is for."""

REPEAT_EVERY = timedelta(hours=1)
"""So often a repeat past that gets a decision and a notice of its own, which name how many runs there were."""


def count(session: Session, finding: Finding, now: datetime) -> None:
    """Count a finding for its day, with no person attached."""
    insert = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    row = {
        "day": now.date(),
        "rule": finding.rule,
        "rule_version": finding.rule_version,
        "level": finding.level.key,
    }
    session.execute(
        insert(Tally)
        .values(**row, count=1)
        .on_conflict_do_update(index_elements=list(row), set_={"count": Tally.count + 1})
    )


def room(session: Session, cell: Cell, case: Case, action: Action) -> bool:
    """True while a run of this matter gets rows of its own; a held cell not seen before always needs one.

    Past that, repeats are counted in the case, and decision and notice are written once an hour.
    """
    mine = select(func.count()).select_from(Observation).where(Observation.case_id == case.id)
    rows = session.scalar(mine) or 0
    if rows < ROWS_A_CASE:
        return True
    known = select(Observation.id).where(
        Observation.case_id == case.id, Observation.kernel == cell.kernel, Observation.digest == cell.digest
    )
    return action is Action.HOLD and rows < MOST_ROWS_A_CASE and session.scalars(known.limit(1)).first() is None


def hour_is_over(session: Session, case: Case, now: datetime) -> bool:
    """True where the last decision of this case is an hour old, or the clock was set back behind it."""
    last = session.scalars(select(func.max(Decision.at)).where(Decision.case_id == case.id)).one()
    return last is None or not timedelta(0) <= now - last < REPEAT_EVERY


def find_or_open(session: Session, cell: Cell, finding: Finding, version: int, now: datetime) -> Case:
    """Today's case of this person and this matter, opened where there is none."""
    fingerprint = f"{finding.category}:{finding.rule}"
    wanted = select(Case).where(Case.fingerprint == fingerprint, Case.day == now.date())
    if cell.actor is None:
        wanted = wanted.where(Case.member.is_(None), Case.owner == cell.owner)
    else:
        wanted = wanted.where(Case.member == cell.actor)
    case = session.scalars(wanted).first()
    if case is None:
        case = Case(
            member=cell.actor,
            owner=cell.owner,
            fingerprint=fingerprint,
            category=finding.category.value,
            day=now.date(),
            policy_version=version,
            opened_at=now,
            last_seen_at=now,
            seen=0,
        )
        session.add(case)
        session.flush()
        content = {"case": case.number, "fingerprint": fingerprint, "owner": cell.owner}
        audit.append(session, now, "case.open", actor=None, subject=cell.actor, content=content)
    return case


def observe(cell: Cell, case: Case, finding: Finding, now: datetime) -> Observation:
    """What the gate saw in a cell, as a row."""
    return Observation(
        case_id=case.id,
        at=now,
        sensor="gate",
        actor=cell.actor,
        owner=cell.owner,
        server=cell.server,
        kernel=cell.kernel,
        via=cell.via,
        digest=cell.digest,
        category=finding.category.value,
        rule=finding.rule,
        rule_version=finding.rule_version,
        maturity=finding.maturity.value,
        level=finding.level.key,
        line=finding.line,
        excerpt=finding.excerpt[:200],
        why=finding.why,
        cause=cause_of(finding),
    )
