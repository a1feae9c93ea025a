"""Sends a large websocket message in pieces, each when the one before it has left.

aiohttp writes a message whole: the masked copy, the joined copy and the transport's buffer come to four times its
size. Fragments (RFC 6455, 5.4) cost one piece. Whoever sends data on the same websocket must wait for the last piece.
"""

import os
import struct
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp._websocket.helpers import websocket_mask

PIECE_BYTES = 256 << 10
_FIN = 0x80
_MASKED = 0x80


async def send_pieces(writer: Any, data: bytes, opcode: int, moved: Callable[[int], None]) -> None:
    """Send `data` as one message; `moved` hears of each piece that the transport took.

    `writer` is aiohttp's WebSocketWriter. Raises ClientConnectionResetError where the connection closes.
    """
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        piece = view[start : start + PIECE_BYTES]
        last = start + PIECE_BYTES >= len(view)
        if writer._closing or writer.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        head = _header((_FIN if last else 0) | (0 if start else opcode), len(piece), masked=writer.use_mask)
        if writer.use_mask:
            key, body = os.urandom(4), bytearray(piece)
            websocket_mask(key, body)
            writer.transport.write(head + key + body)
        else:
            writer.transport.write(head)
            writer.transport.write(piece)
        if writer.protocol._paused:
            await writer.protocol._drain_helper()
        moved(len(piece))


def _header(first: int, length: int, *, masked: bool) -> bytes:
    mask = _MASKED if masked else 0
    if length < 126:
        return struct.pack("!BB", first, mask | length)
    if length < 1 << 16:
        return struct.pack("!BBH", first, mask | 126, length)
    return struct.pack("!BBQ", first, mask | 127, length)
