"""The spawner: a member's choice becomes a runtime inside the walls."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from jupyterhub import orm
from jupyterhub.spawner import Spawner, SpawnException

from mutirao.config import Settings
from mutirao.errors import ConfigError, SandboxError
from mutirao.hub import environment, start_form
from mutirao.hub.announce import Announcer
from mutirao.hub.language_hook import language_of
from mutirao.hub.place import Place, here
from mutirao.hub.room import MEMORY_MB, READING_ROOM
from mutirao.hub.standing import Standing, Standings
from mutirao.sandbox.ask import VARIABLE, Seat
from mutirao.sandbox.client import BrokerAway, Client

OOM_WAIT_S = 30.0
ALIVE_POLL_S = 0.3

SHOWN = 64
"""Characters of a wrong choice that an error repeats."""


class SandboxSpawner(Spawner):  # type: ignore[misc]  # no type information is published
    """Starts single-user servers in bubblewrap sandboxes; `user_options` are {"environment": …, "size": …}."""

    user_options: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.running: Seat | None = None
        self._oom_watch: asyncio.Task[None] | None = None

    @property
    def settings(self) -> Settings:
        """The settings of this instance."""
        return _place().settings

    def _options_form_default(self) -> Any:
        async def form(spawner: "SandboxSpawner") -> str:
            standing = await spawner.standing()
            return start_form.start_form(*choices(spawner.settings), _language(spawner), standing)

        return form

    async def standing(self) -> Standing:
        """What is restricted for the member now."""
        return await standings(_place()).of(self.user.name)

    def options_from_form(self, form: dict[str, list[str]]) -> dict[str, str]:
        """The choice on the start page, checked."""
        return start_form.parse_start_form(form, *choices(self.settings))

    async def apply_user_options(self, _spawner: Any, options: dict[str, Any]) -> None:
        """Refuse a choice that is none, from the page or from the API, before anything starts."""
        self._chosen(options)

    def _chosen(self, options: dict[str, Any]) -> tuple[str, str]:
        """The environment and size chosen, defaults where nothing was."""
        unknown = set(options) - {"environment", "size"}
        if unknown:
            named = ", ".join(sorted(map(str, unknown)))[:SHOWN]
            raise SpawnException(f"{named}: only environment and size can be chosen.", reason="options")
        chosen = []
        for key, known in (("environment", self.settings.environments), ("size", self.settings.sizes)):
            value = options.get(key)
            # Kept by the hub from the last start: nobody chooses it, and whoever is free again needs none.
            value = next(iter(known)) if not value or value == READING_ROOM else value
            if not isinstance(value, str) or value not in known:
                raise SpawnException(
                    f"{key} {repr(value)[:SHOWN]} is not offered: choose {', '.join(known)}.", reason=key
                )
            chosen.append(value)
        return chosen[0], chosen[1]

    async def start(self) -> tuple[str, int]:
        """Build the walls, start the server inside, and give its address."""
        name, size_name = self._chosen(self.user_options)
        if (await self.standing()).compute is not None:
            size_name = READING_ROOM
        # What the hub tells of this server, to the warden too.
        self.user_options = self.orm_spawner.user_options = {"environment": name, "size": size_name}
        try:
            chosen = environment.find(name, self.settings.service.data)
        except ConfigError as error:
            raise SpawnException(str(error), reason="environment") from error
        if not chosen.ready:
            raise SpawnException(
                f"The environment {name} is not built yet: an operator builds it with ./run mutirao env build {name}",
                reason="environment",
                status_code=503,
            )
        # The rest of a runtime's environment, its command and its limits are the broker's to choose.
        env = {key: value for key, value in self.get_env().items() if value is not None and VARIABLE.fullmatch(key)}
        try:
            await self._tell_whom_we_know()
            self.running = await _broker().start(
                self.user.name, self.name, environment=name, size=size_name, language=_language(self), env=env
            )
        except SandboxError as error:
            raise SpawnException(
                f"Your runtime can't start: {error}", reason="sandbox", log_message=str(error), status_code=503
            ) from error
        await self._listening(self.running)
        self._watch_memory(self.running)
        return self.running.address, self.running.port

    async def _tell_whom_we_know(self) -> None:
        """Once in a hub's life: have what a dead hub started, and never wrote down, stopped."""
        # Before the first start, and one at a time: a list that arrives later would not know what was started since.
        async with _Told.turn:
            if _Told.done:
                return
            states = [spawner.state for spawner in self.user.db.query(orm.Spawner)]
            seats = [_seat(state["running"]) for state in states if state and "running" in state]
            for orphan in await _broker().keep(tuple(seat.id for seat in seats if seat)):
                self.log.warning("Runtime %s was started by a hub that died, and is stopped", orphan)
            _Told.done = True

    async def _listening(self, running: Seat) -> None:
        """Wait until the server listens: the hub polls with a random back-off, we need not.

        Raises SpawnException with the end of the server's log where it died instead.
        """
        asked = 0.0
        while True:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(running.address, running.port), 1)
            except (OSError, TimeoutError):
                status = None
                if (now := asyncio.get_running_loop().time()) - asked > ALIVE_POLL_S:
                    asked, status = now, await _broker().poll(running.id)
                if status is not None:
                    said = (await _broker().log(running.id)).strip().splitlines()[-5:]
                    await self.stop(now=True)
                    last_words = " / ".join(said) or "it said nothing"
                    message = f"Your runtime ended before it was ready (status {status}): {last_words}"
                    raise SpawnException(message, reason="died", status_code=500) from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    async def poll(self) -> int | None:
        """None while the runtime lives, else its exit status (0 when there is none)."""
        if self.running is None:
            return 0
        try:
            await self._tell_whom_we_know()
            status = await _broker().poll(self.running.id)
        except SandboxError as error:
            # Runtimes outlive the broker: that it does not answer, or can't, says nothing about this one.
            self.log.warning("%s: %s", self._log_name, error)
            return None
        if status is not None:
            # JupyterHub calls no stop for a server that ended by itself: its walls would stay.
            await self.stop(now=True)
        elif self._oom_watch is None or self._oom_watch.done():
            # Found again after the hub was restarted, or a watch that failed.
            self._watch_memory(self.running)
        return status

    async def stop(self, now: bool = False) -> None:
        """Stop the runtime and take its walls down; done when nothing of it is left."""
        if self._oom_watch is not None:
            self._oom_watch.cancel()
            self._oom_watch = None
        # Taken first: while this one ends, the next may already be starting.
        running, self.running = self.running, None
        if running is not None:
            await _broker().stop(running.id, grace_s=0 if now else 5)

    def _watch_memory(self, running: Seat) -> None:
        # A size that is no longer offered would raise here; its runtimes go on all the same.
        with contextlib.suppress(SpawnException):
            reading = self.user_options.get("size") == READING_ROOM
            size = self.settings.sizes[self._chosen(self.user_options)[1]]
            memory_mb = MEMORY_MB if reading else size.memory_mb
            self._oom_watch = asyncio.create_task(self._watch_oom(running, memory_mb))

    async def _watch_oom(self, running: Seat, memory_mb: int) -> None:
        """Tell the member in the notebook when the kernel killed something for want of memory."""
        announcer = Announcer(_place())
        seen: int | None = None
        while True:
            try:
                kills = await _broker().kills(running.id, *(() if seen is None else (seen, OOM_WAIT_S)))
            except BrokerAway:
                continue
            if seen is not None and kills > seen:
                self.log.warning("%s ran out of memory (%d MiB)", self._log_name, memory_mb)
                await announcer.out_of_memory(self.user.name, self.name, memory_mb)
            seen = kills

    def get_state(self) -> dict[str, Any]:
        """What a restarted hub needs to find the runtime again."""
        state: dict[str, Any] = super().get_state()
        if self.running is not None:
            state["running"] = asdict(self.running)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Find the runtime again after the hub was restarted."""
        super().load_state(state)
        if "running" in state:
            self.running = _seat(state["running"])
            if self.running is None:
                # Written by another version: such a runtime can't be spoken to, and must not keep the hub down.
                self.log.error("%s is forgotten: its state is no seat", self._log_name)

    def clear_state(self) -> None:
        """Forget the runtime."""
        super().clear_state()
        self.running = None

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What the waiting page says."""
        lang = _language(self)
        for percent, text in start_form.progress_steps(lang):
            yield {"progress": percent, "message": text}
            await asyncio.sleep(1)


