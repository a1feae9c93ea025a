"""A structure-aware websocket fuzzer for kernel messages, and an oracle that knows what a kernel would run.

The oracle reads as jupyter_server and ipykernel do (jupyter_server/services/kernels/connection, jupyter_client's
session, ipykernel's dispatch), not as the gate does: leniently, the last of two equal keys wins.
"""

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jupyter_server.services.kernels.connection import base as jupyter_wire

from tests.gate.house import V1, request_of

TEXT, BINARY = 1, 2
EVALUATED = ("code", "expression", "condition", "hitCondition", "logMessage", "value")
WEIRD: list[Any] = [
    None, True, 0, -1, 1.5, 10**400, "", "x", "\x00", "\ud800", "\udfff\ud800", [], {}, [[]], {"a": {}}, ["shell"], "é" * 9,
    "\u202e", {"code": "1"}, [{"code": "1"}], float("nan"), float("inf"), "a" * 5000,
]  # fmt: skip
TYPES = ["execute_request", "input_reply", "debug_request", "comm_msg", "complete_request", "invented_request"]
CASES = [
    "Execute_request", "EXECUTE_REQUEST", "execute_request ", " execute_request", "execute-request", "execute_request\x00",
    "execute\u005frequest", "execute_reques\u0074", "\uff45xecute_request", "execute_requests", "apply_request",
    "create_subshell_request", "delete_subshell_request", "list_subshell_request", "usage_request", "shutdown_request",
]  # fmt: skip
CHANNELS = [
    "shell", "control", "stdin", "iopub", "Shell", "SHELL", "shell\x00", "", "hb", "control/shell", None, 0, ["shell"],
    {"shell": 1},
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """Raw bytes for the socket, already framed, and whether the connection can outlive them."""

    raw: bytes


class Fuzzer:
    """Endless mutated messages from a seed."""

    def __init__(self, seed: int, wire: str) -> None:
        self.dice = random.Random(seed)
        self.wire = wire
        self.count = 0

    def code(self) -> str:
        """Code that no other message carries; one in eight is to be refused."""
        self.count += 1
        refused = "  # please stop" if self.dice.random() < 0.125 else ""
        odd = self.dice.choice(["", "", "\x00", "\ud83d", "é", "\n%%bash\nls", "\u2028", '"}'])
        return f"c_{self.wire[:2]}_{self.count}{odd}{refused}"

    def message(self) -> dict[str, Any]:
        """A message as a client would write it."""
        kind = self.dice.choices(TYPES, [6, 2, 2, 1, 1, 1])[0]
        if kind == "execute_request":
            content: dict[str, Any] = {"code": self.code(), "silent": self.dice.random() < 0.2}
            if self.dice.random() < 0.4:
                content["user_expressions"] = {"a": self.code(), "b": self.code()}
        elif kind == "input_reply":
            content = {"value": self.code(), "status": "ok"}
        elif kind == "debug_request":
            where = self.dice.choice(EVALUATED)
            deep: Any = {where: self.code()}
            for _ in range(self.dice.randrange(4)):
                deep = self.dice.choice([lambda v: {"x": v}, lambda v: [v], lambda v: [1, v]])(deep)
            content = {"command": "evaluate", "seq": 1, "arguments": deep}
        else:
            content = {"comm_id": "c", "data": {"code": "never run"}, "code": "never run"}
        channel = {"input_reply": "stdin", "debug_request": "control"}.get(kind, self.dice.choice(["shell", "control"]))
        return request_of(kind, content, channel)

    def mutated(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message with up to three things wrong or odd."""
        for _ in range(self.dice.choice([0, 0, 0, 1, 1, 2])):
            self.dice.choice([self._retype, self._recase, self._channel, self._drop, self._add, self._nest])(message)
        return message

    def _places(self, part: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(part, dict):
            for key in list(part):
                yield part, key
                yield from self._places(part[key])
        elif isinstance(part, list):
            for number in range(len(part)):
                yield part, number
                yield from self._places(part[number])

    def _retype(self, message: dict[str, Any]) -> None:
        where, key = self.dice.choice(list(self._places(message)) or [(message, "content")])
        where[key] = self.dice.choice(WEIRD)

    def _recase(self, message: dict[str, Any]) -> None:
        header = message.get("header")
        if isinstance(header, dict):
            header["msg_type"] = self.dice.choice(CASES)

    def _channel(self, message: dict[str, Any]) -> None:
        message["channel"] = self.dice.choice(CHANNELS)

    def _drop(self, message: dict[str, Any]) -> None:
        where, key = self.dice.choice(list(self._places(message)) or [({0: 0}, 0)])
        if isinstance(where, dict):
            where.pop(key, None)

    def _add(self, message: dict[str, Any]) -> None:
        parts = [part for part in message.values() if isinstance(part, dict)]
        part = self.dice.choice([message, *parts])
        key = self.dice.choice(
            ["code", "msg_type", "value", "subshell_id", "version", "buffers", "user_variables", "\ud800"]
        )
        part[key] = self.dice.choice([*WEIRD, self.code(), [self.code()], "execute_request"])

    def _nest(self, message: dict[str, Any]) -> None:
        deep: Any = self.code()
        for _ in range(self.dice.choice([3, 60, 900])):
            deep = [deep]
        message[self.dice.choice(["content", "metadata", "parent_header"])] = {"arguments": deep, "code": deep}

    def json(self, value: Any) -> str:
        """JSON, at times with a key twice, odd spaces, escapes or something behind it."""
        text = json.dumps(value, ensure_ascii=self.dice.random() < 0.7)
        luck = self.dice.random()
        if luck < 0.08 and "{" in text:
            key = self.dice.choice(["code", "msg_type", "header", "content", "channel", "co\\u0064e", "msg\\u005ftype"])
            other = json.dumps(self.dice.choice(["execute_request", "comm_msg", self.code(), {"code": self.code()}]))
            at = self.dice.choice([n for n, char in enumerate(text) if char in "{,"])
            text = text[: at + 1] + f'"{key}": {other},' + text[at + 1 :]
        elif luck < 0.11:
            text = self.dice.choice(["\ufeff", " ", "\n", "\x00", "//x\n"]) + text
        elif luck < 0.14:
            text += self.dice.choice([" ", "\n", "\x00", "{}", "x", "]"])
        elif luck < 0.17:
            text = text.replace("code", "co\\u0064e")
        elif luck < 0.19:
            text = text.replace("execute_request", "execute\\u005frequest")
        return text

    def payload(self, message: dict[str, Any]) -> tuple[int, bytes]:
        """Opcode and bytes of the message in one of the formats, mostly the right one."""
        wire = self.wire if self.dice.random() < 0.95 else self.dice.choice(["", V1])
        buffers = [self.dice.randbytes(self.dice.randrange(40)) for _ in range(self.dice.choice([0, 0, 0, 1, 3]))]
        if wire == V1:
            data, opcode = self._v1(message, buffers), BINARY
        else:
            body = self.json(message).encode("utf-8", "surrogatepass")
            data, opcode = (self._legacy(body, buffers), BINARY) if buffers else (body, TEXT)
        if self.dice.random() < 0.04:
            opcode = TEXT if opcode == BINARY else BINARY
        if self.dice.random() < 0.06:
            data = self._bent(data)
        return opcode, data

    def _v1(self, message: dict[str, Any], buffers: list[bytes]) -> bytes:
        names = ("header", "parent_header", "metadata", "content")
        parts = [self.json(message.get(name, {})).encode("utf-8", "surrogatepass") for name in names]
        channel = message.get("channel", "shell")
        head = channel.encode("utf-8", "surrogatepass") if isinstance(channel, str) else json.dumps(channel).encode()
        parts = [head, *parts, *buffers]
        if self.dice.random() < 0.05:
            self.dice.shuffle(parts)
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        return self._framed("<Q", offsets, parts, len(offsets))

    def _legacy(self, body: bytes, buffers: list[bytes]) -> bytes:
        parts = [body, *buffers]
        offsets = [4 * (len(parts) + 1)]
        for part in parts[:-1]:
            offsets.append(offsets[-1] + len(part))
        return self._framed("!I", offsets, parts, len(offsets))

    def _framed(self, kind: str, offsets: list[int], parts: list[bytes], count: int) -> bytes:
        luck, most = self.dice.random(), (1 << (64 if "Q" in kind else 32)) - 1
        if luck < 0.1:
            at = self.dice.randrange(len(offsets))
            near = offsets[at] + self.dice.choice([-8, -1, 1, 8, 40])
            offsets[at] = self.dice.choice([0, max(0, near), most, self.dice.randrange(200)])
        elif luck < 0.13:
            count = self.dice.choice([0, 1, 5, max(0, count - 1), count + 1, 10**6, most])
        elif luck < 0.15:
            self.dice.shuffle(offsets)
        elif luck < 0.18:
            # A second set of parts behind the first: which one counts depends on who reads the offsets.
            parts = [*parts, *parts]
        packed = b"".join(struct.pack(kind, number & most) for number in (count, *offsets))
        return packed + b"".join(parts)

    def _bent(self, data: bytes) -> bytes:
        bent = bytearray(data)
        match self.dice.randrange(4):
            case 0 if bent:
                bent[self.dice.randrange(len(bent))] ^= 1 << self.dice.randrange(8)
            case 1:
                del bent[self.dice.randrange(len(bent) + 1) :]
            case 2:
                at = self.dice.randrange(len(bent) + 1)
                bent[at:at] = self.dice.randbytes(self.dice.randrange(9))
            case _:
                bent += self.dice.randbytes(5)
        return bytes(bent)

    def frames(self) -> bytes:
        """One message as it goes onto the socket: in one frame or several, with control frames, or broken."""
        opcode, data = self.payload(self.mutated(self.message()))
        luck = self.dice.random()
        if luck < 0.8:
            return self._frame(opcode, data)
        if luck < 0.93:
            cut = sorted(self.dice.randrange(len(data) + 1) for _ in range(self.dice.choice([1, 2, 5])))
            pieces = [data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)]
            raw = b""
            for number, piece in enumerate(pieces):
                raw += self._frame(0 if number else opcode, piece, fin=number == len(pieces) - 1)
                if self.dice.random() < 0.3:
                    raw += self._frame(self.dice.choice([9, 10]), self.dice.randbytes(self.dice.randrange(126)))
            return raw
        broken: list[Callable[[], bytes]] = [
            lambda: self._frame(opcode, data, rsv=self.dice.choice([0x40, 0x20, 0x10])),
            lambda: self._frame(opcode, data, mask=False),
            lambda: self._frame(0, data),
            lambda: self._frame(opcode, data, fin=False) + self._frame(opcode, data),
            lambda: self._frame(self.dice.choice([3, 5, 7, 11, 15]), data),
            lambda: self._frame(9, self.dice.randbytes(126)),
            lambda: self._frame(8, self.dice.choice([b"", b"x", b"\x03\xed", b"\x03\xe8" + b"\xff", b"\x13\x88bye"])),
            lambda: bytes([0x80 | opcode, 0xFF]) + (1 << 63).to_bytes(8, "big") + b"\0\0\0\0",
            lambda: bytes([0x80 | opcode, 0xFF]) + (3_000_000).to_bytes(8, "big") + b"\0\0\0\0" + data,
        ]
        return self.dice.choice(broken)()

    def _frame(self, opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
        return frame(opcode, data, key=self.dice.randbytes(4) if mask else None, fin=fin, rsv=rsv)


def frame(opcode: int, data: bytes, *, key: bytes | None = b"\0\0\0\0", fin: bool = True, rsv: int = 0) -> bytes:
    """A websocket frame (RFC 6455, 5.2)."""
    first, bit, length = (0x80 if fin else 0) | rsv | opcode, 0x80 if key is not None else 0, len(data)
    if length < 126:
        head = bytes([first, bit | length])
    elif length < 1 << 16:
        head = bytes([first, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + length.to_bytes(8, "big")
    if key is None:
        return head + data
    return head + key + bytes(byte ^ key[number % 4] for number, byte in enumerate(data))


def would_run(data: bytes | str, wire: str) -> list[str]:
    """Every piece of code that a kernel behind jupyter_server would run or evaluate for this frame."""
    try:
        channel, header, content = _as_the_server_reads(data, wire)
    except Exception:
        return []  # the server's own handler fails on it, and nothing reaches a kernel
    if channel not in ("shell", "control", "stdin") or not isinstance(header, dict) or not isinstance(content, dict):
        return []
    found: list[Any] = []
    match header.get("msg_type"):
        case "execute_request":
            found = [content.get("code")]
            expressions = content.get("user_expressions")
            found += list(expressions.values()) if isinstance(expressions, dict) else []
        case "input_reply":
            found = [content.get("value")]
        case "debug_request":
            found = list(_evaluated(content.get("arguments")))
    return [code for code in found if isinstance(code, str) and code.strip()]


def _as_the_server_reads(data: bytes | str, wire: str) -> tuple[str, Any, Any]:
    if wire == V1:
        assert isinstance(data, bytes), "text has no offsets"
        channel, parts = jupyter_wire.deserialize_msg_from_ws_v1(data)
        return channel, json.loads(parts[0].decode()), json.loads(parts[3].decode())
    binary = isinstance(data, bytes)
    message = jupyter_wire.deserialize_binary_message(data) if binary else json.loads(data)
    channel = message.get("channel")
    return "shell" if channel is None else channel, message["header"], message.get("content")


def _evaluated(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in EVALUATED and isinstance(inner, str):
                yield inner
            yield from _evaluated(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _evaluated(inner)
