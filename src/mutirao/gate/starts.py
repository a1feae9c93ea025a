"""Kernels of somebody who may not run code: the gate refuses to have one started, whichever server would do it."""

from aiohttp import hdrs, web

from mutirao.cases.letter import Halted
from mutirao.gate.actor import query_token
from mutirao.gate.card import card, plain
from mutirao.gate.judge import Actors, Judge, standing
from mutirao.gate.probe import declined
from mutirao.gate.route import SESSIONS, Place
from mutirao.gate.upstream import Upstream

_STARTS_NONE = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_DELETE)


def starts_kernel(request: web.Request, place: Place) -> bool:
    """True where the request can make a server start a kernel, a session's change included."""
    return request.method not in _STARTS_NONE and (place.part == SESSIONS or place.action in ("", "restart"))


async def refuse_start(
    request: web.Request,
    place: Place,
    upstream: Upstream,
    judge: Judge,
    actors: Actors,
    language: str,
    timeout_s: float,
) -> web.Response | None:
    """403 with the reason for one who may not run code, None for everybody else.

    Whom the server does not accept gets its own refusal: who is restricted is not everybody's to know.
    """
    actor = await actors.resolve(request.headers, query_token(place.query), place.route)
    notice = await standing(judge, actor, place.route.owner, Halted.KERNEL, timeout_s)
    if notice is None:
        return None
    stranger = await declined(request, place, upstream)
    if stranger is not None:
        return stranger
    text = notice.text(language)
    # JupyterLab shows an answer's message in a dialog, as plain text.
    body = {"message": plain(text), "reason": "Restricted", "case": notice.case, "html": card(text, notice.action)}
    return web.json_response(body, status=403)
