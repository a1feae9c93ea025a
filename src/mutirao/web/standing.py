"""What the hub asks before it starts a runtime: is this member restricted, until when, and where is the case?"""

from hmac import compare_digest
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from mutirao.cases import letter, sanction
from mutirao.cases.ladder import Scope
from mutirao.cases.sanction import Held
from mutirao.cases.wording import say
from mutirao.language import LANGUAGES
from mutirao.web.site import Site


def standing_routes(site: Site, token: str) -> APIRouter:
    """One route, for whoever holds the service's own token; without a token there is none to hold."""
    router = APIRouter(include_in_schema=False)

    @router.get("/internal/standing")
    def standing(request: Request, member: str = "") -> dict[str, Any]:
        given = request.headers.get("authorization", "").removeprefix("token ")
        if not token or not compare_digest(given.encode(), token.encode()):
            raise HTTPException(404)
        now = site.clock()
        with site.store.read() as session:
            restriction = sanction.restrictions(session, member, now)
        return {
            "compute": _told(site, restriction.on(Scope.COMPUTE, now)),
            "gpu": _told(site, restriction.on(Scope.GPU, now)),
        }

    return router


def _told(site: Site, held: Held | None) -> dict[str, Any] | None:
    if held is None:
        return None
    begins, ends = letter.moment(held.begins_at), letter.moment(held.ends_at)
    return {
        "scope": held.scope.value,
        "case": held.case,
        "url": f"{site.origins.to_pages}{site.prefix}case/{held.case}",
        "words": {lang: say(lang, letter.RESTRICTED[held.scope], begins=begins, ends=ends) for lang in LANGUAGES},
    }
