"""Which headers pass: all but the ones that are about one connection only (RFC 9110, 7.6.1)."""

from collections.abc import Iterable

from aiohttp import hdrs
from multidict import CIMultiDict

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_CHECKED = ("host", "origin", "cookie", "authorization", "x-")
_HANDSHAKE = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol"}
)


def passed_on(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers that go on to the next hop, untouched and in order."""
    pairs = list(headers)
    named = {
        name.strip().lower()
        for key, value in pairs
        if key.lower() == "connection"
        for name in value.split(",")
        # A sender may not declare these to be hop-by-hop and so strip them from what the upstream checks.
        if not name.strip().lower().startswith(_CHECKED)
    }
    dropped = HOP_BY_HOP | named
    return CIMultiDict((key, value) for key, value in pairs if key.lower() not in dropped)


def whole_answer(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers of an answer whose body was read and is sent in one piece."""
    return CIMultiDict((key, value) for key, value in headers if key.lower() not in (*HOP_BY_HOP, "content-length"))


def for_handshake(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers of a websocket's handshake that are not about the websocket itself."""
    return CIMultiDict((key, value) for key, value in passed_on(headers).items() if key.lower() not in _HANDSHAKE)


def offered(headers: CIMultiDict[str]) -> tuple[str, ...]:
    """The subprotocols that the client offers, in its order."""
    values = ",".join(headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ()))
    return tuple(name for name in (part.strip() for part in values.split(",")) if name)
