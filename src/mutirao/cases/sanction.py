"""Sanctions: restrictions with an end. What holds now, imposing, lifting, and giving time back."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases import strike
from mutirao.cases.ladder import SCOPES, Scope, founded
from mutirao.fairness import Cases
from mutirao.store import audit
from mutirao.store.consequence import Incident, Sanction, Strike
from mutirao.store.models import Case, Decision


@dataclass(frozen=True, slots=True)
class Held:
    """One restriction in force: since when, until when, and the case that tells why."""

    scope: Scope
    begins_at: datetime
    ends_at: datetime
    case: str
    sanction: int


@dataclass(frozen=True, slots=True)
class Restriction:
    """All that is restricted for one member; ask it with a time, because a restriction ends between two looks."""

    member: str
    held: tuple[Held, ...] = ()

    def on(self, scope: Scope, now: datetime) -> Held | None:
        """The restriction that keeps the member from `scope` now, the one that ends last; None where they may.

        A wider one holds for the narrower: a suspended account runs no code, and who runs no code has no GPU.
        """
        wide = SCOPES[SCOPES.index(scope) :]
        holding = [one for one in self.held if one.scope in wide and one.begins_at <= now < one.ends_at]
        return max(holding, key=lambda one: one.ends_at, default=None)


def active(session: Session, now: datetime) -> dict[str, Restriction]:
    """Everybody who is restricted now, by name: one small query, cheap enough for every second."""
    found: dict[str, list[Held]] = {}
    for entry in session.scalars(_in_force(now)):
        held = Held(Scope(entry.scope), entry.begins_at, entry.ends_at, entry.case.number, entry.id)
        found.setdefault(entry.member, []).append(held)
    return {member: Restriction(member, tuple(held)) for member, held in found.items()}


def restrictions(session: Session, member: str, now: datetime) -> Restriction:
    """What is restricted for one member now; nothing held where nothing is."""
    rows = session.scalars(_in_force(now).where(Sanction.member == member))
    held = (Held(Scope(row.scope), row.begins_at, row.ends_at, row.case.number, row.id) for row in rows)
    return Restriction(member, tuple(held))


def of(session: Session, member: str) -> list[Sanction]:
    """Every sanction a member ever had, newest first, those that ended or were lifted too."""
    wanted = select(Sanction).where(Sanction.member == member).options(selectinload(Sanction.case))
    return list(session.scalars(wanted.order_by(Sanction.id.desc())))


def _in_force(now: datetime) -> Select[Sanction]:
    return (
        select(Sanction)
        .where(Sanction.lifted_at.is_(None), Sanction.incident_id.is_(None), Sanction.ends_at > now)
        .options(selectinload(Sanction.case))
    )


def impose(
    session: Session,
    case: Case,
    decision: Decision,
    scope: Scope,
    life: timedelta,
    *,
    cause: str,
    harm: bool,
    now: datetime,
    rules: Cases,
) -> Sanction:
    """Write the restriction that a decision brings; its end is bounded by the configuration."""
    assert case.member is not None, "nobody can be restricted where nobody is known"
    longest = rules.longest_days if decision.by == "machine" else rules.longest_suspension_days
    made = Sanction(
        case_id=case.id,
        decision_id=decision.id,
        member=case.member,
        scope=scope.value,
        cause=cause,
        by=decision.by,
        harm=harm,
        begins_at=now,
        ends_at=now + min(life, timedelta(days=longest)),
    )
    session.add(made)
    session.flush()
    content = {"case": case.number, "scope": scope.value, "ends_at": made.ends_at.isoformat()}
    actor = None if decision.by == "machine" else decision.by
    audit.append(session, now, "sanction.impose", actor=actor, subject=case.member, content=content)
    return made


def served(session: Session, entry: Sanction, now: datetime) -> int:
    """Seconds for which a restriction has really held; the time it was silent in an incident does not count."""
    until = min(now, entry.ends_at, entry.lifted_at or now)
    if entry.incident_id is not None:
        until = min(until, session.get_one(Incident, entry.incident_id).opened_at)
    return max(0, int((until - entry.begins_at).total_seconds()))


def lift(session: Session, entry: Sanction, by: str, why: str, now: datetime, *, give_back: bool = False) -> int:
    """End a restriction; with `give_back` the time it held is credited. Returns the seconds given back.

    A second call changes nothing, but may still give back what the first did not.
    """
    given = served(session, entry, now) if give_back and not entry.given_back_s else 0
    if entry.lifted_at is None:
        entry.lifted_at, entry.lifted_by, entry.lifted_why = now, by, why
        content = {"sanction": entry.id, "case": entry.case.number, "why": why}
        actor = None if by == "machine" else by
        audit.append(session, now, "sanction.lift", actor=actor, subject=entry.member, content=content)
    entry.incident_id = None
    if given:
        entry.given_back_s = given
        content = {"sanction": entry.id, "seconds": given}
        audit.append(session, now, "sanction.give-back", actor=None, subject=entry.member, content=content)
    session.flush()
    return given


def unfounded(session: Session, member: str, now: datetime, rules: Cases) -> list[Sanction]:
    """A machine's restrictions of a member that no longer have enough live strikes under them."""
    strikes = len(strike.live(session, member, now))
    wanted = _in_force(now).where(Sanction.member == member, Sanction.by == "machine")
    return [row for row in session.scalars(wanted) if not founded(Scope(row.scope), strikes, rules)]


def take_back(
    session: Session,
    cases: Iterable[int],
    member: str,
    by: str,
    why: str,
    now: datetime,
    rules: Cases,
    decision: int | None = None,
) -> int:
    """Undo what followed from these cases for a member: strikes void, restrictions lifted, their time given back.

    A restriction that leaned on one of those strikes goes too; one that a person made goes only with its own
    decision. Returns the seconds given back.
    """
    numbers = list(cases)
    for entry in session.scalars(select(Strike).where(Strike.case_id.in_(numbers), Strike.member == member)):
        strike.void(session, entry, by, why, now)
    session.flush()
    mine = select(Sanction).where(
        Sanction.case_id.in_(numbers),
        Sanction.member == member,
        or_(Sanction.by == "machine", Sanction.decision_id == decision),
    )
    given = sum(lift(session, row, by, why, now, give_back=True) for row in session.scalars(mine))
    return given + sum(
        lift(session, row, by, why, now, give_back=True) for row in unfounded(session, member, now, rules)
    )


def given_back_s(session: Session, member: str, since: datetime) -> int:
    """Seconds given back to a member by liftings since a time, for the ledger of fair shares."""
    wanted = select(Sanction.given_back_s).where(Sanction.member == member, Sanction.lifted_at >= since)
    return sum(session.scalars(wanted))
