"""`python -m mutirao.hub.warden`: stops, within seconds, the runtimes of members who may no longer run code.

It parses nothing that strangers send, listens nowhere, reads the database, and holds a token of the hub that can look
at servers and stop them, not start them. Settings come from the environment: MUTIRAO_DATABASE, JUPYTERHUB_API_URL,
JUPYTERHUB_API_TOKEN.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from mutirao.cases import sanction
from mutirao.cases.ladder import Scope
from mutirao.errors import MutiraoError
from mutirao.hub.room import READING_ROOM
from mutirao.process import now, required, run
from mutirao.store.store import Store

log = logging.getLogger(__name__)

SERVICE = "mutirao-warden"
SCOPES = ["list:users", "read:users:name", "read:servers", "delete:servers"]
EVERY_S = 1.0
LOOK_S = 30.0
"""So often the hub is asked although nobody is restricted: for reading rooms whose member is free again."""

PAGE = 100
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A member's server at the hub; `room` says that it is a reading room."""

    member: str
    name: str
    room: bool


def to_stop(servers: Iterable[Server], restricted: set[str]) -> list[Server]:
    """Who may not run code keeps a reading room only; who may needs none any more."""
    return [server for server in servers if server.room != (server.member in restricted)]


@dataclass(slots=True)
class Warden:
    """Compares what is restricted with what runs; `clock` gives aware UTC times."""

    store: Store
    hub_api: str
    token: str
    clock: Callable[[], datetime]
    tick: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time())
    _before: set[str] = field(default_factory=set)
    _looked: float | None = None
    _rooms: bool = True

    async def once(self, session: aiohttp.ClientSession) -> list[Server]:
        """One look; the servers that were stopped."""
        now = self.clock()
        restricted = await asyncio.to_thread(self._restricted, now)
        stale = self._looked is None or self.tick() - self._looked >= LOOK_S
        if not restricted and restricted == self._before and not self._rooms and not stale:
            return []
        servers = await self._servers(session)
        wrong = to_stop(servers, restricted)
        for server in wrong:
            await self._stop(session, server)
        self._looked, self._before = self.tick(), restricted
        self._rooms = any(server.room for server in servers)
        return wrong

    def _restricted(self, now: datetime) -> set[str]:
        with self.store.read() as session:
            found = sanction.active(session, now)
            return {member for member, restriction in found.items() if restriction.on(Scope.COMPUTE, now) is not None}

    async def _servers(self, session: aiohttp.ClientSession) -> list[Server]:
        """Every server that is up, page by page."""
        found: list[Server] = []
        offset = 0
        while True:
            asked = {"state": "active", "offset": str(offset), "limit": str(PAGE)}
            async with session.get(f"{self.hub_api}/users", params=asked, headers=self._headers()) as answer:
                answer.raise_for_status()
                users = await answer.json()
            for user in users:
                found += [_server(user["name"], each) for each in user.get("servers", {}).values() if each.get("ready")]
            if len(users) < PAGE:
                return found
            offset += PAGE

    async def _stop(self, session: aiohttp.ClientSession, server: Server) -> None:
        where = f"{self.hub_api}/users/{quote(server.member, safe='@~')}/server"
        if server.name:
            where += f"s/{quote(server.name, safe='@~')}"
        async with session.delete(where, headers=self._headers()) as answer:
            if answer.status not in (202, 204, 404):
                log.warning("%s/%s could not be stopped: %s", server.member, server.name, answer.status)
                return
        why = "the restriction is over" if server.room else "running code is restricted"
        log.warning("Stopped the runtime of %s (%r): %s.", server.member, server.name, why)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    async def watch(self, over: asyncio.Event) -> None:
        """Look every second until told to stop; a hub or database that is away is asked again."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session:
            while not over.is_set():
                try:
                    await self.once(session)
                except (MutiraoError, aiohttp.ClientError, TimeoutError, OSError) as error:
                    log.warning("A look was not finished: %r", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), EVERY_S)


def _server(member: str, model: Mapping[str, Any]) -> Server:
    chosen = model.get("user_options") or {}
    return Server(member, str(model.get("name", "")), chosen.get("size") == READING_ROOM)


async def serve(environment: Mapping[str, str]) -> None:
    """Watch until SIGTERM; the tables are expected to be migrated."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    store = Store(required(environment, "MUTIRAO_DATABASE"))
    api, token = required(environment, "JUPYTERHUB_API_URL"), required(environment, "JUPYTERHUB_API_TOKEN")
    try:
        await Warden(store, api.rstrip("/"), token, now).watch(over)
    finally:
        store.close()


def main() -> int:
    """Exit status 2 where the environment is wrong."""
    return run(lambda: asyncio.run(serve(os.environ)))


if __name__ == "__main__":
    sys.exit(main())
