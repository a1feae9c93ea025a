"""Whose kernel a connection leads to, and who sits before it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 30.0


class ActorOnce:
    """Who sits before a kernel: asked once, and again after a while as long as nobody knows."""

    def __init__(self, ask: Callable[[], Awaitable[str | None]]) -> None:
        self._ask = ask
        self._asking: asyncio.Future[str | None] | None = None
        self._asked_at = 0.0

    async def name(self) -> str | None:
        """The actor's name, None where the hub does not know it or does not answer."""
        now = asyncio.get_running_loop().time()
        known = self._asking
        if known is None or (known.done() and known.result() is None and now - self._asked_at > _ASK_AGAIN_S):
            self._asked_at = now
            known = self._asking = asyncio.ensure_future(self._resolve())
        return await asyncio.shield(known)

    async def _resolve(self) -> str | None:
        try:
            return await self._ask()
        except Exception:
            log.exception("Who runs the cells of a connection could not be found out.")
            return None


@dataclass(frozen=True, slots=True)
class Seat:
    """Whose kernel this is, and who sits before it."""

    owner: str
    server: str
    kernel: str
    actor: ActorOnce
    accept_language: str
