"""Tells a member something in the notebook, through the gate."""

import logging

import aiohttp

from mutirao.gate.announcement import SECRET_HEADER
from mutirao.gate.shard import worker_of
from mutirao.hub.place import Place

log = logging.getLogger(__name__)


class Announcer:
    """Asks the gate to show a message in the cells that are running on a server."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def out_of_memory(self, owner: str, server: str, memory_mb: int) -> None:
        """Say that the size's memory was not enough; a gate that is away is logged and not waited for."""
        message = {"kind": "out-of-memory", "owner": owner, "server": server, "memory_mb": memory_mb}
        worker = worker_of(self._place.gate_urls, owner, server)
        headers = {SECRET_HEADER: self._place.gate_secret}
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{worker}/announce", json=message, headers=headers) as answer,
            ):
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("out of memory on %s/%s could not be told: %s", owner, server, error)
