"""Why a relay ends, as a close frame says it."""

from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType

_REASON_BYTES = 123
# Codes that a close frame may not carry (RFC 6455, 7.4.1), and what is said instead.
_UNSENDABLE = {1004: 1002, 1005: 1000, 1006: 1011, 1015: 1011, 0: 1000}


@dataclass(frozen=True, slots=True)
class End:
    """The close code and reason for both sides."""

    code: int
    reason: str = ""

    @property
    def sendable(self) -> "End":
        """The same with a code and a reason that fit into a close frame."""
        reason = self.reason.encode("utf-8", "replace")[:_REASON_BYTES].decode("utf-8", "ignore")
        return End(_UNSENDABLE.get(self.code, self.code), reason)

    @classmethod
    def of_client(cls, received: Any) -> "End":
        """What the client's last frame says."""
        if received.type is WSMsgType.CLOSE:
            return cls(int(received.data or 1000), str(received.extra or ""))
        if isinstance(received.data, aiohttp.WebSocketError):
            return cls(received.data.code, str(received.data))
        return CLIENT_GONE

    @classmethod
    def of_server(cls, received: Any) -> "End":
        """What the server's last frame says."""
        if received.type is WSMsgType.CLOSE:
            return cls(int(received.data or 1000), str(received.extra or ""))
        if isinstance(received.data, aiohttp.WebSocketError):
            if received.data.code == WSCloseCode.MESSAGE_TOO_BIG:
                return cls(WSCloseCode.MESSAGE_TOO_BIG, "The kernel sent a message that is too large to show.")
            return cls(WSCloseCode.INTERNAL_ERROR, "The notebook server broke the websocket protocol.")
        return cls(WSCloseCode.INTERNAL_ERROR, "The notebook server went away. Restart it from the hub's home page.")


CLIENT_GONE = End(WSCloseCode.GOING_AWAY, "The client went away.")
