"""The pages' facts as JSON, for scripts and for extensions in the notebook."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from mutirao.cases.role import Role
from mutirao.web.account import AccountView, WholeCaseView
from mutirao.web.login import Visitor
from mutirao.web.site import Site
from mutirao.web.view import CaseLine, NoticeView, PolicyView, VersionView, View

REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid token or session; send `Authorization: token …`"},
    503: {"description": "Hub or database does not answer; try again"},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "There is none, or it is not yours to see"}}


class RuntimeView(View):
    """A runtime that runs or starts; `name` is empty for the default one."""

    name: str
    url: str
    ready: bool
    started: datetime | None
    environment: str
    size: str


class MeView(View):
    """The member who asks; `runtimes` is null while the hub doesn't answer."""

    name: str
    roles: tuple[Role, ...]
    runtimes: tuple[RuntimeView, ...] | None
    cases: tuple[CaseLine, ...]
    notices: tuple[NoticeView, ...]
    account: AccountView


def api_routes(site: Site) -> APIRouter:
    """The API, for a router that carries the service's prefix; `?lang=` chooses the language of texts."""
    router = APIRouter(prefix="/api")
    Member = Annotated[Visitor, Depends(site.member)]

    @router.get("/policy", summary="The policy in force")
    def policy(request: Request) -> PolicyView:
        return site.policy(site.lang(request))

    @router.get("/policy/versions", summary="Every version with its standing")
    def versions() -> list[VersionView]:
        return site.versions()

    @router.get("/policy/{number}", summary="One version of the policy", responses=UNKNOWN)
    def one_policy(request: Request, number: int) -> PolicyView:
        return site.policy(site.lang(request), number)

    @router.get("/me", summary="My runtimes, cases and notices, and what holds for my account", responses=REFUSED)
    async def me(request: Request, visitor: Member) -> MeView:
        name, lang = visitor.person.name, site.lang(request)
        runtimes = await site.runtimes_of(name)
        return MeView(
            name=name,
            roles=tuple(sorted(visitor.person.roles)),
            runtimes=None if runtimes is None else tuple(RuntimeView(**asdict(each)) for each in runtimes),
            cases=tuple(await run_in_threadpool(site.cases_of, name, lang)),
            notices=tuple(await run_in_threadpool(site.notices_of, name, lang)),
            account=await run_in_threadpool(site.account_of, name, lang),
        )

    @router.get("/me/record", summary="All that is recorded about me", responses=REFUSED)
    def record(visitor: Member) -> dict[str, Any]:
        return site.record_of(visitor.person.name)

    @router.get("/cases/{number}", summary="A case", responses=REFUSED | UNKNOWN)
    def case(request: Request, visitor: Member, number: str) -> WholeCaseView:
        return site.case(number, visitor.person, site.lang(request))

    return router
