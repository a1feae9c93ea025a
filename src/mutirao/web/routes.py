"""The pages: policy, diff, my page, a case with its form, login and logout."""

import json
import math
from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from mutirao.cases import appeal, permit
from mutirao.cases.exemption import PURPOSE_LENGTH
from mutirao.cases.role import Act
from mutirao.cases.wording import CELL_DIGITS
from mutirao.language import LANGUAGES
from mutirao.policy.diff import diff
from mutirao.web import acts
from mutirao.web.account import WholeCaseView
from mutirao.web.login import Visitor
from mutirao.web.page import keep_language
from mutirao.web.site import Site
from mutirao.web.view import Standing, view_clause

REFUSALS = {"not-held": 409, "never-held": 409, "reason-length": 422}


def page_routes(site: Site) -> APIRouter:
    """Every page of the service, for a router that carries its prefix."""
    router = APIRouter(include_in_schema=False)
    Member = Annotated[Visitor, Depends(site.member)]
    Sender = Annotated[Visitor | None, Depends(site.visitor)]
    greeted = [Depends(site.greet)]

    @router.get("/", dependencies=greeted)
    def start(request: Request) -> Response:
        return site.pages.render(request, "start.html")

    @router.get("/policy", dependencies=greeted)
    @router.get("/policy/{number:int}", dependencies=greeted)
    def policy(request: Request, number: int | None = None) -> Response:
        versions = site.versions()
        coming = [view for view in versions if view.standing is Standing.ANNOUNCED]
        return site.pages.render(
            request,
            "policy.html",
            policy=site.policy(site.lang(request), number),
            versions=versions,
            coming=coming,
            current=number is None,
        )

    @router.get("/policy/{older:int}/diff/{newer:int}", dependencies=greeted)
    def policy_diff(request: Request, older: int, newer: int) -> Response:
        lang = site.lang(request)
        before, after = site.policy(lang, older), site.policy(lang, newer)
        found = diff(site.policies[older], site.policies[newer])
        return site.pages.render(
            request,
            "diff.html",
            before=before,
            after=after,
            added=[view_clause(clause, lang) for clause in found.added],
            removed=[view_clause(clause, lang) for clause in found.removed],
            changed=[(change.new.title[lang], change.lines(lang)) for change in found.changed],
        )

    async def show_me(
        request: Request, visitor: Visitor, refused: acts.Not | None = None, form: str = "", **given: str
    ) -> Response:
        name, lang = visitor.person.name, site.lang(request)
        return site.pages.render(
            request,
            "me.html",
            refused.status if refused else 200,
            account=await run_in_threadpool(site.account_of, name, lang),
            policy=await run_in_threadpool(site.policy, lang),
            form_key=site.login.form_key(visitor, "me"),
            purpose_lengths=(PURPOSE_LENGTH.start, PURPOSE_LENGTH.stop - 1),
            problem=refused.why if refused else "",
            form=form,
            given=defaultdict(str, given),
            runtimes=await site.runtimes_of(name),
            notices=await run_in_threadpool(site.notices_of, name, lang),
            cases=await run_in_threadpool(site.cases_of, name, lang),
            record=await run_in_threadpool(site.record_of, name),
        )

    def from_my_page(request: Request, visitor: Visitor | None, key: str) -> Visitor:
        if visitor is None or not site.login.form_is_ours(request, visitor, "me", key):
            raise HTTPException(403)
        return visitor

    @router.get("/me")
    async def me(request: Request, visitor: Member) -> Response:
        return await show_me(request, visitor)

    @router.post("/me/purpose")
    async def declare(
        request: Request,
        visitor: Sender,
        category: Annotated[str, Form()] = "",
        kind: Annotated[str, Form()] = "exemption",
        purpose: Annotated[str, Form()] = "",
        form_key: Annotated[str, Form()] = "",
    ) -> Response:
        known = from_my_page(request, visitor, form_key)
        done = await run_in_threadpool(acts.declare, site, known.person, category, purpose, kind)
        if isinstance(done, acts.Not):
            return await show_me(request, known, done, "purpose", category=category, kind=kind, purpose=purpose)
        return RedirectResponse(f"{site.prefix}me#purposes", status_code=303)

    @router.post("/me/reach")
    async def reach(
        request: Request,
        visitor: Sender,
        mail: Annotated[str, Form()] = "",
        lang: Annotated[str, Form()] = "",
        form_key: Annotated[str, Form()] = "",
    ) -> Response:
        known = from_my_page(request, visitor, form_key)
        done = await run_in_threadpool(acts.reach, site, known.person, mail, lang)
        if isinstance(done, acts.Not):
            return await show_me(request, known, done, "reach", mail=mail, lang=lang)
        return RedirectResponse(f"{site.prefix}me#reach", status_code=303)

    @router.get("/me/record.json")
    def record(visitor: Member) -> Response:
        body = json.dumps(site.record_of(visitor.person.name), ensure_ascii=True, indent=2)
        headers = {"content-disposition": 'attachment; filename="mutirao-record.json"'}
        return Response(body, media_type="application/json", headers=headers)

    def show_case(
        request: Request,
        visitor: Visitor,
        number: str,
        cell: str,
        status: int = 200,
        problem: str = "",
        reason: str = "",
        appeal_text: str = "",
    ) -> Response:
        case = site.case(number, visitor.person, site.lang(request), cell)
        return site.pages.render(
            request,
            "case.html",
            status,
            case=case,
            mine=visitor.person.name == case.member,
            form_key=site.login.form_key(visitor, f"permit {case.number}"),
            appeal_key=site.login.form_key(visitor, f"appeal {case.number}"),
            appeal_text=appeal_text,
            appeal_longest=appeal.LONGEST,
            may_read=visitor.person.may(Act.READ),
            notebook_url=site.notebook_url(case.owner, case.server),
            lengths=(permit.REASON_LENGTH.start, permit.REASON_LENGTH.stop - 1),
            minutes_left=_minutes_left(site, case),
            problem=problem,
            reason=reason,
        )

    @router.get("/case/{number}")
    def case(request: Request, visitor: Member, number: str, cell: str = "") -> Response:
        return show_case(request, visitor, number, cell)

    @router.post("/case/{number}")
    def run_anyway(
        request: Request,
        visitor: Sender,
        number: str,
        reason: Annotated[str, Form()] = "",
        form_key: Annotated[str, Form()] = "",
        cell: Annotated[str, Form()] = "",
    ) -> Response:
        if visitor is None:
            raise HTTPException(403)
        with site.store.write() as session:
            case = site.own_case(session, number, visitor.person)
            if not site.login.form_is_ours(request, visitor, f"permit {case.number}", form_key):
                raise HTTPException(403)
            outcome = permit.grant(session, case, visitor.person.name, acts.plain(reason), site.clock(), cell)
        if isinstance(outcome, permit.Refused):
            return show_case(request, visitor, number, cell, REFUSALS[outcome.why], outcome.why, reason)
        return RedirectResponse(
            f"{site.prefix}case/{case.number}?cell={outcome.permit.digest[:CELL_DIGITS]}#permit", status_code=303
        )

    @router.post("/case/{number}/appeal")
    def open_appeal(
        request: Request,
        visitor: Sender,
        number: str,
        decision: Annotated[str, Form()] = "",
        text: Annotated[str, Form()] = "",
        form_key: Annotated[str, Form()] = "",
    ) -> Response:
        if visitor is None:
            raise HTTPException(403)

        def proof(about: str) -> None:
            if not site.login.form_is_ours(request, visitor, f"appeal {about}", form_key):
                raise HTTPException(403)

        chosen = int(decision) if decision.isascii() and decision.isdigit() and len(decision) < 10 else 0
        done = acts.open_appeal(site, visitor.person, number, chosen, text, proof)
        if isinstance(done, acts.Not):
            return show_case(request, visitor, number, "", done.status, done.why, appeal_text=text)
        return RedirectResponse(f"{site.prefix}case/{done.number}#appeals", status_code=303)

    @router.get("/language/{lang}")
    def language(request: Request, lang: str, next: str = "") -> Response:
        if lang not in LANGUAGES:
            raise HTTPException(404)
        response = RedirectResponse(site.back_to(next), status_code=303)
        keep_language(request, response, lang, site.base_url, site.origins)
        return response

    @router.get("/login")
    def login(request: Request, next: str = "") -> Response:
        return site.login.begin(request, next)

    @router.get("/oauth_callback")
    async def callback(request: Request) -> Response:
        return await site.login.finish(request)

    @router.get("/logout")
    def logout(request: Request) -> Response:
        return site.login.leave(request, f"{site.origins.to_hub}{site.base_url}hub/logout")

    return router


def _minutes_left(site: Site, case: WholeCaseView) -> int:
    """Whole minutes for which the permit still holds, rounded up; 0 without one."""
    left_s = (case.permit.expires_at - site.clock()).total_seconds() if case.permit else 0
    return math.ceil(left_s / 60)
