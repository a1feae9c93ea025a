"""The only way from a runtime to the hub: four requests, each built anew, and no other byte.

    GET  /hub/api                          the hub's version
    POST /hub/api/oauth2/token             a code for a token, for the asking server's own client
    GET  /hub/api/user                     whose token this is
    POST /hub/api/users/NAME/activity      of the asking runtime's own member and server

Who asks is known by the address that the packet filter ties to a runtime's interface; the broker says whose it is.
Unless visitors are allowed, a runtime learns of no token but its own member's.
"""

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlencode

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from mutirao.errors import MutiraoError
from mutirao.sandbox.client import BrokerAway

log = logging.getLogger(__name__)

API = "/hub/api"
MAX_BODY_BYTES = 16384
MAX_ANSWER_BYTES = 1 << 20
MOST_AT_ONCE = 32
ANSWER_S = 30.0
HUB_RESTARTS_S = 10.0
TRY_AGAIN_S = 0.1
TAKEN = (hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, hdrs.USER_AGENT, hdrs.ACCEPT)
GIVEN = (hdrs.CONTENT_TYPE, "X-JupyterHub-Version", hdrs.CACHE_CONTROL)
FORM = frozenset({"client_id", "client_secret", "grant_type", "code", "redirect_uri", "code_verifier"})


class Refused(MutiraoError):
    """A request that a runtime may not make; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HubAway(MutiraoError):
    """The hub can't be reached, or answers too much."""


class Whose(Protocol):
    """Knows whose runtime has an address: the broker's client, or a twin."""

    async def who(self, address: str) -> tuple[str, str] | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub said."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(eq=False)
