"""What the hub asks the pages before it starts anything: is somebody restricted, and in which words was it told?

A hub that gets no answer lets the member in: the gate still refuses every cell of theirs, and the warden stops what
should not have started as soon as the database can be read again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from tornado.web import HTTPError

from mutirao.hub.language_hook import language_of

log = logging.getLogger(__name__)

PATH = "internal/standing"
ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Held:
    """One restriction: its words by language tag, and where its case can be read and appealed."""

    scope: str
    case: str
    url: str
    words: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member may not do now; a wider restriction is named for the narrower too."""

    compute: Held | None = None
    gpu: Held | None = None

    @property
    def any(self) -> Held | None:
        """The gravest."""
        return self.compute or self.gpu


FREE = Standing()


@dataclass(frozen=True, slots=True)
class Standings:
    """Asks the pages at `pages_url` (with their prefix, and a slash at its end) by the service's own token."""

    pages_url: str
    token: str

    async def of(self, member: str) -> Standing:
        """The standing of a member; FREE where nobody answers."""
        headers = {"Authorization": f"token {self.token}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session,
                session.get(f"{self.pages_url}{PATH}", params={"member": member}, headers=headers) as answer,
            ):
                answer.raise_for_status()
                return _read(await answer.json())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError) as error:
            log.warning("Whether %s is restricted could not be asked: %r", member, error)
            return FREE


def _read(body: Mapping[str, Any]) -> Standing:
    return Standing(**{key: Held(**body[key]) if body[key] else None for key in ("compute", "gpu")})


def refuse_restricted(
    standings: Standings, then: Callable[[Any], Any] | None = None
) -> Callable[[Any], Awaitable[None]]:
    """A `pre_spawn_hook` for any spawner: who may not run code starts nothing, and is told why; `then` comes after."""

    async def hook(spawner: Any) -> None:
        held = (await standings.of(spawner.user.name)).compute
        if held is not None:
            said = f"{held.words[language_of(getattr(spawner, 'handler', None))]} {held.url}"
            refusal = HTTPError(403, said)
            refusal.jupyterhub_message = said  # type: ignore[attr-defined]  # what the hub's page shows
            raise refusal
        if then is not None:
            done = then(spawner)
            if done is not None:
                await done

    return hook
