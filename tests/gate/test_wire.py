"""Frames of both formats, checked against jupyter_server's own code, and frames that no honest client writes."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_server.services.kernels.connection import base as jupyter_wire

from mutirao.errors import WireError
from mutirao.gate.wire import CHANNELS, Frame, Message, Wire, build, glance, parse

words = st.text(max_size=20)
values = st.recursive(st.none() | st.booleans() | st.integers() | words, lambda inner: st.lists(inner, max_size=3))
objects = st.dictionaries(words, values, max_size=4)
messages = st.builds(
    Message,
    channel=st.sampled_from(CHANNELS),
    header=objects.map(lambda found: {**found, "msg_id": "1", "msg_type": "comm_msg", "version": "5.3"}),
    parent_header=objects,
    metadata=objects,
    content=objects,
    buffers=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
)
HEADER = {"msg_id": "1", "msg_type": "execute_request", "version": "5.3"}


def v1(*parts: bytes, channel: bytes = b"shell") -> bytes:
    return jupyter_wire.serialize_msg_to_ws_v1(list(parts), channel.decode())


def offsets_v1(*numbers: int, rest: bytes = b"") -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers) + rest


def plain(message: Message) -> Message:
    buffers = tuple(bytes(buffer) for buffer in message.buffers)
    return Message(message.channel, message.header, message.parent_header, message.metadata, message.content, buffers)


@given(messages, st.sampled_from(Wire))
def test_what_is_built_is_read_back(message, wire):
    assert plain(parse(build(message, wire), wire)) == message


@given(messages)
def test_jupyter_server_reads_what_is_built_for_v1(message):
    channel, parts = jupyter_wire.deserialize_msg_from_ws_v1(build(message, Wire.V1).data)
    assert channel == message.channel
    assert [json.loads(part) for part in parts[:4]] == [
        message.header,
        message.parent_header,
        message.metadata,
        message.content,
    ]
    assert tuple(parts[4:]) == message.buffers


@given(messages)
def test_what_jupyter_server_writes_as_binary_is_read(message):
    whole = {"channel": message.channel, "header": message.header, "parent_header": message.parent_header}
    whole |= {"metadata": message.metadata, "content": message.content, "buffers": list(message.buffers)}
    frame = Frame(jupyter_wire.serialize_binary_message(whole), text=False)
    assert plain(parse(frame, Wire.DEFAULT)) == message


@given(st.binary(max_size=300), st.booleans(), st.sampled_from(Wire))
def test_arbitrary_bytes_raise_nothing_but_a_wire_error(data, text, wire):
    frame = Frame(data, text)
    glance(frame, wire)
    try:
        parse(frame, wire)
    except WireError as error:
        assert str(error)


@settings(max_examples=300)
@given(messages, st.sampled_from(Wire), st.data())
def test_a_frame_with_changed_bytes_raises_nothing_but_a_wire_error(message, wire, data):
    frame = build(message, wire)
    changed = bytearray(frame.data)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    frame = Frame(bytes(changed[: data.draw(st.integers(0, len(changed)))]), frame.text)
    glance(frame, wire)
    try:
        parse(frame, wire)
    except WireError as error:
        assert str(error)


GOOD = [json.dumps(part).encode() for part in (HEADER, {}, {}, {"code": "1"})]
NASTY_V1 = {
    "empty": (b"", "0 bytes"),
    "seven bytes": (b"\x01" * 7, "7 bytes"),
    "no offsets": (offsets_v1(0), "counts 0 offsets"),
    "too few offsets": (offsets_v1(5, *range(5)), "counts 5 offsets"),
    "2**63 offsets": (offsets_v1(2**63), "offsets"),
    "100,000 offsets in 8 bytes": (offsets_v1(100_000), "only 8 bytes"),
    "first offset inside the offsets": (offsets_v1(6, 8, 8, 8, 8, 8, 8), "first offset is 8"),
    "first offset beyond": (offsets_v1(6, 999, 999, 999, 999, 999, 999), "first offset is 999"),
    "falling offsets": (offsets_v1(6, 56, 60, 58, 60, 60, 60, rest=b"abcd"), "below the one before"),
    "last offset beyond the end": (offsets_v1(6, 56, 60, 60, 60, 60, 2**40, rest=b"abcd"), "beyond"),
    "bytes after the last part": (v1(*GOOD) + b"x", "frame ends at"),
    "header is a list": (v1(b"[]", *GOOD[1:]), "header is list"),
    "header without a type": (v1(b"{}", *GOOD[1:]), "msg_type"),
    "type is a number": (v1(b'{"msg_type": 7}', *GOOD[1:]), "msg_type"),
    "header in latin-1": (v1(b'{"msg_type": "\xe9"}', *GOOD[1:]), "not UTF-8"),
    "header in UTF-16": (v1('{"msg_type": "a"}'.encode("utf-16"), *GOOD[1:]), "not UTF-8"),
    "a type twice": (v1(b'{"msg_type": "comm_msg", "msg_type": "execute_request"}', *GOOD[1:]), "stands twice"),
    "code twice": (v1(*GOOD[:3], b'{"code": "1", "code": "2"}'), "'code' stands twice"),
    "content is cut": (v1(*GOOD[:3], b'{"code": '), "content is broken"),
    "nested too deeply": (v1(*GOOD[:3], b'{"code":' + b"[" * 100_000), "content"),
    "a number of 5,000 digits": (v1(*GOOD[:3], b'{"code":' + b"1" * 5_000 + b"}"), "content is broken"),
    "unknown channel": (v1(*GOOD, channel=b"hb"), "channel is 'hb'"),
    "channel not UTF-8": (v1(*GOOD).replace(b"shell", b"she\xff\xfe"), "not UTF-8"),
    "protocol version 9": (v1(b'{"msg_type": "x", "version": "9.0"}', *GOOD[1:]), "version is '9.0'"),
    "protocol version a number": (v1(b'{"msg_type": "x", "version": 5}', *GOOD[1:]), "version is '5'"),
}
NASTY_DEFAULT = {
    "empty text": (b"", True, "broken"),
    "not JSON": (b"ls -l", True, "broken"),
    "a list": (b"[]", True, "list"),
    "no header": (b'{"channel": "shell"}', True, "header is NoneType"),
    "content is text": (b'{"header": {"msg_type": "x"}, "content": "x"}', True, "content is str"),
    "channel is a number": (b'{"header": {"msg_type": "x"}, "channel": 1}', True, "channel is '1'"),
    "header twice": (b'{"header": {"msg_type": "x"}, "header": {"msg_type": "execute_request"}}', True, "twice"),
    "byte order mark": (b'\xef\xbb\xbf{"header": {"msg_type": "x"}}', True, "broken"),
    "no count": (b"\x00\x00", False, "2 bytes"),
    "no parts": (struct.pack("!I", 0), False, "counts 0 parts"),
    "minus one part": (struct.pack("!i", -1), False, "counts 4294967295 parts"),
    "more parts than bytes": (struct.pack("!I", 9), False, "only 4 bytes"),
    "offset beyond the end": (struct.pack("!III", 2, 12, 4000) + b"{}", False, "beyond"),
    "falling offsets": (struct.pack("!IIII", 3, 16, 18, 17) + b"{}xx", False, "below"),
    "offset into the head": (struct.pack("!II", 1, 4) + b"{}", False, "first offset is 4"),
}


@pytest.mark.parametrize(("data", "says"), NASTY_V1.values(), ids=NASTY_V1)
def test_a_nasty_v1_frame_is_refused_with_what_is_wrong(data, says):
    with pytest.raises(WireError, match=says):
        parse(Frame(data, text=False), Wire.V1)


@pytest.mark.parametrize(("data", "text", "says"), NASTY_DEFAULT.values(), ids=NASTY_DEFAULT)
def test_a_nasty_default_frame_is_refused_with_what_is_wrong(data, text, says):
    with pytest.raises(WireError, match=says):
        parse(Frame(data, text), Wire.DEFAULT)


def test_text_on_a_v1_connection_is_refused():
    with pytest.raises(WireError, match="text frame"):
        parse(Frame(json.dumps({"header": HEADER}).encode(), text=True), Wire.V1)


def test_a_message_without_a_channel_is_for_the_shell_as_in_jupyter_server():
    assert parse(Frame(json.dumps({"header": HEADER}).encode(), text=True), Wire.DEFAULT).channel == "shell"


@pytest.mark.parametrize("version", ["4.1", "5.0", "5.4"])
def test_protocols_4_and_5_are_read(version):
    header = {**HEADER, "version": version}
    assert parse(Frame(json.dumps({"header": header}).encode(), text=True), Wire.DEFAULT).header == header


def test_a_lone_surrogate_survives_the_round_trip():
    message = Message("shell", HEADER, content={"code": "\ud800"})
    assert parse(build(message, Wire.V1), Wire.V1).content == {"code": "\ud800"}


def test_a_subprotocol_that_cannot_be_read_is_refused_by_name():
    with pytest.raises(WireError, match=r"v2\.kernel"):
        Wire.chosen("v2.kernel.websocket.jupyter.org")


@given(messages, st.sampled_from(Wire))
def test_a_glance_tells_the_type_that_stands_in_the_first_bytes(message, wire):
    header = {"msg_type": "input_request", "msg_id": "1"}
    message = Message(message.channel, header, message.parent_header, message.metadata, message.content)
    assert glance(build(message, wire), wire) == "input_request"
