"""Reports from outside: a form for everybody, and a page behind a secret address that says how it stands."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from mutirao.cases import report
from mutirao.cases.office import Refused
from mutirao.policy.category import Category
from mutirao.web.acts import Not, plain
from mutirao.web.site import Site

PURPOSE = "report"


def report_routes(site: Site) -> APIRouter:
    """The form and its acknowledgement, for a router that carries the service's prefix."""
    router = APIRouter(prefix="/report", include_in_schema=False)
    greeted = [Depends(site.greet)]

    def show(
        request: Request, refused: Not | None = None, category: str = "", contact: str = "", text: str = ""
    ) -> Response:
        return site.pages.render(
            request,
            "report.html",
            refused.status if refused else 200,
            policy=site.policy(site.lang(request)),
            form_key=site.login.public_key(PURPOSE),
            problem=refused.why if refused else "",
            lengths=(report.TEXT_LENGTH.start, report.TEXT_LENGTH.stop - 1),
            contact_lengths=(report.CONTACT_LENGTH.start, report.CONTACT_LENGTH.stop - 1),
            chosen=category,
            reporter=contact,
            text=text,
        )

    @router.get("", dependencies=greeted)
    def form(request: Request) -> Response:
        return show(request)

    @router.post("", dependencies=greeted)
    def take(
        request: Request,
        category: Annotated[str, Form()] = "",
        contact: Annotated[str, Form()] = "",
        text: Annotated[str, Form()] = "",
        form_key: Annotated[str, Form()] = "",
    ) -> Response:
        site.limits.stranger(request.scope)
        if not site.login.public_form_is_ours(request, PURPOSE, form_key):
            raise HTTPException(403)
        if category not in set(Category):
            return show(request, Not("", "category"), category, contact, text)
        with site.store.write() as session:
            taken = report.take(
                session,
                site.office,
                source=site.limits.source(request.scope),
                contact=plain(contact),
                category=Category(category),
                text=plain(text),
                now=site.clock(),
            )
        if isinstance(taken, Refused):
            return show(request, Not("", taken.why), category, contact, text)
        return RedirectResponse(f"{site.prefix}report/{taken.token}", status_code=303)

    @router.get("/{token}", dependencies=greeted)
    def state(request: Request, token: str) -> Response:
        with site.store.read() as session:
            found = report.by_token(session, token)
            if found is None:
                raise HTTPException(404)
            values = {
                "number": found.case.number,
                "at": found.at,
                "closed_at": found.closed_at,
                "answer": found.answer,
                "looked_at": found.linked_at is not None,
            }
        return site.pages.render(request, "report_state.html", **values)

    return router
