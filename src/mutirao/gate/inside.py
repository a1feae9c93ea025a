"""Every private attribute of aiohttp that the gate uses, in one place; tests/gate/test_inside.py names one that went.

aiohttp has public names for none of them: a message is not to be collected before there is room for it (`_parser`),
reading is paused in a way that its own queue doesn't undo (`…_for_buffer`), fragments are sent (`_drain_helper`), and a
connection is closed for us but not yet for the bytes that still come (`_set_closed`).
"""

from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import ClientWebSocketResponse, web
from aiohttp.base_protocol import BaseProtocol

from mutirao.gate.meter import Meter
from mutirao.gate.pieces import pieces

USED: tuple[tuple[type, str], ...] = (
    (BaseProtocol, "_pause_reading_for_buffer"),
    (BaseProtocol, "_resume_reading_for_buffer"),
    (BaseProtocol, "_drain_helper"),
    (web.WebSocketResponse, "_parser"),
    (web.WebSocketResponse, "_writer"),
    (web.WebSocketResponse, "_set_closed"),
    (ClientWebSocketResponse, "_parser"),
    (ClientWebSocketResponse, "_writer"),
    (ClientWebSocketResponse, "_response"),
)


class Inside:
    """Mix in before one of aiohttp's websockets."""

    meter: Meter
    _writer: Any
    _response: Any
    _set_closed: Any
    closed: Any

    @property
    def _parser(self) -> Meter:
        return self.meter

    @_parser.setter
    def _parser(self, parser: Any) -> None:
        # aiohttp sets its parser here and hands what it reads back to the connection: so every byte is counted.
        if parser is not None:
            self.meter = Meter(parser)

    def hold_reading(self) -> None:
        """Read no more until told to."""
        if self._writer is not None:
            self._writer.protocol._pause_reading_for_buffer()

    def go_on_reading(self) -> None:
        """Read again."""
        if self._writer is not None:
            self._writer.protocol._resume_reading_for_buffer()

    async def send_large(self, data: bytes, opcode: int, moved: Callable[[int], None]) -> None:
        """Send one message in pieces, each when the one before it has left; `moved` hears of each.

        Raises ClientConnectionResetError where the connection closes.
        """
        writer = self._writer
        for size, buffers in pieces(data, opcode, masked=writer.use_mask):
            if self.closed or writer.transport.is_closing():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            for buffer in buffers:
                writer.transport.write(buffer)
            if writer.protocol.writing_paused:
                await writer.protocol._drain_helper()
            moved(size)

    async def close_ours(self, code: int, reason: str) -> None:
        """Send a close frame, and leave the connection open for what the other side still sends."""
        self._set_closed()
        await self._writer.close(code, reason)

    @property
    def handshake(self) -> aiohttp.ClientResponse:
        """What a server accepted the websocket with."""
        response: aiohttp.ClientResponse = self._response
        return response

    @property
    def leaving(self) -> bool:
        """True where the connection is closed but holds bytes that the other side never read."""
        if self._writer is None:
            return False
        transport = self._writer.transport
        return bool(transport.is_closing() and transport.get_write_buffer_size() > 0)

    def abort(self) -> None:
        """Drop the connection with whatever it still holds."""
        if self._writer is not None:
            self._writer.transport.abort()
