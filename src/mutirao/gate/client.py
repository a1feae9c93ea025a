"""The client's side of a relay."""

from contextlib import suppress

from aiohttp import WSCloseCode, web

from mutirao.gate.inside import Inside

CLOSE_S = 3.0
# What aiohttp closes with by itself when a client's frame can't be read.
_UNREADABLE = (WSCloseCode.MESSAGE_TOO_BIG, WSCloseCode.PROTOCOL_ERROR, WSCloseCode.INVALID_TEXT)


class ClientSocket(Inside, web.WebSocketResponse[bool]):  # type: ignore[misc]
    """The client's websocket; a message above the limit is refused with a reason, not only a code."""

    def __init__(self, protocols: tuple[str, ...], max_message_bytes: int) -> None:
        super().__init__(
            protocols=protocols,
            autoping=False,
            compress=False,
            max_msg_size=max_message_bytes,
            decode_text=False,
            timeout=CLOSE_S,
        )
        self.lingers = False
        self.too_big = f"A message is larger than {max_message_bytes} bytes: upload data as a file instead."

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close the websocket; after a frame that can't be read, what the client still sends is discarded.

        Closing the connection at once would answer those bytes with a reset, which overtakes the close frame.
        """
        if code not in _UNREADABLE or message or not self.prepared or self.closed:
            return await super().close(code=code, message=message, drain=drain)
        reason = self.too_big if code == WSCloseCode.MESSAGE_TOO_BIG else "A frame breaks the websocket protocol."
        self.lingers = True
        with suppress(ConnectionError):
            await self.close_ours(code, reason)
        return True
