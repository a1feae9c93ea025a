"""What the pages ask JupyterHub: who somebody is, and which runtimes they have."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError

from mutirao.cases.role import Act, Role, may, roles_of
from mutirao.errors import MutiraoError
from mutirao.fairness import Roles

ANSWER_S = 5
PAGE = 200
IDENTITY_AGE_S = 60
"""How long the hub's word on a token is taken as good; a logout changes the hub's session and counts at once."""


class HubAway(MutiraoError):
    """The hub does not answer."""


@dataclass(frozen=True, slots=True)
class Person:
    """A JupyterHub user with their roles here; `admin` may use the hub's own administration as well."""

    name: str
    roles: frozenset[Role] = frozenset({Role.MEMBER})
    admin: bool = False

    def may(self, act: Act) -> bool:
        """True where one of the roles allows it."""
        return may(self.roles, act)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One server of a member; `name` is empty for the default one, `url` is its path on this host."""

    name: str
    url: str
    ready: bool
    started: datetime | None
    environment: str
    size: str


class Hub(Protocol):
    """JupyterHub as the pages need it; tests have a twin in memory."""

    def authorize_url(self, state: str, challenge: str) -> str:
        """Where a browser goes to log in and come back with `state` and a code."""

    async def token_for(self, code: str, verifier: str) -> str | None:
        """The access token for a code, None where the hub refuses it; HubAway where it doesn't answer."""

    async def person(self, token: str, session: str) -> Person | None:
        """Who holds this token and may use this service; `session` is the hub's session cookie."""

    def forget(self) -> None:
        """Ask the hub anew who holds which token: somebody logs out."""

    async def runtimes(self, name: str) -> tuple[Runtime, ...]:
        """The member's runtimes that run or start; HubAway where the hub doesn't answer."""

    async def running(self) -> int:
        """How many runtimes run or start, all together; HubAway where the hub doesn't answer."""

    async def check(self) -> None:
        """HubAway where the hub doesn't answer."""


class JupyterHub:
    """The real hub, through JupyterHub's own OAuth client; settings come from the environment it gives a service.

    The service's token needs the scopes `read:users:name` and `read:servers`.
    """

    def __init__(self, auth: HubOAuth, names: Roles | None = None) -> None:
        self._auth = auth
        self._names = names or Roles()
        self._auth.cache_max_age = IDENTITY_AGE_S

    def authorize_url(self, state: str, challenge: str) -> str:
        """Proof of possession (RFC 7636) goes along; hubs before 6 ignore it."""
        wanted = {
            "client_id": self._auth.oauth_client_id,
            "redirect_uri": self._auth.oauth_redirect_uri,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._auth.oauth_authorization_url}?{urlencode(wanted)}"

    async def token_for(self, code: str, verifier: str) -> str | None:
        """The hub answers a wrong, used or foreign code with an error; that is a refusal, not an outage."""
        wanted = {
            "client_id": self._auth.oauth_client_id,
            "client_secret": self._auth.api_token,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._auth.oauth_redirect_uri,
            "code_verifier": verifier,
        }
        status, answer = await self._call("POST", self._auth.oauth_token_url, data=wanted)
        return str(answer["access_token"]) if status == 200 else None

    async def person(self, token: str, session: str) -> Person | None:
        """A token without this service's access scope is nobody's."""
        try:
            async with asyncio.timeout(ANSWER_S):
                model = await self._auth.user_for_token(token, session_id=session, sync=False)
        except (HTTPError, TimeoutError) as error:
            raise HubAway(f"The hub could not say who this is: {error!r}") from error
        if not model or model.get("kind") != "user" or not self._auth.check_scopes(self._auth.access_scopes, model):
            return None
        admin = bool(model.get("admin"))
        return Person(model["name"], roles_of(model.get("groups", ()), admin=admin, names=self._names), admin)

    def forget(self) -> None:
        """Everybody's word is asked again: one answer more for each who is there."""
        self._auth.cache.clear()

    async def runtimes(self, name: str) -> tuple[Runtime, ...]:
        """By the service's own token; a member whom the hub has forgotten has none."""
        url = f"{self._auth.api_url.rstrip('/')}/users/{quote(name, safe='@~')}"
        headers = {"Authorization": f"token {self._auth.api_token}"}
        status, model = await self._call("GET", url, headers=headers)
        if status == 404:
            return ()
        if status != 200:
            raise HubAway(f"The hub answered {status} when asked about runtimes: give the service read:servers.")
        return tuple(_runtime(server) for server in model.get("servers", {}).values())

    async def running(self) -> int:
        """The hub lists active users page by page."""
        count, offset = 0, 0
        while True:
            url = f"{self._auth.api_url.rstrip('/')}/users?state=active&limit={PAGE}&offset={offset}"
            headers = {"Authorization": f"token {self._auth.api_token}"}
            status, users = await self._call("GET", url, headers=headers)
            if status != 200:
                raise HubAway(f"The hub answered {status} when asked for its users: give the service list:users.")
            count += sum(len(user.get("servers", {})) for user in users)
            if len(users) < PAGE:
                return count
            offset += PAGE

    async def check(self) -> None:
        """Ask for its version, which needs no token."""
        await self._call("GET", f"{self._auth.api_url.rstrip('/')}/")

    async def _call(self, method: str, url: str, **details: Any) -> tuple[int, Any]:
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.request(method, url, **details) as answer,
            ):
                if answer.status >= 500:
                    raise HubAway(f"The hub answered {answer.status}.")
                return answer.status, await answer.json() if answer.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError) as error:
            raise HubAway(f"The hub does not answer at {self._auth.api_url}: {error}") from error


def _runtime(server: dict[str, Any]) -> Runtime:
    chosen = server.get("user_options") or {}
    started = server.get("started")
    return Runtime(
        name=server["name"],
        url=server["url"],
        ready=bool(server.get("ready")),
        started=datetime.fromisoformat(started) if started else None,
        environment=str(chosen.get("environment", "")),
        size=str(chosen.get("size", "")),
    )
