"""Kernels of somebody who may not run code: the gate refuses to have one started, whichever server would do it."""

from aiohttp import hdrs, web

from mutirao.cases.notice import Notice
from mutirao.gate.card import card, plain
from mutirao.gate.route import SESSIONS, Place

_STARTS_NONE = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_DELETE)


def starts_kernel(request: web.Request, place: Place) -> bool:
    """True where the request can make a server start a kernel, a session's change included."""
    return request.method not in _STARTS_NONE and (place.part == SESSIONS or place.action in ("", "restart"))


def refused_start(notice: Notice, language: str) -> web.Response:
    """403 with the reason; JupyterLab shows an answer's message in a dialog, as plain text."""
    text = notice.text(language)
    body = {"message": plain(text), "reason": "Restricted", "case": notice.case, "html": card(text, notice.action)}
    return web.json_response(body, status=403)
