"""Who runs a cell: the user behind the request's token or session cookie, asked of the hub.

With sharing, the actor need not be the server's owner. The order is JupyterHub's own: a token in the URL, a token in
the Authorization header, then the browser's session.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from time import monotonic
from urllib.parse import parse_qs

import aiohttp
from tornado.httputil import parse_cookie

from mutirao.gate.route import Route

log = logging.getLogger(__name__)

SESSION_COOKIE = "jupyterhub-session-id"
_TOKEN = re.compile(r"(?:token|bearer)\s+(\S+)", re.IGNORECASE)
_ASK_S = 3.0
MAX_KEPT_S = 60.0
MAX_KEPT = 4096


def query_token(query: str) -> str | None:
    """The token in a URL's query, None where there is none."""
    return next((value for value in parse_qs(query).get("token", []) if value), None)


class NoActors:
    """Knows nobody: for a gate without a hub."""

    async def resolve(
        self,
        request_headers: Mapping[str, str],  # noqa: ARG002
        query_token: str | None,  # noqa: ARG002
        route: Route,  # noqa: ARG002
    ) -> str | None:
        """None, always."""
        return None


class HubActors:
    """Asks the hub, and keeps what it said for a minute; None where the hub is away or does not know.

    `owners_only`: on a server that nobody else may visit its owner alone is named, because whatever another brings
    there (a token, a session) the owner can take and use in their name.
    """

    def __init__(
        self,
        hub_api: str,
        service_token: str,
        clock: Callable[[], float] = monotonic,
        owners_only: bool = False,
    ) -> None:
        self._hub_api = hub_api.rstrip("/")
        self._service_token = service_token
        self._clock = clock
        self._owners_only = owners_only
        self._kept: OrderedDict[bytes, tuple[float, str | None]] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connection to the hub."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def resolve(self, request_headers: Mapping[str, str], query_token: str | None, route: Route) -> str | None:
        """The user's name; never raises, for a cell is judged also where its actor is unknown."""
        try:
            async with asyncio.timeout(_ASK_S):
                name = await self._find(request_headers, query_token, route)
                return None if self._owners_only and name != route.user else name
        except TimeoutError:
            log.warning("The hub did not say within %s s who runs a cell.", _ASK_S)
            return None

    async def _find(self, headers: Mapping[str, str], in_query: str | None, route: Route) -> str | None:
        for token in _tokens(headers, in_query):
            name = await self._ask("/user", {}, token)
            if name is not None:
                return name
        session = _session_id(headers)
        if session is None:
            return None
        asked = {"session_key": session, "owner": route.user, "server": route.server}
        return await self._ask("/mutirao/actor", asked, self._service_token)

    async def _ask(self, path: str, params: dict[str, str], token: str) -> str | None:
        # Hashed, so that no token lies about in memory longer than its request.
        key = sha256(repr((path, sorted(params.items()), token)).encode()).digest()
        kept = self._kept.get(key)
        if kept is not None and self._clock() - kept[0] < MAX_KEPT_S:
            return kept[1]
        try:
            name = await self._fetch(path, params, token)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.warning("The hub could not say who runs a cell (%s): %s", type(error).__name__, error)
            return None
        if name is None:
            return None  # who is unknown now may have logged in a moment later
        self._kept[key] = (self._clock(), name)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return name

    async def _fetch(self, path: str, params: dict[str, str], token: str) -> str | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=2 * _ASK_S)
            )
        headers = {"Authorization": f"token {token}"}
        async with self._session.get(self._hub_api + path, params=params, headers=headers) as answer:
            if answer.status in (401, 403, 404):
                return None
            answer.raise_for_status()
            model = await answer.json()
        if not isinstance(model, dict) or model.get("kind", "user") != "user":
            return None  # a service's token: nobody's cell
        name = model.get("name")
        return name if isinstance(name, str) and name else None


def _tokens(headers: Mapping[str, str], in_query: str | None) -> list[str]:
    found = [in_query] if in_query else []
    match = _TOKEN.match(headers.get("Authorization", ""))
    if match and match[1] not in found:
        found.append(match[1])
    return [token for token in found if token.isascii() and token.isprintable()]


def _session_id(headers: Mapping[str, str]) -> str | None:
    # The server's own parser: one that stumbles over a neighbour's odd cookie would make everybody nobody.
    return parse_cookie(headers.get("Cookie", "")).get(SESSION_COOKIE) or None
