"""The acts as JSON: for members about themselves, for reviewers about cases. They need a token, never a cookie."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from mutirao.cases.exemption import Kind
from mutirao.cases.ladder import Scope
from mutirao.cases.role import Act
from mutirao.policy.category import Category
from mutirao.web import acts
from mutirao.web.account import AccountView
from mutirao.web.desk import QueueView, view_queue
from mutirao.web.login import Visitor
from mutirao.web.site import Site
from mutirao.web.view import View

Id = Annotated[int, Path(ge=1, le=acts.LARGEST)]
Why = Annotated[str, Field(max_length=4000, description="The reason, which the member reads; most acts want 10 characters")]
Days = Annotated[float, Field(gt=0, le=acts.LONGEST_DAYS)]


class Problem(View):
    """Why not, in one word."""

    detail: str


class DoneView(View):
    """The act happened; `number` names the case or incident."""

    number: str


class AppealBody(View):
    """An appeal against a decision of the case, named by its `id`; words are optional."""

    decision: int
    text: str = Field("", max_length=4000)


class PurposeBody(View):
    """A purpose for which somebody asks leave, or a question whether something is allowed."""

    category: Category
    purpose: str = Field(max_length=4000)
    kind: Kind = Kind.EXEMPTION


class AnswerBody(View):
    """An answer to an appeal; `days` from now is the milder end of `lesser`, at once if null."""

    outcome: Literal["upheld", "lesser", "reversed"]
    why: Why
    days: Days | None = None


class RestrictBody(View):
    """A restriction by a person; scope `account` suspends."""

    scope: Scope
    days: Days
    why: Why


class WhyBody(View):
    """A reason."""

    why: Why


class LiftBody(WhyBody):
    """Lifting a restriction before its end."""

    give_back: bool = False


class GrantBody(WhyBody):
    """An answer to a declared purpose; the longest configured time if `days` is null."""

    grant: bool
    days: Days | None = None


class LinkBody(WhyBody):
    """Whom a report is about."""

    member: str = Field(max_length=255)


class IncidentBody(WhyBody):
    """How an incident ends."""

    outcome: Literal["reverse", "confirm"]


ANSWERS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid token", "model": Problem},
    403: {"description": "A cookie came instead of a token", "model": Problem},
    404: {"description": "There is none, or it is not yours to see or to do", "model": Problem},
    409: {"description": "Not now, or not by you: `detail` says why", "model": Problem},
    422: {"description": "A value is missing or out of bounds: `detail` says which", "model": Problem},
    503: {"description": "Hub or database does not answer; try again", "model": Problem},
}


def act_routes(site: Site) -> APIRouter:
    """The acts of the API, for a router that carries the service's prefix."""
    router = APIRouter(prefix="/api")
    Member = Annotated[Visitor, Depends(site.member)]

    async def by_token(visitor: Member) -> Visitor:
        if visitor.by_cookie:
            raise HTTPException(403)
        return visitor

    async def reader(visitor: Member) -> Visitor:
        if not visitor.person.may(Act.READ):
            raise HTTPException(404)
        return visitor

    async def reviewer(visitor: Annotated[Visitor, Depends(by_token)]) -> Visitor:
        return await reader(visitor)

    Token = Annotated[Visitor, Depends(by_token)]
    Reviewer = Annotated[Visitor, Depends(reviewer)]

    def told(outcome: acts.Outcomes) -> Response:
        if isinstance(outcome, acts.Not):
            return JSONResponse({"detail": outcome.why}, status_code=outcome.status)
        return JSONResponse({"number": outcome.number})

    more: dict[str, Any] = {"response_model": DoneView, "responses": ANSWERS}
    refused = {code: ANSWERS[code] for code in (401, 404, 503)}

    @router.get("/me/account", summary="My strikes, restrictions, appeals and purposes", responses=refused)
    def account(request: Request, visitor: Member) -> AccountView:
        return site.account_of(visitor.person.name, site.lang(request))

    @router.post("/me/purposes", summary="Declare a purpose, or ask whether something is allowed", **more)
    def declare(visitor: Token, body: PurposeBody) -> Response:
        return told(acts.declare(site, visitor.person, body.category, body.purpose, body.kind))

    @router.post("/cases/{number}/appeal", summary="Appeal against a decision of my case", **more)
    def appeal(visitor: Token, number: str, body: AppealBody) -> Response:
        return told(acts.open_appeal(site, visitor.person, number, body.decision, body.text))

    @router.get("/review/queue", summary="What waits for a person", responses=refused)
    def queue(request: Request, visitor: Annotated[Visitor, Depends(reader)]) -> QueueView:
        with site.store.read() as session:
            return view_queue(session, site.policies, visitor.person.name, site.clock(), site.lang(request))

    @router.post("/review/appeals/{id}", summary="Answer an appeal", **more)
    def answer(visitor: Reviewer, id: Id, body: AnswerBody) -> Response:
        return told(acts.answer_appeal(site, visitor.person, id, body.outcome, _typed(body.days), body.why))

    @router.post("/review/cases/{number}/restrict", summary="Restrict a case's member, or suspend", **more)
    def restrict(visitor: Reviewer, number: str, body: RestrictBody) -> Response:
        return told(acts.restrict(site, visitor.person, number, body.scope, _typed(body.days), body.why))

    @router.post("/review/cases/{number}/close", summary="Close a case", **more)
    def close(visitor: Reviewer, number: str, body: WhyBody) -> Response:
        return told(acts.close(site, visitor.person, number, body.why))

    @router.post("/review/restrictions/{id}/lift", summary="Lift a restriction", **more)
    def lift(visitor: Reviewer, id: Id, body: LiftBody) -> Response:
        return told(acts.lift(site, visitor.person, id, body.why, give_back=body.give_back))

    @router.post("/review/purposes/{id}", summary="Answer a declared purpose", **more)
    def purpose(visitor: Reviewer, id: Id, body: GrantBody) -> Response:
        return told(acts.answer_purpose(site, visitor.person, id, _typed(body.days), body.why, grant=body.grant))

    @router.post("/review/reports/{id}/link", summary="Say whom a report is about", **more)
    def link(visitor: Reviewer, id: Id, body: LinkBody) -> Response:
        return told(acts.link_report(site, visitor.person, id, body.member, body.why))

    @router.post("/review/reports/{id}/close", summary="Close a report with an answer", **more)
    def close_report(visitor: Reviewer, id: Id, body: WhyBody) -> Response:
        return told(acts.close_report(site, visitor.person, id, body.why))

    @router.post("/review/incidents/{number}", summary="Reverse or confirm an incident", **more)
    def incident(visitor: Reviewer, number: str, body: IncidentBody) -> Response:
        return told(acts.end_incident(site, visitor.person, number, body.why, reverse=body.outcome == "reverse"))

    return router


def _typed(days: float | None) -> str:
    return "" if days is None else repr(days)
