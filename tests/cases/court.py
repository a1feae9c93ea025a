"""A small house for tests of what follows from decisions: a store, a desk, members of any age, and a clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mutirao.cases import adoption, record, sanction, strike
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.desk import Desk
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Office
from mutirao.cases.sanction import Held
from mutirao.cases.wording import Pages
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.fairness import Cases
from mutirao.policy.category import Category
from mutirao.policy.version import load_versions
from mutirao.store import audit
from mutirao.store.consequence import Member
from mutirao.store.models import Audit, Case, Decision
from mutirao.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class Reader:
    """An engine that finds in a cell what its code says: `mining` or `mining/rule/evidence`, separated by spaces."""

    level: Level = Level.STOP

    def scan(self, code: str, language: str = "python") -> tuple[Finding, ...]:
        found = []
        for word in code.split():
            category, _, rest = word.partition("/")
            if category not in set(Category):
                continue
            rule, _, evidence = rest.partition("/")
            found.append(
                Finding(
                    rule or f"{category}-rule", "1.0.0", Category(category), self.level, Maturity.STABLE, 1,
                    evidence or "run it", {"en": "It does x", "pt-BR": "Faz x"},
                )
            )  # fmt: skip
        return tuple(found)


@dataclass
class Court:
    store: Store
    rules: Cases = field(default_factory=lambda: with_rules())
    now: datetime = NOON
    reader: Reader = field(default_factory=Reader)

    def __post_init__(self) -> None:
        with self.store.write() as session:
            adoption.adopt(session, 2, known={1, 2}, effective_from=NOON, now=NOON, by="op", reason="start")
        pages, policies = Pages("http://x/services/mutirao/"), load_versions()
        self.office = Office(policies, pages, self.rules)
        self.desk = Desk(self.store, self.reader, policies, pages, lambda: self.now, self.rules)  # type: ignore[arg-type]

    async def run(self, code: str, actor: str = "ana", **more: Any) -> Verdict:
        self.desk.board.refresh()
        return await self.desk.judge(
            Cell(code, **({"actor": actor, "owner": actor, "server": "", "kernel": "k"} | more))
        )

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def settle(self, *names: str, days: int = 100, active: int = 20, person: str | None = None) -> None:
        """Members who have been here for long."""
        with self.store.write() as session:
            for name in names:
                first = self.now - timedelta(days=days)
                session.add(
                    Member(name=name, first_seen_at=first, last_seen_on=first.date(), active_days=active, person=person)
                )

    @contextmanager
    def write(self) -> Iterator[Session]:
        with self.store.write() as session:
            yield session

    def strikes(self, member: str = "ana") -> int:
        with self.store.read() as session:
            return len(strike.live(session, member, self.now))

    def held(self, scope: Scope, member: str = "ana") -> Held | None:
        with self.store.read() as session:
            return sanction.restrictions(session, member, self.now).on(scope, self.now)

    def count(self, model: type) -> int:
        with self.store.read() as session:
            return session.scalar(select(func.count()).select_from(model)) or 0

    def last(self, session: Session, member: str = "ana") -> Decision:
        wanted = select(Decision).join(Case, Case.id == Decision.case_id).where(Case.member == member)
        return session.scalars(wanted.order_by(Decision.id.desc())).first()  # type: ignore[return-value]

    def case(self, session: Session, verdict: Verdict) -> Case:
        found = record.find_case(session, (verdict.notice.case if verdict.notice else None) or "")
        assert found is not None
        return found

    def texts(self, member: str = "ana", lang: str = "en") -> list[str]:
        """The titles of a member's notices, oldest first."""
        with self.store.read() as session:
            return [notice.texts[lang]["title"] for notice in reversed(record.notices_of(session, member))]

    def audit_holds(self) -> bool:
        with self.store.read() as session:
            return audit.verify(session.scalars(select(Audit).order_by(Audit.id))) is None


def with_rules(**changes: Any) -> Cases:
    """The shipped numbers with some changed, checked as the configuration checks them; a day may bring many strikes."""
    return Cases.model_validate(Cases().model_dump() | {"strikes_a_day": 100} | changes)
