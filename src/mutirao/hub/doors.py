"""A listening socket at which one address can hold so many connections and no more."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any


class Doors:
    """Makes protocols by `inside`; the connection past `most` of one address is dropped before a byte is read."""

    def __init__(self, inside: Callable[[], asyncio.Protocol], most: int) -> None:
        self._inside = inside
        self.most = most
        self.open: Counter[str] = Counter()

    def __call__(self) -> "Door":
        """A protocol for one connection."""
        return Door(self, self._inside)


class Door(asyncio.Protocol):
    """One connection: counted, and otherwise the protocol inside."""

    def __init__(self, doors: Doors, inside: Callable[[], asyncio.Protocol]) -> None:
        self._doors = doors
        self._make = inside
        self._inside: asyncio.Protocol | None = None
        self._address = ""

    def connection_made(self, transport: Any) -> None:
        """Count it, or drop it."""
        self._address = transport.get_extra_info("peername")[0]
        self._doors.open[self._address] += 1
        if self._doors.open[self._address] > self._doors.most:
            transport.abort()
            return
        self._inside = self._make()
        self._inside.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Uncount it."""
        self._doors.open[self._address] -= 1
        if not self._doors.open[self._address]:
            del self._doors.open[self._address]
        if self._inside:
            self._inside.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Hand it in."""
        if self._inside:
            self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand it in."""
        return self._inside.eof_received() if self._inside else None

    def pause_writing(self) -> None:
        """Hand it in."""
        if self._inside:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        """Hand it in."""
        if self._inside:
            self._inside.resume_writing()
