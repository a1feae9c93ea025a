"""The two formats of kernel messages on a websocket.

DEFAULT: JSON text; with buffers a binary frame: count and offsets as big-endian uint32, then JSON, then the buffers.
V1 (subprotocol v1.kernel.websocket.jupyter.org): binary; count and offsets as little-endian uint64, then the
channel's name, header, parent header, metadata, content (JSON each) and the buffers.
Source: jupyter_server/services/kernels/connection/base.py and Jupyter's messaging documentation.
"""

import json
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any

from mutirao.errors import WireError

V1_SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"
CHANNELS = ("shell", "control", "stdin", "iopub")
MAJOR_VERSIONS = ("4", "5")
_MAX_PARTS = 100_000
_MSG_TYPE = re.compile(rb'"msg_type"\s*:\s*"([a-z_]{1,64})"')
_GLANCE_BYTES = 1024


class Wire(Enum):
    """The format that a connection speaks, by the subprotocol that the server chose."""

    DEFAULT = ""
    V1 = V1_SUBPROTOCOL

    @classmethod
    def chosen(cls, subprotocol: str | None) -> "Wire":
        """The format of a negotiated subprotocol; WireError for one that can't be read here."""
        try:
            return cls(subprotocol or "")
        except ValueError:
            raise WireError(
                f"The server chose the websocket subprotocol {subprotocol!r}: connect with {V1_SUBPROTOCOL!r} or none."
            ) from None


@dataclass(frozen=True, slots=True)
class Frame:
    """One websocket message; `text` says that it came, or goes, as a text frame."""

    data: bytes
    text: bool

    @property
    def opcode(self) -> int:
        """The websocket's: 1 for text, 2 for binary."""
        return 1 if self.text else 2


@dataclass(frozen=True, slots=True)
class Message:
    """A kernel message; the four parts are JSON objects, buffers are bytes-like."""

    channel: str
    header: dict[str, Any]
    parent_header: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    buffers: Sequence[bytes | memoryview] = ()

    @property
    def msg_type(self) -> str:
        """The type in the header, by which a kernel dispatches."""
        return str(self.header["msg_type"])


def parse(frame: Frame, wire: Wire) -> Message:
    """The message in a frame; WireError says what is wrong with it."""
    if wire is Wire.V1:
        return _parse_v1(frame)
    if frame.text:
        return _from_object(_json(frame.data, "the message"), ())
    parts = _legacy_parts(memoryview(frame.data))
    return _from_object(_json(bytes(parts[0]), "the message"), parts[1:])


