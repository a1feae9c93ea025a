"""What every route shares: store, policies, login, pages, and the questions they all ask."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from fastapi import HTTPException, Request
from sqlalchemy.orm import Session

from mutirao.cases.adoption import adoptions
from mutirao.cases.office import Office
from mutirao.cases.record import cases_of, find_case, notices_of, record_of
from mutirao.cases.review import look
from mutirao.cases.role import Act
from mutirao.cases.wording import Pages as Addresses
from mutirao.origins import Origins
from mutirao.policy.version import PolicyVersion
from mutirao.store.models import Case
from mutirao.store.store import Store
from mutirao.web.account import AccountView, WholeCaseView, view_account, view_whole
from mutirao.web.hub import Hub, HubAway, Person, Runtime
from mutirao.web.limit import Limits
from mutirao.web.login import Login, LoginNeeded, Visitor, local_path
from mutirao.web.page import Pages
from mutirao.web.view import (
    CaseLine,
    NoticeView,
    PolicyView,
    Standing,
    VersionView,
    view_case,
    view_line,
    view_notice,
    view_policy,
    view_version,
)


class _NotYours(Protocol):
    """What decides whether a person may see a case."""

    member: str | None
    owner: str


def may_see(person: Person, case: _NotYours) -> bool:
    """True for the member whose case it is, the runtime's owner where no member is known, and who may read all."""
    return person.may(Act.READ) or is_theirs(person, case)


def is_theirs(person: Person, case: _NotYours) -> bool:
    """True for whom the case is about."""
    return person.name == (case.owner if case.member is None else case.member)


@dataclass(frozen=True, slots=True)
class Site:
    """The service's parts. `base_url` is JupyterHub's, `prefix` ours; both start and end with a slash."""

    store: Store
    policies: Mapping[int, PolicyVersion]
    hub: Hub
    login: Login
    pages: Pages
    clock: Callable[[], datetime]
    base_url: str
    prefix: str
    origins: Origins = Origins()  # noqa: RUF009 - frozen
    limits: Limits = field(default_factory=Limits)
    office: Office = field(default_factory=lambda: Office({}, Addresses("/")))

    async def visitor(self, request: Request) -> Visitor | None:
        """Who asks, None for nobody; the frame around the page shows the name. TooMany where they ask too often."""
        visitor = await self.login.visitor(request)
        if visitor:
            self.limits.person(visitor.person.name, request.method)
        request.state.person = visitor.person if visitor else None
        return visitor

    async def greet(self, request: Request) -> None:
        """Look who asks on a public page, which must stay readable while the hub is away."""
        with suppress(HubAway):
            await self.visitor(request)

    async def member(self, request: Request) -> Visitor:
        """Who asks; LoginNeeded for nobody."""
        visitor = await self.visitor(request)
        if visitor is None:
            raise LoginNeeded
        return visitor

    def lang(self, request: Request) -> str:
        """The language of the answer."""
        return self.pages.language(request)

    def versions(self) -> list[VersionView]:
        """Every shipped version with its standing, oldest first."""
        with self.store.read() as session:
            adopted, now = adoptions(session), self.clock()
            return [view_version(version, adopted, now) for version in self.policies.values()]

    def policy(self, lang: str, number: int | None = None) -> PolicyView:
        """One version with its text: `number`, else that in force, else the newest announced; 404 for none."""
        if number is None:
            standing = {view.standing: view.version for view in self.versions()}
            number = standing.get(Standing.IN_FORCE, standing.get(Standing.ANNOUNCED, max(self.policies)))
        if number not in self.policies:
            raise HTTPException(404)
        with self.store.read() as session:
            return view_policy(self.policies[number], adoptions(session), self.clock(), lang)

    def case(self, number: str, person: Person, lang: str, cell: str = "") -> WholeCaseView:
        """The case where this person may see it; 404 where not, exactly as for one that doesn't exist.

        Whoever reads another's case stands in the audit for it.
        """
        with self.store.read() as session:
            case = self.own_case(session, number, person)
            if is_theirs(person, case):
                return self._whole(session, case, lang, cell)
        # Nobody looks at another's case without a trace: it is shown once the audit knows.
        with self.store.write() as session:
            case = self.own_case(session, number, person)
            look(session, case, person.name, self.clock())
            return self._whole(session, case, lang, cell)

    def _whole(self, session: Session, case: Case, lang: str, cell: str) -> WholeCaseView:
        view = view_case(case, self.policies, self.clock(), lang, cell)
        return view_whole(session, case, view, self.office, self.clock())

    def account_of(self, member: str, lang: str) -> AccountView:
        """What holds for the member's account: strikes, restrictions, appeals, purposes, and where to write to."""
        with self.store.read() as session:
            return view_account(session, member, self.policies, self.office, self.clock(), lang)

    def own_case(self, session: Session, number: str, person: Person) -> Case:
        """The stored case where this person may see it, else 404."""
        case = find_case(session, number)
        if case is None or not may_see(person, case):
            raise HTTPException(404)
        return case

    def cases_of(self, member: str, lang: str) -> list[CaseLine]:
        """The member's cases, newest first."""
        with self.store.read() as session:
            return [view_line(case, self.policies, lang) for case in cases_of(session, member)]

    def notices_of(self, member: str, lang: str) -> list[NoticeView]:
        """The member's latest notices, newest first."""
        with self.store.read() as session:
            return [view_notice(notice, notice.case.number, lang) for notice in notices_of(session, member)]

    def record_of(self, member: str) -> dict[str, Any]:
        """All that is recorded about the member, as plain JSON values."""
        with self.store.read() as session:
            return record_of(session, member)

    async def runtimes_of(self, member: str) -> tuple[Runtime, ...] | None:
        """The member's runtimes, None while the hub doesn't answer."""
        try:
            return await self.hub.runtimes(member)
        except HubAway:
            return None

    def notebook_url(self, owner: str, server: str) -> str:
        """Where a runtime's JupyterLab is open; with origins apart the hub knows the way."""
        where = "/".join(quote(part, safe="@~") for part in (owner, server) if part)
        if self.origins.apart:
            return f"{self.origins.to_hub}{self.base_url}hub/user/{where}/lab"
        return f"{self.base_url}user/{where}/lab"

    def back_to(self, wanted: str) -> str:
        """Where a switch of language returns to: a page of ours or of the hub's, else our start page."""
        path = local_path(wanted, self.base_url, self.prefix)
        if local_path(path, self.prefix, ""):
            return path
        return f"{self.origins.to_hub}{path}"
