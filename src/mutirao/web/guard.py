"""What holds for every answer: strict headers, small bodies, and a friendly page where the code fails."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mutirao.web.limit import Limits, TooMany

log = logging.getLogger(__name__)

BODY_BYTES = 64 * 1024
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


Answer = Callable[[Request, Exception], Awaitable[Response]]


class BodyTooLarge(HTTPException):
    """A request carries more than any of our forms can."""

    def __init__(self) -> None:
        super().__init__(413)


class Guard:
    """ASGI middleware around the whole app; `on_error` makes the page for an exception that nobody caught.

    `on_too_many` makes the one for an address that `limits` let wait.
    """

    def __init__(
        self,
        app: ASGIApp,
        on_error: Answer,
        limits: Limits,
        on_too_many: Answer,
        more_headers: Mapping[str, str],
    ) -> None:
        self.app = app
        self.on_error = on_error
        self.limits = limits
        self.on_too_many = on_too_many
        self.headers = HEADERS | {name.lower(): value for name, value in more_headers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted, and the answer back with its headers set."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, size = False, 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY_BYTES:
                raise BodyTooLarge
            return message

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self.limits.address(scope)
            await self.app(scope, counted, headed)
        except TooMany as error:
            response = await self.on_too_many(Request(scope), error)
            await response(scope, receive, headed)
        except Exception as error:
            if started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            response = await self.on_error(Request(scope), error)
            await response(scope, receive, headed)
