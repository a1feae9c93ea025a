"""Cuts a large websocket message into fragments (RFC 6455, 5.4).

aiohttp writes a message whole: the masked copy, the joined copy and the transport's buffer come to four times its
size. Fragments cost one piece. Whoever sends data on the same websocket must wait for the last piece.
"""

import os
import struct
from collections.abc import Iterator

PIECE_BYTES = 256 << 10
_FIN = 0x80
_MASKED = 0x80


def pieces(data: bytes, opcode: int, *, masked: bool) -> Iterator[tuple[int, list[bytes | memoryview]]]:
    """The fragments of one message: how many of its bytes each carries, and what to write."""
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        piece = view[start : start + PIECE_BYTES]
        first = (_FIN if start + PIECE_BYTES >= len(view) else 0) | (0 if start else opcode)
        head = _header(first, len(piece), masked=masked)
        if masked:
            key = os.urandom(4)
            yield len(piece), [head + key, mask(piece, key)]
        else:
            yield len(piece), [head, piece]


def mask(data: bytes | memoryview, key: bytes) -> bytes:
    """`data` masked by a key of four bytes (RFC 6455, 5.3), as one large number: a loop would be too slow."""
    size = len(data)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


def _header(first: int, length: int, *, masked: bool) -> bytes:
    bit = _MASKED if masked else 0
    if length < 126:
        return struct.pack("!BB", first, bit | length)
    if length < 1 << 16:
        return struct.pack("!BBH", first, bit | 126, length)
    return struct.pack("!BBQ", first, bit | 127, length)
