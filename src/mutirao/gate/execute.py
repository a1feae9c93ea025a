"""Cells that travel by HTTP: jupyter-server-nbmodel's POST …/execute {"code": …} and POST …/input {"input": …}.

The code is judged only after the server has accepted the same credentials (a GET of the kernel): otherwise anybody
could have a case opened on a member. A browser's request from another site is refused for the same reason.
"""

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import CIMultiDict

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell
from mutirao.cases.notice import Notice
from mutirao.errors import WireError
from mutirao.gate.actor import query_token
from mutirao.gate.card import card, plain, traceback
from mutirao.gate.forward import forward
from mutirao.gate.headers import HOP_BY_HOP, passed_on
from mutirao.gate.judge import Actors, Judge, weigh
from mutirao.gate.refusal import Refusal
from mutirao.gate.route import FIXED_PART, Place
from mutirao.gate.upstream import Upstream
from mutirao.gate.wire import load

KEYS = {"execute": ("code", "execute"), "input": ("input", "input_reply")}
_READERS = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_DELETE)
_PROBE_S = 30.0
_ABOUT_THE_BODY = ("content-type", "content-length", "content-encoding", "expect", "range", "if-none-match")


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
    ) -> None:
        self._upstream = upstream
        self._judge = judge
        self._actors = actors
        self._judge_timeout_s = judge_timeout_s
        self._max_body_bytes = max_body_bytes
        self._counters = counters

    async def handle(self, request: web.Request, place: Place) -> web.StreamResponse:
        """The server's answer, or 403 with the notice; 400 or 413 where the body can't be judged."""
        language = request.headers.get(hdrs.ACCEPT_LANGUAGE, "")
        if _from_elsewhere(request):
            return web.json_response({"message": "A page of another site may not run cells with a cookie."}, status=403)
        # Before the body: strangers must not fill our memory with what they send.
        refusal = await self._probe(request, place)
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

    async def _probe(self, request: web.Request, place: Place) -> web.Response | None:
        """None where the server accepts these credentials; otherwise its refusal."""
        headers = CIMultiDict(
            (key, value)
            for key, value in passed_on(request.headers.items()).items()
            if key.lower() not in _ABOUT_THE_BODY
        )
        kernel = Place(place.route, f"{FIXED_PART}/{place.kernel}", place.query)
        answer = await self._upstream.request(hdrs.METH_GET, kernel.target_url, headers, timeout_s=_PROBE_S)
        async with answer:
            # 404 comes after the check of credentials: a kernel on a remote server is not in this server's list.
            if answer.status in (200, 404):
                return None
            body = await answer.content.read(1 << 16)
            kept = ((k, v) for k, v in answer.headers.items() if k.lower() not in (*HOP_BY_HOP, "content-length"))
            return web.Response(status=answer.status, reason=answer.reason, headers=CIMultiDict(kept), body=body)


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
