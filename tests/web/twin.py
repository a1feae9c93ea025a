"""A service in memory: a hub that knows a few people, a store in a file, an engine that finds what it is told to."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
from fastapi import FastAPI

from mutirao.cases.adoption import adopt
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.desk import Desk
from mutirao.cases.office import Office
from mutirao.cases.role import Role
from mutirao.cases.wording import Pages
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.fairness import Cases
from mutirao.policy.category import Category
from mutirao.policy.version import load_versions
from mutirao.store.store import Store
from mutirao.web.app import PREFIX, make_app
from mutirao.web.hub import HubAway, Person, Runtime
from tests.database import migrated

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
ORIGIN = "http://house.test"
SECRET = "s" * 32
OFFICE = Office(load_versions(), Pages(f"{ORIGIN}{PREFIX}"), Cases(strikes_a_day=100, appeals_per_member=1000))
"""A day may bring many strikes, so that the ladder is quick to climb, and many appeals, for those who try them all."""
PEOPLE = {
    "ana-token": Person("ana"),
    "bia-token": Person("bia"),
    "operator-token": Person("olga", frozenset({Role.MEMBER, Role.OPERATOR}), admin=True),
    "rui-token": Person("rui", frozenset({Role.MEMBER, Role.REVIEWER})),
    "rosa-token": Person("rosa", frozenset({Role.MEMBER, Role.REVIEWER})),
    "aldo-token": Person("aldo", frozenset({Role.MEMBER, Role.AUDITOR})),
}


class HubTwin:
    """A hub in memory: tokens are `NAME-token`, codes are `NAME-code`; `away` makes it silent."""

    def __init__(self) -> None:
        self.away = False
        self.servers: dict[str, tuple[Runtime, ...]] = {}
        self.asked: list[tuple[str, str]] = []
        self.verifiers: list[str] = []

    def authorize_url(self, state: str, challenge: str) -> str:
        self.asked.append((state, challenge))
        return f"/hub/api/oauth2/authorize?state={state}"

    async def token_for(self, code: str, verifier: str) -> str | None:
        self._answer()
        self.verifiers.append(verifier)
        token = code.removesuffix("-code") + "-token"
        return token if token in PEOPLE else None

    async def person(self, token: str, session: str) -> Person | None:
        self._answer()
        return PEOPLE.get(token)

    def forget(self) -> None:
        pass

    async def runtimes(self, name: str) -> tuple[Runtime, ...]:
        self._answer()
        return self.servers.get(name, ())

    async def running(self) -> int:
        self._answer()
        return sum(map(len, self.servers.values()))

    async def check(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.away:
            raise HubAway("The hub does not answer at http://127.0.0.1:1: refused")


class EngineTwin:
    """Finds what `findings` says, whatever the code."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = ()

    def scan(self, code: str, language: str) -> tuple[Finding, ...]:
        return self.findings


def finding(category: Category = Category.REMOTE_ACCESS, level: Level = Level.STOP, **other: Any) -> Finding:
    given = {
        "rule": f"{category}/example",
        "rule_version": "1",
        "maturity": Maturity.STABLE,
        "line": 3,
        "excerpt": "!start-a-tunnel --port 22",
        "why": {"en": "The cell opens a way in from outside.", "pt-BR": "A célula abre uma entrada vinda de fora."},
    }
    return Finding(category=category, level=level, **{**given, **other})


@dataclass
class House:
    """The service with its parts in reach."""

    store: Store
    app: FastAPI
    hub: HubTwin = field(default_factory=HubTwin)
    engine: EngineTwin = field(default_factory=EngineTwin)
    now: datetime = START

    def clock(self) -> datetime:
        return self.now

    async def judge(self, *findings: Finding, member: str | None = "ana", owner: str = "ana") -> Verdict:
        """What the gate does: a cell meets these findings."""
        self.engine.findings = findings or (finding(),)
        pages = Pages(f"{ORIGIN}{PREFIX}")
        desk = Desk(self.store, cast(Engine, self.engine), load_versions(), pages, self.clock, OFFICE.rules)
        return await desk.judge(Cell(code="cell", actor=member, owner=owner, server="", kernel="k1"))

    async def case(self, *findings: Finding, member: str | None = "ana", owner: str = "ana") -> str:
        """The number of the case that these findings open."""
        verdict = await self.judge(*findings, member=member, owner=owner)
        assert verdict.notice is not None
        assert verdict.notice.case is not None
        return verdict.notice.case

    def adopt(self, version: int, effective_from: datetime | None = None) -> None:
        with self.store.write() as session:
            adopt(
                session,
                version,
                known=set(load_versions()),
                effective_from=effective_from or self.now,
                now=self.now,
                by="olga",
                reason="because",
            )

    @asynccontextmanager
    async def browser(self, name: str | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client that follows no redirect; with a name it has come back from the hub, logged in."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers) as client:
            if name:
                await client.get(f"{PREFIX}me")
                state = self.hub.asked[-1][0]
                code = "operator-code" if name == "olga" else f"{name}-code"
                answer = await client.get(f"{PREFIX}oauth_callback", params={"state": state, "code": code})
                assert answer.status_code == 303
            yield client


@contextmanager
def house(folder: Path, url: str = "", **options: Any) -> Iterator[House]:
    """A fresh service with policy 1 in force since the day before START and policy 2 since START.

    `options` go to `make_app`.
    """
    if url:
        store = Store(url)
        store.migrate()
    else:
        store = migrated(folder / "mutirao.sqlite")
    hub = HubTwin()
    built: list[House] = []
    app = make_app(
        store,
        load_versions(),
        hub,
        secret=SECRET,
        clock=lambda: built[0].now,
        office=OFFICE,
        **{"contact": "help@house.test", **options},
    )
    built.append(House(store=store, app=app, hub=hub))
    built[0].now = START - timedelta(days=1)
    built[0].adopt(1)
    built[0].adopt(2, START)
    built[0].now = START
    yield built[0]
    store.close()
