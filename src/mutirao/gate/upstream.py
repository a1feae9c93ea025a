"""The gate as a client of a member's Jupyter server.

Quick: Tornado leaves Nagle's algorithm on, so that its second small frame waits for our ACK of the first, and Linux
delays that ACK by up to 40 ms. TCP_QUICKACK sends it at once, but holds for one ACK only: it is set again on every
receive.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from mutirao.errors import MutiraoError
from mutirao.gate.inside import Inside

CONNECT_S = 15.0
HANDSHAKE_S = 60.0
"""A server answers it once its kernel has started; one that never does would keep what it holds here for ever."""
MAX_LINE_BYTES = 65536
_REFUSAL_BYTES = 1 << 20
# aiohttp adds these where a client sent none; what passes here must not change.
_AUTO_HEADERS = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)


class UpstreamAway(MutiraoError):
    """A member's server can't be reached."""


class Declined(Exception):
    """The server did not accept the websocket; what it answered instead goes to the client as it is."""

    def __init__(self, status: int, reason: str, headers: CIMultiDict[str], body: bytes) -> None:
        super().__init__(f"the server answered {status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body


class UpstreamSocket(Inside, aiohttp.ClientWebSocketResponse[bool]):  # type: ignore[misc]
    """The websocket to a member's server, with the headers of its handshake."""

    @property
    def handshake_headers(self) -> Any:
        """The headers that the server accepted with."""
        return self.handshake.headers

    def quicken(self) -> None:
        """Acknowledge at once what has been received and what comes next."""
        quicken(self.get_extra_info("socket"))


def quicken(sock: Any) -> None:
    """Set TCP_QUICKACK on a socket (asyncio's wrapper or a real one), where there is such a thing."""
    if sock is None or not hasattr(socket, "TCP_QUICKACK"):
        return
    with suppress(OSError):  # closed meanwhile, or no TCP socket: nothing to quicken
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Upstream:
    """Two aiohttp sessions without cookies, redirects, proxies or decompression of their own."""

    def __init__(self) -> None:
        common: dict[str, Any] = {
            "auto_decompress": False,
            "trust_env": False,
            "timeout": aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S),
            "skip_auto_headers": _AUTO_HEADERS,
            "max_line_size": MAX_LINE_BYTES,
            "max_field_size": MAX_LINE_BYTES,
        }
        self._web = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), **common
        )
        self._sockets = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            ws_response_class=UpstreamSocket,  # type: ignore[arg-type]
            raise_for_status=_decline,
            **common,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._web.close()
        await self._sockets.close()

    async def request(
        self, method: str, url: str, headers: CIMultiDict[str], data: Any = None, timeout_s: float | None = None
    ) -> aiohttp.ClientResponse:
        """One HTTP request, path and headers untouched; UpstreamAway where the server can't be reached."""
        try:
            return await self._web.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_S, sock_connect=CONNECT_S),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamAway(_away(url, error)) from error

    async def connect(
        self, url: str, headers: CIMultiDict[str], protocols: Sequence[str], max_message_bytes: int
    ) -> UpstreamSocket:
        """A websocket; Declined with the server's own answer, or UpstreamAway."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                upstream = await self._sockets.ws_connect(
                    URL(url, encoded=True),
                    headers=headers,
                    protocols=protocols,
                    autoping=False,
                    max_msg_size=max_message_bytes,
                    decode_text=False,
                    timeout=aiohttp.ClientWSTimeout(ws_receive=None, ws_close=2.0),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamAway(_away(url, error)) from error
        assert isinstance(upstream, UpstreamSocket)
        upstream.quicken()
        return upstream


async def _decline(response: aiohttp.ClientResponse) -> None:
    """Keep the body of a refused handshake, which aiohttp would throw away."""
    if response.status == 101:
        return
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _REFUSAL_BYTES:
            break
    response.close()
    raise Declined(response.status, response.reason or "", CIMultiDict(response.headers), bytes(body))


def _away(url: str, error: BaseException) -> str:
    host = URL(url, encoded=True).authority
    return (
        f"The notebook server at {host} can't be reached ({type(error).__name__}): "
        "it may have stopped. Start it again from the hub's home page."
    )