class Forwarder:
    """Passes on what runtimes may ask the hub at `hub_url` (without a slash at its end)."""

    hub_url: str
    whose: Whose
    visitors: bool = False
    counters: Counter[str] = field(default_factory=Counter)
    _open: Counter[str] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request of a runtime."""
        address = request.remote or ""
        self._open[address] += 1
        try:
            if self._open[address] > MOST_AT_ONCE:
                raise Refused(429, "Too many requests at once.")
            answer = await self._pass(request, address)
            self.counters["passed"] += 1
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        except Refused as refused:
            self.counters["refused"] += 1
            log.warning("%s %s %s: %s", address, request.method, request.raw_path[:200], refused)
            return _problem(refused.status, str(refused))
        except (HubAway, BrokerAway) as error:
            self.counters["away"] += 1
            log.warning("%s", error)
            return _problem(503, "The hub is away for a moment: try again.")
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def close(self) -> None:
        """Close the connections to the hub."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _pass(self, request: web.Request, address: str) -> Answer:
        if hdrs.UPGRADE in request.headers:
            raise Refused(403, "No websockets here.")
        owner = await self.whose.who(address)
        if owner is None:
            raise Refused(403, "Only runtimes ask here.")
        member, server = owner
        headers = {str(name): request.headers[name] for name in TAKEN if name in request.headers}
        match request.method, request.raw_path:
            case "GET", "/hub/api" | "/hub/api/":
                return await self._ask("GET", "/", {})
            case "GET", "/hub/api/user":
                return self._only_of(member, await self._ask("GET", "/user", headers))
            case "POST", "/hub/api/oauth2/token":
                body = _own_code(await _body(request), member, server)
                answer = await self._ask("POST", "/oauth2/token", headers, body)
                return answer if answer.status != 200 or self.visitors else await self._checked(member, answer)
            case "POST", raw if (name := _activity_of(raw)) is not None:
                if name != member:
                    raise Refused(403, "A runtime reports its own member's activity.")
                body = _own_activity(await _body(request), server)
                return await self._ask("POST", f"/users/{quote(member, safe='@~')}/activity", headers, body)
        raise Refused(403, "This is not for runtimes.")

    async def _checked(self, member: str, answer: Answer) -> Answer:
        """The token that was got for a code, once the hub has said that it is the member's own."""
        token = _object(answer.body).get("access_token", "")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise HubAway("The hub gave no token for a code.")
        self._only_of(member, await self._ask("GET", "/user", {hdrs.AUTHORIZATION: f"token {token}"}))
        return answer

    def _only_of(self, member: str, answer: Answer) -> Answer:
        if answer.status == 200 and not self.visitors and _object(answer.body).get("name") != member:
            raise Refused(403, "Only a runtime's own member comes in here.")
        return answer

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
        """The hub's answer; a hub that restarts is waited for, because nothing of the request has reached it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=ANSWER_S),
                trust_env=False,
            )
        url = URL(f"{self.hub_url}{API}{path}", encoded=True)
        tries = int(HUB_RESTARTS_S / TRY_AGAIN_S)
        for left in reversed(range(tries)):
            try:
                async with self._session.request(
                    method, url, headers=headers, data=body, allow_redirects=False
                ) as answer:
                    text = await answer.content.read(MAX_ANSWER_BYTES + 1)
                    while len(text) <= MAX_ANSWER_BYTES and (more := await answer.content.read(MAX_ANSWER_BYTES)):
                        text += more
                    if len(text) > MAX_ANSWER_BYTES:
                        raise HubAway(f"The hub answered more than {MAX_ANSWER_BYTES} bytes to {method} {path}.")
                    kept = {str(name): answer.headers[name] for name in GIVEN if name in answer.headers}
                    return Answer(answer.status, kept, text)
            except aiohttp.ClientConnectorError as error:
                if not left:
                    raise HubAway(f"The hub can't be reached at {self.hub_url}: {error}") from error
                await asyncio.sleep(TRY_AGAIN_S)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise HubAway(f"The hub did not answer {method} {path}: {error!r}") from error
        raise AssertionError("the last try returns or raises")


def make_app(forwarder: Forwarder) -> web.Application:
    """The forwarder as an aiohttp application."""

    @web.middleware
    async def everything(request: web.Request, handler: Any) -> web.StreamResponse:
        # Not the handler that aiohttp's router found: it sees a normalised path, we read the raw one.
        del handler
        return await forwarder.handle(request)

    async def close(_app: web.Application) -> None:
        await forwarder.close()

    app = web.Application(middlewares=[everything], client_max_size=MAX_BODY_BYTES)
    app.on_shutdown.append(close)
    return app


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, f"At most {MAX_BODY_BYTES} bytes.") from None
    except TimeoutError:
        raise Refused(408, f"The whole request within {ANSWER_S:g} s.") from None


def _activity_of(raw: str) -> str | None:
    """NAME of /hub/api/users/NAME/activity; None for any other path, the odd spellings of this one included."""
    head, tail = f"{API}/users/", "/activity"
    if not (raw.startswith(head) and raw.endswith(tail)):
        return None
    segment = raw[len(head) : -len(tail)]
    if not segment or any(mark in segment for mark in "/?#\\;"):
        return None
    return unquote(segment, errors="strict") if _decodes(segment) else None


def _decodes(segment: str) -> bool:
    try:
        return "/" not in unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return False


def _own_activity(body: bytes, server: str) -> bytes:
    """The report without anything but times, and of no server but the asking one."""
    found = _object(body, 400)
    servers = found.get("servers", {})
    if not set(found) <= {"servers", "last_activity"} or not isinstance(servers, dict) or not set(servers) <= {server}:
        raise Refused(403, "A runtime reports its own activity.")
    return json.dumps(found).encode()


def _own_code(body: bytes, member: str, server: str) -> bytes:
    """The form for a token, which must be of the asking server's own client."""
    try:
        pairs = parse_qsl(body.decode(), strict_parsing=True, max_num_fields=16)
    except ValueError:
        raise Refused(400, "This is no form.") from None
    form = dict(pairs)
    client = f"jupyterhub-user-{quote(member)}" + (f"-{quote(server)}" if server else "")
    if len(form) != len(pairs) or not set(form) <= FORM:
        raise Refused(403, "This form has fields that are not for runtimes.")
    if form.get("client_id") != client or form.get("grant_type") != "authorization_code":
        raise Refused(403, "A runtime asks for tokens of its own.")
    return urlencode(form).encode()


def _object(body: bytes, status: int = 503) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        if status == 503:
            raise HubAway("The hub answered what is no JSON object.")
        raise Refused(status, "This is no JSON object.")
    return found


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"status": status, "message": message}, status=status)
