"""Stands before aiohttp's websocket parser and knows from the frames' headers how large a message will be.

aiohttp keeps a message in parts until it is whole: 100 connections that each send 99 MB and stop would hold 10 GB
before anybody saw a byte of it. So reading is paused at the header of a large message until there is room. The frame
format is RFC 6455, 5.2.
"""

from typing import Any

from mutirao.gate.hold import LARGE_BYTES, Cargo

_FIRST_CONTROL_OPCODE = 8


class Meter:
    """aiohttp's parser with a count; `join` says where room is asked for."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._cargo: Cargo | None = None
        self._max_message_bytes = 0
        self._wanted = 0
        self._head = bytearray()
        self._left = 0
        self._message_bytes = 0

    def join(self, cargo: Cargo, max_message_bytes: int) -> None:
        """Ask here from now on, for what has begun to arrive too."""
        self._cargo = cargo
        self._max_message_bytes = max_message_bytes
        if self._wanted:
            cargo.begins(min(self._wanted, max_message_bytes))
            self._wanted = 0

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Count the bytes, then hand them on."""
        self._count(data)
        passed: tuple[bool, bytes] = self._parser.feed_data(data)
        return passed

    def feed_eof(self) -> None:
        """Hand the end on."""
        self._parser.feed_eof()

    def _count(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                if self._cargo is not None:
                    self._cargo.moved(step)
                continue
            missing = _header_bytes(self._head) - len(self._head)
            self._head += data[at : at + missing]
            at += min(missing, size - at)
            if len(self._head) == _header_bytes(self._head):
                self._frame_begins()
                self._head.clear()

    def _frame_begins(self) -> None:
        opcode, whole = self._head[0] & 0x0F, bool(self._head[0] & 0x80)
        short = self._head[1] & 0x7F
        wide = {126: 2, 127: 8}.get(short, 0)
        length = int.from_bytes(self._head[2 : 2 + wide], "big") if wide else short
        self._left = length
        if opcode >= _FIRST_CONTROL_OPCODE:
            return
        before = self._message_bytes if opcode == 0 else 0
        self._message_bytes = before + length
        if before <= LARGE_BYTES < self._message_bytes:
            # How much will follow a fragment nobody can say: the most that there may be.
            self._begins(length if whole and opcode else max(self._max_message_bytes, self._message_bytes))

    def _begins(self, size: int) -> None:
        if self._cargo is None:
            self._wanted = max(size, self._wanted)
        else:
            self._cargo.begins(min(size, self._max_message_bytes))


def _header_bytes(head: bytearray) -> int:
    """How long the header is, as far as it can be known from its beginning."""
    if len(head) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)
