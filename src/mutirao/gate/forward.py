"""Plain HTTP between a client and a member's server, streamed both ways and otherwise untouched."""

from typing import Any

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from mutirao.gate.headers import passed_on
from mutirao.gate.route import Place
from mutirao.gate.upstream import Upstream

_CHUNK_BYTES = 65536


async def forward(
    request: web.Request,
    place: Place,
    upstream: Upstream,
    body: bytes | None = None,
    extra_headers: dict[str, str] | None = None,
) -> web.StreamResponse:
    """Pass the request on, with `body` where it was read already; UpstreamAway where the server can't be reached."""
    headers = passed_on(request.headers.items())
    data: Any = body
    if body is not None:
        headers.popall(hdrs.CONTENT_LENGTH, None)
    elif request.can_read_body:
        data = request.content
    answer = await upstream.request(request.method, place.target_url, headers, data)
    try:
        return await _stream(request, answer, extra_headers or {})
    finally:
        answer.release()


async def _stream(
    request: web.Request, answer: aiohttp.ClientResponse, extra_headers: dict[str, str]
) -> web.StreamResponse:
    headers: CIMultiDict[str] = passed_on(answer.headers.items())
    headers.extend(extra_headers)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD and answer.status not in (204, 304):
        try:
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                await response.write(chunk)
        except aiohttp.ClientError:
            # The server broke off in the middle: so must we, or the client would take the part for the whole.
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
            return response
    await response.write_eof()
    return response