def choices(settings: Settings) -> tuple[list[start_form.Environment], list[start_form.Size]]:
    """What the start page offers, in the order of the configuration."""
    environments = []
    for name, entry in settings.environments.items():
        try:
            ready = environment.find(name, settings.service.data).ready
        except ConfigError:
            ready = False
        environments.append(start_form.Environment(name, entry.title, entry.packages, ready))
    sizes = [start_form.Size(name, size.title, size.memory_mb, size.cpus) for name, size in settings.sizes.items()]
    return environments, sizes


def standings(place: Place) -> Standings:
    """Where this hub asks who is restricted."""
    return Standings(f"{place.web_url}/services/mutirao/", place.service_token)


def _language(spawner: Any) -> str:
    return language_of(getattr(spawner, "handler", None))


class _Told:
    """Whether this hub has told the broker which runtimes it knows."""

    done = False
    turn = asyncio.Lock()


def _seat(state: Any) -> Seat | None:
    """The seat in what the hub kept; what the first version kept holds one too."""
    try:
        kept = json.loads(state)["walls"] if isinstance(state, str) else state
        return Seat(str(kept["id"]), str(kept["address"]), int(kept["port"]))
    except (ValueError, TypeError, KeyError):
        return None


@cache
def _place() -> Place:
    return here()


@cache
def _broker() -> Client:
    return Client(Path(_place().broker_socket))
