"""The desk of reviewers: what waits, a case with everything about it, an incident, and the acts."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Request
from starlette.responses import RedirectResponse, Response

from mutirao.cases import incident, review
from mutirao.cases.role import Act
from mutirao.web import acts
from mutirao.web.desk import view_file, view_incident, view_incident_cases, view_queue
from mutirao.web.login import Visitor
from mutirao.web.site import Site

Id = Annotated[int, Path(ge=1, le=acts.LARGEST)]
Text = Annotated[str, Form()]


def review_routes(site: Site) -> APIRouter:
    """Every page and form of the desk, for a router that carries the service's prefix."""
    router = APIRouter(prefix="/review", include_in_schema=False)

    async def reader(visitor: Annotated[Visitor, Depends(site.member)]) -> Visitor:
        if not visitor.person.may(Act.READ):
            raise HTTPException(404)
        return visitor

    async def sender(visitor: Annotated[Visitor | None, Depends(site.visitor)]) -> Visitor:
        if visitor is None:
            raise HTTPException(403)
        if not visitor.person.may(Act.READ):
            raise HTTPException(404)
        return visitor

    Reader = Annotated[Visitor, Depends(reader)]
    Sender = Annotated[Visitor, Depends(sender)]

    def proof(request: Request, visitor: Sender, form_key: Text = "") -> acts.Proof:
        def check(number: str) -> None:
            if not site.login.form_is_ours(request, visitor, f"review {number}", form_key):
                raise HTTPException(403)

        return check

    Proof = Annotated[acts.Proof, Depends(proof)]

    def page(
        request: Request,
        visitor: Visitor,
        template: str,
        number: str,
        refused: acts.Not | None,
        given: Mapping[str, str],
        **shown: object,
    ) -> Response:
        """A page with forms: what was refused, and what was typed, stand in it again."""
        return site.pages.render(
            request,
            template,
            refused.status if refused else 200,
            may={act.value: visitor.person.may(act) for act in Act},
            form_key=site.login.form_key(visitor, f"review {number}"),
            problem=refused.why if refused else "",
            given=defaultdict(str, given),
            lengths=(review.REASON_LENGTH.start, review.REASON_LENGTH.stop - 1),
            **shown,
        )

    @router.get("")
    def queue(request: Request, visitor: Reader) -> Response:
        lang = site.lang(request)
        with site.store.read() as session:
            found = view_queue(session, site.policies, visitor.person.name, site.clock(), lang)
        return site.pages.render(request, "review.html", queue=found)

    def show_case(
        request: Request,
        visitor: Visitor,
        number: str,
        refused: acts.Not | None = None,
        form: str = "",
        /,
        **given: str,
    ) -> Response:
        person, lang = visitor.person, site.lang(request)
        case = site.case(number, person, lang)
        with site.store.read() as session:
            found = view_file(
                session, site.own_case(session, number, person), site.policies, person.name, site.clock(), lang
            )
        shown = {"case": case, "file": found, "own": person.name == case.member, "form": form}
        return page(request, visitor, "review_case.html", case.number, refused, given, rules=site.office.rules, **shown)

    def show_incident(
        request: Request, visitor: Visitor, number: str, refused: acts.Not | None = None, /, **given: str
    ) -> Response:
        lang = site.lang(request)
        with site.store.read() as session:
            found = incident.find(session, number)
            if found is None:
                raise HTTPException(404)
            view = view_incident(found, site.policies, lang)
            cases = view_incident_cases(session, found, site.policies, lang)
        shown = {"incident": view, "cases": cases}
        return page(request, visitor, "review_incident.html", view.number, refused, given, **shown)

    def after(request: Request, visitor: Visitor, outcome: acts.Outcomes, form: str, /, **given: str) -> Response:
        if isinstance(outcome, acts.Not):
            return show_case(request, visitor, outcome.number, outcome, form, **given)
        return RedirectResponse(f"{site.prefix}review/case/{outcome.number}#done", status_code=303)

    @router.get("/case/{number}")
    def case(request: Request, visitor: Reader, number: str) -> Response:
        return show_case(request, visitor, number)

    @router.get("/incident/{number}")
    def one_incident(request: Request, visitor: Reader, number: str) -> Response:
        return show_incident(request, visitor, number)

    @router.post("/appeal/{id}")
    def answer_appeal(
        request: Request, visitor: Sender, proof: Proof, id: Id, outcome: Text = "", days: Text = "", why: Text = ""
    ) -> Response:
        done = acts.answer_appeal(site, visitor.person, id, outcome, days, why, proof)
        return after(request, visitor, done, f"appeal-{id}", outcome=outcome, days=days, why=why)

    @router.post("/case/{number}/restrict")
    def restrict(
        request: Request, visitor: Sender, proof: Proof, number: str, scope: Text = "", days: Text = "", why: Text = ""
    ) -> Response:
        done = acts.restrict(site, visitor.person, number, scope, days, why, proof)
        return after(request, visitor, done, "restrict", scope=scope, days=days, why=why)

    @router.post("/case/{number}/close")
    def close(request: Request, visitor: Sender, proof: Proof, number: str, why: Text = "") -> Response:
        done = acts.close(site, visitor.person, number, why, proof)
        return after(request, visitor, done, "close", why=why)

    @router.post("/restriction/{id}/lift")
    def lift(request: Request, visitor: Sender, proof: Proof, id: Id, why: Text = "", give_back: Text = "") -> Response:
        done = acts.lift(site, visitor.person, id, why, give_back=bool(give_back), proof=proof)
        return after(request, visitor, done, f"lift-{id}", why=why)

    @router.post("/purpose/{id}")
    def answer_purpose(
        request: Request, visitor: Sender, proof: Proof, id: Id, answer: Text = "", days: Text = "", why: Text = ""
    ) -> Response:
        if answer not in ("grant", "refuse"):
            raise HTTPException(422)
        done = acts.answer_purpose(site, visitor.person, id, days, why, grant=answer == "grant", proof=proof)
        return after(request, visitor, done, f"purpose-{id}", answer=answer, days=days, why=why)

    @router.post("/report/{id}/link")
    def link(request: Request, visitor: Sender, proof: Proof, id: Id, member: Text = "", why: Text = "") -> Response:
        done = acts.link_report(site, visitor.person, id, member, why, proof)
        return after(request, visitor, done, "link", member=member, why=why)

    @router.post("/report/{id}/close")
    def close_report(request: Request, visitor: Sender, proof: Proof, id: Id, why: Text = "") -> Response:
        done = acts.close_report(site, visitor.person, id, why, proof)
        return after(request, visitor, done, "close-report", why=why)

    @router.post("/incident/{number}")
    def end_incident(
        request: Request, visitor: Sender, proof: Proof, number: str, outcome: Text = "", why: Text = ""
    ) -> Response:
        if outcome not in ("reverse", "confirm"):
            raise HTTPException(422)
        done = acts.end_incident(site, visitor.person, number, why, reverse=outcome == "reverse", proof=proof)
        if isinstance(done, acts.Not):
            return show_incident(request, visitor, number, done, why=why, outcome=outcome)
        return RedirectResponse(f"{site.prefix}review/incident/{done.number}", status_code=303)

    return router