def build(message: Message, wire: Wire) -> Frame:
    """The frame that carries a message."""
    if wire is Wire.V1:
        channel = message.channel.encode()
        objects = (message.header, message.parent_header, message.metadata, message.content)
        parts: list[bytes | memoryview] = [channel, *(json.dumps(part).encode() for part in objects), *message.buffers]
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        head = struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets)
        return Frame(b"".join([head, *parts]), text=False)
    body = json.dumps(
        {
            "channel": message.channel,
            "header": message.header,
            "msg_id": message.header.get("msg_id", ""),
            "msg_type": message.header["msg_type"],
            "parent_header": message.parent_header,
            "metadata": message.metadata,
            "content": message.content,
            "buffers": [],
        }
    ).encode()
    if not message.buffers:
        return Frame(body, text=True)
    parts = [body, *message.buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return Frame(b"".join([struct.pack(f"!{len(parts) + 1}I", len(parts), *offsets), *parts]), text=False)


def glance(frame: Frame, wire: Wire) -> str:
    """The type of a message from the server, read from its first bytes alone; "" where they don't tell it.

    Cheap enough for every message, and good enough for what the gate only remembers (a number, a language);
    never for what it decides.
    """
    head = frame.data[:_GLANCE_BYTES]
    if wire is Wire.V1 and len(head) >= 32:
        start, stop = struct.unpack_from("<QQ", head, 16)
        head = frame.data[start : min(stop, start + _GLANCE_BYTES)]
    found = _MSG_TYPE.search(head)
    return found[1].decode() if found else ""


def json_bytes(frame: Frame, wire: Wire) -> int:
    """How many bytes of the frame must be read as JSON; all of them where its offsets are nonsense."""
    size = len(frame.data)
    if wire is Wire.V1 and size >= 64:
        (end,) = struct.unpack_from("<Q", frame.data, 48)  # where the content ends
    elif wire is Wire.DEFAULT and not frame.text and size >= 12:
        count, _, end = struct.unpack_from("!III", frame.data)
        end = end if count > 1 else size
    else:
        end = size
    return min(int(end), size)


def _parse_v1(frame: Frame) -> Message:
    if frame.text:
        raise WireError(f"A text frame came on a {V1_SUBPROTOCOL} connection: its messages are binary.")
    data = memoryview(frame.data)
    if len(data) < 8:
        raise WireError(f"The frame has {len(data)} bytes: it must begin with 8 that count its offsets.")
    (count,) = struct.unpack_from("<Q", data)
    if not 6 <= count <= _MAX_PARTS:
        raise WireError(f"The frame counts {count} offsets: channel, four parts and an end make 6 at least.")
    if len(data) < 8 * (count + 1):
        raise WireError(f"The frame counts {count} offsets but has only {len(data)} bytes.")
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    _check_offsets(offsets, first=8 * (count + 1), size=len(data))
    if offsets[-1] != len(data):
        raise WireError(f"The last offset is {offsets[-1]} but the frame ends at {len(data)}.")
    parts = [data[start:stop] for start, stop in pairwise(offsets)]
    channel = _utf8(bytes(parts[0]), "the channel's name")
    names = ("header", "parent_header", "metadata", "content")
    objects = {name: _json(bytes(part), name) for name, part in zip(names, parts[1:], strict=False)}
    return _checked(channel, objects, tuple(parts[5:]))


def _legacy_parts(data: memoryview) -> tuple[memoryview, ...]:
    if len(data) < 4:
        raise WireError(f"The binary frame has {len(data)} bytes: it must begin with 4 that count its parts.")
    (count,) = struct.unpack_from("!I", data)
    if not 1 <= count <= _MAX_PARTS:
        raise WireError(f"The binary frame counts {count} parts: at least 1 (the JSON) must be there.")
    if len(data) < 4 * (count + 1):
        raise WireError(f"The binary frame counts {count} parts but has only {len(data)} bytes.")
    offsets = struct.unpack_from(f"!{count}I", data, 4)
    _check_offsets(offsets, first=4 * (count + 1), size=len(data))
    return tuple(data[start:stop] for start, stop in zip(offsets, (*offsets[1:], len(data)), strict=True))


def _check_offsets(offsets: tuple[int, ...], first: int, size: int) -> None:
    if offsets[0] != first:
        raise WireError(f"The first offset is {offsets[0]}: the parts begin at {first}.")
    for number, (start, stop) in enumerate(pairwise(offsets), start=1):
        if stop < start:
            raise WireError(f"Offset {number} is {stop}, below the one before it ({start}).")
    if offsets[-1] > size:
        raise WireError(f"The last offset is {offsets[-1]}, beyond the frame's {size} bytes.")


def _from_object(whole: dict[str, Any], buffers: tuple[memoryview, ...]) -> Message:
    channel = whole.get("channel")
    return _checked("shell" if channel is None else channel, whole, buffers)


def _checked(channel: Any, objects: dict[str, Any], buffers: tuple[memoryview, ...]) -> Message:
    if not isinstance(channel, str) or channel not in CHANNELS:
        raise WireError(f"The channel is {str(channel)[:60]!r}: it must be one of {', '.join(CHANNELS)}.")
    parts: dict[str, dict[str, Any]] = {}
    for name in ("header", "parent_header", "metadata", "content"):
        value = objects.get(name)
        if value is None and name != "header":
            value = {}
        if not isinstance(value, dict):
            raise WireError(f"The {name} is {type(value).__name__}: it must be a JSON object.")
        parts[name] = value
    msg_type = parts["header"].get("msg_type")
    if not isinstance(msg_type, str) or not msg_type:
        raise WireError(f"The header's msg_type is {str(msg_type)[:60]!r}: it must be a name.")
    version = parts["header"].get("version")
    if version is not None and (not isinstance(version, str) or version.split(".")[0] not in MAJOR_VERSIONS):
        raise WireError(f"The header's protocol version is {str(version)[:60]!r}: versions 4 and 5 are read here.")
    return Message(channel=channel, buffers=buffers, **parts)


def load(data: bytes, what: str) -> Any:
    """JSON that every parser reads alike; WireError for broken UTF-8 or JSON, or a key that stands twice."""

    def no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise WireError(f"The key {twice[:60]!r} stands twice in {what}: which one counts is unclear.")
        return found

    try:
        return json.loads(_utf8(data, what), object_pairs_hook=no_twice)
    except RecursionError:
        raise WireError(f"The JSON of {what} is nested too deeply.") from None
    except ValueError as error:
        raise WireError(f"The JSON of {what} is broken: {str(error)[:200]}.") from None


def _json(data: bytes, what: str) -> dict[str, Any]:
    value = load(data, what)
    if not isinstance(value, dict):
        raise WireError(f"The JSON of {what} is {type(value).__name__}: it must be an object.")
    return value


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"Byte {error.start} of {what} is not UTF-8.") from None
