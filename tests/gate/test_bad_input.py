"""What clients and servers must not send, and what happens when they do."""

import asyncio
import json
import os
import socket
import struct
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

import mutirao
from mutirao.gate.route import claims, route_for
from tests.gate.conftest import Street
from tests.gate.house import SECRET, TOKEN, V1, Tab, execute, free_port, kinds, one, request_of, until, wait_for_http

AUTH = {"Authorization": f"token {TOKEN}"}


async def test_a_message_that_carries_no_code_passes_byte_for_byte(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        await tab.send(request_of("comm_msg", {"comm_id": "1", "data": {"ü": 1.0}}), (b"\x00\xff",))
        await twin.arrived.wait()
    (arrived,) = twin.frames
    assert b"\x00\xff" in arrived
    assert street.judge.saw == []


async def test_an_allowed_cell_passes_byte_for_byte(street, twin):
    odd = '{ "header" :{"msg_type":"execute_request" , "msg_id":"1"},\n "content":{"code":"\\u0031"}, "extra": [1.10] }'
    async with street.tab("k-1") as tab:
        await tab.ws.send_str(odd)
        await twin.arrived.wait()
    assert twin.frames == [odd]
    assert street.judge.codes == ["1"]


@pytest.mark.parametrize("msg_type", ["invented_request", "usage_request", "inspect_request"])
@pytest.mark.parametrize("channel", ["shell", "control"])
async def test_a_type_that_nobody_knows_passes(street, twin, wire, msg_type, channel):
    async with street.tab("k-1", wire) as tab:
        await tab.send(request_of(msg_type, {"code": "please stop"}, channel))
        await twin.arrived.wait()
    assert len(twin.frames) == 1


BROKEN = [
    ("", "ls -l", 1007, "broken"),
    ("", "", 1007, "broken"),
    ("", b"\x00\x00", 1007, "2 bytes"),
    ("", struct.pack("!III", 2, 12, 4000) + b"{}", 1007, "beyond"),
    ("", '{"header": {"msg_type": "x"}, "header": {"msg_type": "execute_request"}}', 1007, "twice"),
    ("", json.dumps(request_of("x", {}, version="9.0")), 1007, "9.0"),
    ("", json.dumps(request_of("x", {}, channel="hb")), 1007, "hb"),
    ("", json.dumps(request_of("execute_request", {"code": ["a"]})), 1008, "code is list"),
    ("", json.dumps(request_of("input_reply", {}, channel="stdin")), 1008, "value is NoneType"),
    (V1, "text", 1007, "text frame"),
    (V1, b"", 1007, "0 bytes"),
    (V1, struct.pack("<Q", 2**63), 1007, "offsets"),
    (V1, struct.pack("<7Q", 6, 56, 60, 58, 60, 60, 60) + b"abcd", 1007, "below the one before"),
]


@pytest.mark.parametrize(("wire", "sent", "code", "says"), BROKEN)
async def test_a_broken_message_ends_the_connection_with_a_reason_and_reaches_nobody(
    street, twin, wire, sent, code, says
):
    async with street.tab("k-1", wire) as tab:
        await (tab.ws.send_bytes(sent) if isinstance(sent, bytes) else tab.ws.send_str(sent))
        assert (got := await tab.closed())[0] == code
        assert says in got[1]
    assert twin.frames == []
    assert street.judge.saw == []


async def test_a_cell_without_readable_code_gets_an_error_reply_before_the_connection_ends(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        answers = await tab.answers(await tab.send(request_of("execute_request", {"code": 7})))
    assert kinds(answers) == ["status busy", "error", "execute_reply", "status idle"]
    assert "code is int" in one(answers, "execute_reply")["evalue"]


async def test_a_text_frame_that_is_not_utf8_is_refused(street, twin):
    async with street.tab("k-1") as tab:
        await tab.ws.send_frame(b'{"header": {"msg_type": "\xff"}}', aiohttp.WSMsgType.TEXT)
        assert (await tab.closed())[0] == 1007
    assert twin.frames == []


async def test_an_oversized_message_is_refused_with_a_reason_and_never_arrives(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        await tab.send(execute("#" * 2_500_000))
        code, reason = await tab.closed()
    assert (code, twin.frames) == (1009, [])
    assert "2000000 bytes" in reason


async def test_a_large_message_within_the_limit_passes(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        await tab.send(request_of("comm_msg", {"comm_id": "1", "data": "#" * 1_500_000}))
        await twin.arrived.wait()
    assert len(twin.frames[0]) > 1_500_000


async def test_a_cell_longer_than_anybody_could_judge_is_refused_with_a_notice(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        answers = await tab.run("#" * 1_500_000)
    assert "too large" in one(answers, "display_data")["data"]["text/plain"]
    assert (twin.frames, street.judge.saw) == ([], [])


async def test_what_a_kernel_sends_beyond_the_limit_ends_the_connection_with_a_reason(street, twin):
    async with street.tab("k-1") as tab:
        await until(lambda: twin.sockets)
        await twin.sockets[0].send_bytes(b"x" * 2_100_000)
        code, reason = await tab.closed()
    assert code == 1009
    assert "too large" in reason


async def test_a_server_that_dies_in_mid_cell_closes_the_connection_with_a_reason(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        await tab.send(execute("1"))
        await twin.arrived.wait()
        twin.sockets[0]._writer.transport.abort()
        code, reason = await tab.closed()
    assert code == 1011
    assert "Restart it" in reason


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4000])
async def test_a_server_that_closes_is_passed_on_with_its_code(street, twin, code):
    async with street.tab("k-1") as tab:
        await until(lambda: twin.sockets)
        closing = asyncio.ensure_future(twin.sockets[0].close(code=code, message=b"bye"))
        assert await tab.closed() == (code, "bye")
        await closing


async def test_a_client_that_closes_is_passed_on_with_its_code(street, twin):
    async with street.tab("k-1") as tab:
        await tab.ws.close(code=4001, message=b"bye")
        await until(lambda: twin.closed_with)
    assert twin.closed_with == [4001]


async def test_pings_pass_from_end_to_end(street, twin):
    async with street.tab("k-1", autoping=False) as tab:
        await tab.ws.ping(b"are you there")
        received = await asyncio.wait_for(tab.ws.receive(), 5)
    assert (received.type, received.data) == (aiohttp.WSMsgType.PONG, b"are you there")


async def test_a_client_that_never_reads_stalls_only_itself_and_costs_little_memory(street, twin):
    async with street.tab("k-1") as other:
        twin.flood = b"x" * 50_000
        async with unread(street, "k-2") as reader:
            before = -1
            while twin.flooded_bytes != before:
                before = twin.flooded_bytes
                await asyncio.sleep(0.5)
            # What the kernel's buffers, the proxy and the gate hold between them, before the server is held back.
            assert before < 60_000_000
            held = max(_buffered(relay) for relay in street.gate._relays)
            assert held < 2_000_000
            await other.send(request_of("comm_msg", {}))
            await asyncio.wait_for(twin.arrived.wait(), 2)
            reader.close()
        await until(lambda: street.gate.counters["connections_open"] <= 1)


async def test_a_client_that_never_reads_its_refusals_costs_little_memory(street, twin):
    address = urlsplit(street.gate_url)
    place = f"/r/{claims(route_for('/user/ana/', street.target, 'ana', ''), SECRET)}"
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024)
    writer.write(_handshake(f"{place}/user/ana/api/kernels/k/channels"))
    await reader.readuntil(b"\r\n\r\n")

    async def pour() -> None:
        frame = _masked(json.dumps(execute("please stop")).encode())
        while True:
            writer.write(frame)
            await writer.drain()

    pouring = asyncio.ensure_future(pour())
    before = -1
    while len(street.judge.saw) != before:
        before = len(street.judge.saw)
        await asyncio.sleep(0.5)
    (relay,) = street.gate._relays
    assert _buffered(relay) < 2_000_000
    pouring.cancel()
    writer.transport.abort()
    await until(lambda: not street.gate.counters["connections_open"])


async def test_a_cell_is_judged_in_order_while_the_kernels_messages_go_on(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        await tab.send(execute("please doze"))
        await asyncio.wait_for(street.judge.asked.wait(), 5)
        await tab.send(request_of("comm_msg", {"data": "second"}))
        status = request_of("status", {"execution_state": "busy"}, "iopub")
        await twin.sockets[0].send_str(json.dumps(status))
        received = await asyncio.wait_for(tab.ws.receive(), 0.5)
        assert b"busy" in (received.data.encode() if isinstance(received.data, str) else received.data)
        assert twin.frames == []
        await asyncio.wait_for(twin.arrived.wait(), 5)
    assert len(twin.frames) == 1, "the cell is refused, what came after it passes"


async def test_the_last_execution_count_and_the_kernels_language_are_remembered(street, twin):
    async with street.tab("k-1") as tab:
        await until(lambda: twin.sockets)
        reply = request_of("execute_reply", {"execution_count": 41})
        info = request_of("kernel_info_reply", {"language_info": {"name": "R"}})
        for message in (reply, info):
            await twin.sockets[0].send_str(json.dumps(message))
            await tab.receive()
        answers = await tab.run("please stop")
    assert one(answers, "execute_reply")["execution_count"] == 41
    assert street.judge.saw[-1].language == "r"


async def test_headers_cookies_and_query_reach_the_server_unchanged(street, twin):
    sent = {
        "Origin": "https://elsewhere.example",
        "Cookie": "a=b; jupyterhub-session-id=c",
        "X-Custom": "ü".encode().decode("latin-1"),
    }
    async with street.tab("k-1", headers={**sent, "Host": "hub.example:8443", "X-Forwarded-Proto": "https"}):
        pass
    (got,) = twin.handshakes
    assert (got["Host"], got["Origin"], got["Cookie"]) == ("hub.example:8443", sent["Origin"], sent["Cookie"])
    assert got["Authorization"] == AUTH["Authorization"]
    assert got["X-Forwarded-Proto"].split(",")[0] == "https"
    assert "Sec-WebSocket-Extensions" not in got, "no compression towards the server"


async def test_a_servers_cookie_comes_with_the_handshake(street, twin):
    async with street.http.ws_connect(street.url("api/kernels/k/channels"), headers=AUTH) as ws:
        assert ws._response.headers["Set-Cookie"] == "seen=yes"


async def test_a_servers_refusal_passes_as_it_is_and_nobody_is_judged_or_asked_for(street, twin):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    async with street.http.get(street.url("api/kernels/k/channels"), headers=headers) as answer:
        assert (answer.status, answer.reason, await answer.text()) == (418, "No Tea", "not for you")
        assert answer.headers["X-From"] == "the server"
    assert street.actors.asked == []


async def test_a_subprotocol_that_cannot_be_read_is_refused_before_the_client_is_accepted(street, twin):
    twin.subprotocols = ("v2.kernel.websocket.jupyter.org",)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with street.tab("k-1", "v2.kernel.websocket.jupyter.org"):
            pass
    assert caught.value.status == 400


async def test_a_subprotocol_that_the_server_does_not_know_falls_back_to_the_default_format(street, twin):
    twin.subprotocols = ()
    url = street.url("api/kernels/k-1/channels")
    async with street.http.ws_connect(url, headers=AUTH, protocols=("v9.invented", V1)) as ws:
        assert ws.protocol is None
        await ws.send_str(json.dumps(execute("1")))
        await twin.arrived.wait()
    assert street.judge.codes == ["1"]


async def test_a_server_that_is_away_gives_503_and_says_what_to_do(street):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        await street.add(f"http://127.0.0.1:{sock.getsockname()[1]}")
        for path in ("api/kernels", "api/kernels/k/channels"):
            async with street.http.get(street.url(path), headers=AUTH) as answer:
                assert answer.status == 503
                assert "Start it again" in (await answer.json())["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/user/ana/api%2fkernels/k/channels",
        "/user/ana/%61pi/kernels/k",
        "/user/ana/api/kernels/k%5cchannels",
        "/user/ana/api/kernels//k",
        "/user/ana/api/kernels/k%00",
    ],
)
async def test_an_ambiguous_path_gets_400_in_json_and_never_reaches_the_server(street, twin, path):
    reader, writer = await asyncio.open_connection(urlsplit(street.chp.url).hostname, urlsplit(street.chp.url).port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\nConnection: close\r\n\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b'"message"' in answer
    assert twin.requests == []


@pytest.mark.parametrize("target", ["/", "/user/ana/api/kernels", "/r/x.y/user/ana/api/kernels"])
async def test_whoever_comes_without_the_proxy_is_refused(street, target):
    async with street.http.get(street.gate_url + target) as answer:
        assert answer.status == 400
        assert (await answer.json())["message"]


async def test_the_gate_says_that_it_lives_and_counts(street, twin):
    async with street.tab("k-1") as tab:
        await tab.run("please stop")
    async with street.http.get(f"{street.gate_url}/healthz") as answer:
        counters = (await answer.json())["counters"]
    assert counters["verdicts_stop"] == 1
    assert counters["connections"] == 1


async def test_a_gate_that_ends_tells_its_clients_to_come_back(street, twin):
    async with street.tab("k-1") as tab:
        await until(lambda: street.gate._relays)
        closing = asyncio.ensure_future(street.gate.close())
        code, reason = await tab.closed()
        await closing
    assert code == 1012
    assert "Reconnect" in reason


async def test_http_streams_through_untouched(street, twin):
    twin.body = bytes(range(256)) * 8192
    url = URL(street.url("api/kernels/k/extra?a=%2F&b"), encoded=True)
    async with street.http.put(url, data=b"\x00" * 300_000, headers=AUTH) as answer:
        assert await answer.read() == twin.body
        assert (answer.status, answer.headers["X-From"]) == (200, "the server")
    (request,) = twin.requests
    assert request.raw_path == "/user/ana/api/kernels/k/extra?a=%2F&b"
    assert request.body == b"\x00" * 300_000


@asynccontextmanager
async def unread(street: Street, kernel: str):
    """A client that shakes hands and then never reads."""
    address = urlsplit(street.chp.url)
    sock = socket.create_connection((address.hostname, address.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(_handshake(f"/user/ana/api/kernels/{kernel}/channels"))
    try:
        yield sock
    finally:
        sock.close()


def _handshake(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def _masked(data: bytes) -> bytes:
    assert 126 <= len(data) < 65536
    return struct.pack("!BBH", 0x81, 0x80 | 126, len(data)) + bytes(4) + data


def _buffered(relay) -> int:
    transport = relay._client._writer.transport
    return transport.get_write_buffer_size() + relay._upstream._reader._size + relay._client._reader._size


async def test_a_gate_process_that_is_told_to_stop_says_goodbye_and_ends(street, twin):
    port = free_port()
    code = (
        "from mutirao.gate.actor import NoActors; from mutirao.gate.app import Gate, main; "
        f"main(Gate({SECRET!r}, None, NoActors()), '127.0.0.1', {port})"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(Path(mutirao.__file__).parents[1])}
    )
    await asyncio.to_thread(wait_for_http, f"http://127.0.0.1:{port}/healthz")
    place = f"/r/{claims(route_for('/user/ana/', street.target, 'ana', ''), SECRET)}"
    url = f"http://127.0.0.1:{port}{place}/user/ana/api/kernels/k/channels"
    async with street.http.ws_connect(url, headers=AUTH) as ws:
        process.terminate()
        assert (await Tab(ws).closed())[0] == 1012
    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize("target", [b"/r/\xff.y/user/ana/", b"/\xff", b"/r/" + b"x" * 60_000 + b"/"])
async def test_a_target_of_odd_bytes_gets_400(street, target):
    address = urlsplit(street.gate_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).split(b" ")[1] == b"400"
    writer.close()


async def test_a_warned_silent_cell_runs_without_a_display(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        await tab.send(execute("please warn", silent=True))
        await twin.arrived.wait()
        header = await tab.send(request_of("debug_request", {"arguments": {"expression": "please stop"}}, "control"))
        assert (await tab.receive())["parent_header"]["msg_id"] == header["msg_id"]


async def test_headers_of_one_connection_do_not_pass_and_nobody_can_strip_what_the_server_checks(street, twin):
    sent = {**AUTH, "Connection": "X-Forwarded-For, Authorization, Foo, keep-alive", "Foo": "1", "TE": "trailers"}
    async with street.http.get(street.gate_url + _kernels(street), headers=sent) as answer:
        assert answer.status == 200
    assert {"Foo", "TE", "Connection"} & set(twin.requests[0].headers) <= {"Connection"}
    assert "Authorization" in twin.requests[0].headers


def _kernels(street: Street) -> str:
    return f"/r/{claims(route_for('/user/ana/', street.target, 'ana', ''), SECRET)}/user/ana/api/kernels"
