"""Does a member's server accept whoever asks? Asked before anything is judged, recorded or told in its stead."""

from aiohttp import hdrs, web
from multidict import CIMultiDict

from mutirao.gate.headers import passed_on, whole_answer
from mutirao.gate.route import KERNELS, Place
from mutirao.gate.upstream import Upstream

_PROBE_S = 30.0
_ABOUT_THE_BODY = ("content-type", "content-length", "content-encoding", "expect", "range", "if-none-match")


async def declined(request: web.Request, place: Place, upstream: Upstream) -> web.Response | None:
    """None where the server accepts the request's credentials for this kernel; otherwise its refusal."""
    headers = CIMultiDict(
        (key, value) for key, value in passed_on(request.headers.items()).items() if key.lower() not in _ABOUT_THE_BODY
    )
    kernel = Place(place.route, f"{KERNELS}/{place.kernel}".rstrip("/"), place.query)
    async with await upstream.request(hdrs.METH_GET, kernel.target_url, headers, timeout_s=_PROBE_S) as answer:
        # 404 comes after the check of credentials: a kernel on a remote server is not in this server's list.
        if answer.status in (200, 404):
            return None
        body = await answer.content.read(1 << 16)
        kept = whole_answer(answer.headers.items())
        return web.Response(status=answer.status, reason=answer.reason, headers=kept, body=body)
