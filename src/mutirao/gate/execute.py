"""Cells that travel by HTTP: jupyter-server-nbmodel's POST …/execute {"code": …} and POST …/input {"input": …}.

The code is judged only after the server has accepted the same credentials (a GET of the kernel): otherwise anybody
could have a case opened on a member. A browser's request from another site is refused for the same reason.
"""

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell
from mutirao.cases.notice import Notice
from mutirao.errors import WireError
from mutirao.gate.actor import query_token
from mutirao.gate.card import card, plain, traceback
from mutirao.gate.forward import forward
from mutirao.gate.judge import Actors, Judge, weigh
from mutirao.gate.outcome import Outcomes
from mutirao.gate.probe import declined
from mutirao.gate.refusal import Refusal
from mutirao.gate.route import Place
from mutirao.gate.upstream import Upstream
from mutirao.gate.wire import load

KEYS = {"execute": ("code", "execute"), "input": ("input", "input_reply")}
_READERS = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_DELETE)


def carries_code(request: web.Request, place: Place) -> bool:
    """True where the request asks a kernel to run, or to read, what its body says."""
    return place.action in KEYS and request.method not in _READERS


class Executions:
    """Judges cells that come by HTTP, then passes them on."""

    def __init__(
        self,
        upstream: Upstream,
        judge: Judge,
        actors: Actors,
        judge_timeout_s: float,
        max_body_bytes: int,
        counters: Counter[str],
        outcomes: Outcomes,
    ) -> None:
        self._upstream = upstream
        self._judge = judge
        self._actors = actors
        self._judge_timeout_s = judge_timeout_s
        self._max_body_bytes = max_body_bytes
        self._counters = counters
        self._outcomes = outcomes

    async def handle(self, request: web.Request, place: Place, language: str) -> web.StreamResponse:
        """The server's answer; for a cell that is not run what the extension expects of one that failed.

        400 or 413 with a notice where the body can't be judged, 403 with one for an answer to input().
        """
        if _from_elsewhere(request):
            return web.json_response({"message": "A page of another site may not run cells with a cookie."}, status=403)
        # Before the body: strangers must not fill our memory with what they send.
        refusal = await declined(request, place, self._upstream)
        if refusal is not None:
            return refusal
        body = await self._read(request)
        if body is None:
            return _refused(413, Refusal.TOO_LARGE.notice, language)
        key, via = KEYS[place.action]
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            return _refused(400, Refusal.UNREADABLE.notice, language)
        try:
            asked = load(body, "the body")
        except WireError as error:
            return _refused(400, Refusal.UNREADABLE.notice, language, str(error))
        code = asked.get(key) if isinstance(asked, dict) else None
        if not isinstance(code, str):
            return _refused(400, Refusal.NO_SOURCE.notice, language, f"The body has no text under {key!r}.")
        actor = await self._actors.resolve(request.headers, query_token(place.query), place.route)
        cell = Cell(code, actor, place.route.user, place.route.server, place.kernel, via)
        verdict = await weigh(self._judge, [cell] if code.strip() else [], self._judge_timeout_s)
        self._counters[f"verdicts_{verdict.action}"] += 1
        if verdict.action is Action.ALLOW:
            return await forward(request, place, self._upstream, body)
        assert verdict.notice is not None
        if not verdict.action.runs and place.action == "execute":
            cell_id = metadata.get("cell_id") if isinstance(metadata := asked.get("metadata"), dict) else None
            return self._outcomes.accept(place, verdict.notice, language, cell_id)
        if not verdict.action.runs:
            return _refused(403, verdict.notice, language)
        return await forward(request, place, self._upstream, body, {"Mutirao-Case": verdict.notice.case or ""})

    async def _read(self, request: web.Request) -> bytes | None:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._max_body_bytes:
                return None
        return bytes(body)


def _from_elsewhere(request: web.Request) -> bool:
    """True for a browser's request from another origin that brings no token: a cookie alone proves no intent."""
    origin = request.headers.get(hdrs.ORIGIN)
    if not origin or hdrs.AUTHORIZATION in request.headers or query_token(request.query_string):
        return False
    return urlsplit(origin).netloc.lower() != request.headers.get(hdrs.HOST, "").lower()


def _refused(status: int, notice: Notice, language: str, detail: str = "") -> web.Response:
    text = notice.text(language)
    body: dict[str, Any] = {
        "message": detail or traceback(text, "NotRun")[0],
        "reason": "NotRun",
        "case": notice.case,
        "notice": plain(text),
        "html": card(text, notice.action),
    }
    return web.json_response(body, status=status)
