"""Large messages and floods through a gate in a process of its own: they arrive whole, and its memory is bounded."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web
from jupyter_server.services.kernels.connection import base as jupyter_wire

from mutirao.gate.app import Gate, make_runner
from mutirao.gate.hold import Hold
from mutirao.gate.route import claims, route_for
from tests.gate.conftest import serving
from tests.gate.house import SECRET, TOKEN, V1, MarkerJudge, OneActor, Tab, request_of, until
from tests.gate.twin import TwinServer
from tests.gate.worker import Worker, running_worker

AUTH = {"Authorization": f"token {TOKEN}"}
LARGE = 100_000_000


@pytest.fixture
def worker() -> Iterator[Worker]:
    with running_worker() as started:
        yield started


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[TwinServer, str]]:
    twin = TwinServer()
    async with serving(web.AppRunner(twin.app(), access_log=None, shutdown_timeout=0.2)) as url:
        yield twin, url
    for _ in range(3):
        await asyncio.sleep(0)  # what was closed just now leaves the loop before the loop ends


def channels(gate_url: str, target: str, user: str = "ana", kernel: str = "k") -> str:
    signed = claims(route_for(f"/user/{user}/", target, user, ""), SECRET)
    return f"{gate_url}/r/{signed}/user/{user}/api/kernels/{kernel}/channels"


async def hang_up(sockets: list[aiohttp.ClientWebSocketResponse]) -> None:
    """Drop the connections with all that they hold."""
    transports = [ws._writer.transport for ws in sockets]
    for transport in transports:
        transport.abort()
    await until(lambda: all(transport._sock is None for transport in transports))


def binary(wire: str, buffers: tuple[bytes, ...]) -> bytes:
    message = request_of("comm_msg", {"comm_id": "1", "data": {}})
    if wire == V1:
        parts = [json.dumps(message[name]).encode() for name in ("header", "parent_header", "metadata", "content")]
        return bytes(jupyter_wire.serialize_msg_to_ws_v1([*parts, *buffers], message["channel"]))
    return bytes(jupyter_wire.serialize_binary_message({**message, "buffers": list(buffers)}))


async def test_100_mb_pass_both_ways_in_both_formats(worker, server, wire):
    twin, target = server
    twin.subprotocols = (wire,) if wire else ()
    sent = binary(wire, (os.urandom(1 << 20) * (LARGE >> 20),))
    digest = hashlib.sha256(sent).digest()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            channels(worker.url, target), headers=AUTH, protocols=(wire,) if wire else (), max_msg_size=0
        ) as ws,
    ):
        await ws.send_bytes(sent)
        await until(lambda: twin.frames)
        assert hashlib.sha256(twin.frames[0]).digest() == digest
        twin.frames.clear()
        for _ in range(2):
            sending = asyncio.create_task(twin.sockets[0].send_bytes(sent))
            received = await asyncio.wait_for(ws.receive(), 60)
            await sending
            assert hashlib.sha256(received.data).digest() == digest
        # And an ordinary message right behind.
        await Tab(ws).send(request_of("comm_msg", {"comm_id": "1", "data": 7}))
        await until(lambda: twin.frames)
    print(f"peak {worker.peak_mb:.0f} MiB")
    assert worker.peak_mb < 700


async def test_a_json_text_of_100_mb_passes_and_is_read_elsewhere(worker, server):
    twin, target = server
    message = request_of("comm_msg", {"comm_id": "1", "data": "y" * LARGE})
    async with aiohttp.ClientSession() as http, http.ws_connect(channels(worker.url, target), headers=AUTH) as ws:
        await Tab(ws).send(message)
        await until(lambda: twin.frames)
    assert len(twin.frames[0]) > LARGE


async def test_twenty_flooding_kernels_and_clients_that_never_read_cost_little(worker, server):
    """Each kernel sends 30 MB messages without end; what a worker may hold of them is bounded."""
    twin, target = server
    twin.subprotocols = ()
    twin.flood = b"\0" * 30_000_000
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(read_bufsize=1 << 16))
        stuck = [
            await http.ws_connect(
                channels(worker.url, target, f"m{number % 5}", f"k{number}"), headers=AUTH, max_msg_size=0
            )
            for number in range(20)
        ]
        for ws in stuck:
            # As a browser that hangs: its socket fills, nobody reads.
            ws._writer.transport.pause_reading()
        before = -1
        while twin.flooded_bytes != before:
            before = twin.flooded_bytes
            await asyncio.sleep(1)
        print(f"peak {worker.peak_mb:.0f} MiB, now {worker.now_mb:.0f}")
        assert worker.peak_mb < 900
        async with http.get(f"{worker.url}/healthz") as answer:
            assert answer.status == 200
        await hang_up(stuck)
    await until(lambda: worker.now_mb < 300)
    await until(lambda: worker.open_files < 20)
    twin.flood = b""
    await until(lambda: all(ws._req is None or ws._req.transport is None for ws in twin.sockets))


async def test_clients_that_begin_large_messages_and_stop_cost_little(worker, server):
    """Forty clients send all of a 100 MB message but its last byte: without a bound that would be 4 GB."""
    twin, target = server
    twin.subprotocols = ()
    piece = b"\0" * (1 << 20)
    head = bytes([0x82, 0x80 | 127]) + LARGE.to_bytes(8, "big") + b"\0\0\0\0"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        idle = await stack.enter_async_context(http.ws_connect(channels(worker.url, target, "bia", "kb"), headers=AUTH))
        writing, begun = [], []
        for number in range(40):
            url = channels(worker.url, target, f"m{number % 8}", f"k{number}")
            ws = await stack.enter_async_context(http.ws_connect(url, headers=AUTH))
            begun.append(ws)
            transport = ws._writer.transport
            transport.set_write_buffer_limits(high=1 << 16)
            transport.write(head)

            async def push(ws: aiohttp.ClientWebSocketResponse = ws) -> None:
                for _ in range((LARGE >> 20) - 1):
                    ws._writer.transport.write(piece)
                    await ws._writer.protocol._drain_helper()

            writing.append(asyncio.create_task(push()))
        _, pending = await asyncio.wait(writing, timeout=8)
        assert pending, "somebody must have been made to wait"
        print(f"peak {worker.peak_mb:.0f} MiB")
        assert worker.peak_mb < 700
        # Small messages of others pass all the while.
        await Tab(idle).send(request_of("comm_msg", {"comm_id": "1", "data": 7}))
        await until(lambda: twin.frames)
        for task in pending:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        assert idle.closed is False
        await hang_up(begun)


async def test_small_messages_of_the_other_pump_never_fall_between_pieces(worker, server):
    """Answers in the kernel's stead go to the client while the kernel sends large messages: each arrives whole."""
    twin, target = server
    twin.subprotocols = ()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(channels(worker.url, target), headers=AUTH, max_msg_size=0) as ws,
    ):
        await until(lambda: twin.sockets)
        large = b"\1" * 20_000_000

        async def kernel() -> None:
            for _ in range(3):
                await twin.sockets[0].send_bytes(large)

        async def client() -> None:
            for _ in range(20):
                await Tab(ws).send(request_of("execute_request", {"code": "#" * 1_500_000}))

        sending = asyncio.gather(kernel(), client())
        found = {"large": 0, "text": 0}
        while found["large"] < 3 or found["text"] < 20 * 5:
            received = await asyncio.wait_for(ws.receive(), 60)
            if received.type is WSMsgType.BINARY:
                assert received.data == large
                found["large"] += 1
            else:
                assert received.type is WSMsgType.TEXT
                received.json()
                found["text"] += 1
        await sending


async def test_one_that_stands_still_while_others_wait_is_cut_off(server):
    """There is room for two of the largest; who has some and sends nothing makes way for who waits."""
    twin, target = server
    twin.subprotocols = ()
    gate = Gate(SECRET, MarkerJudge(), OneActor(), max_message_bytes=2_000_000, hold=Hold(0, patience_s=0.1))
    size = 1_900_000
    head = bytes([0x82, 0x80 | 127]) + size.to_bytes(8, "big") + b"\0\0\0\0"
    body = binary("", (b"\0" * (size - len(binary("", (b"",)))),))
    async with serving(make_runner(gate)) as gate_url, AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        sockets = []
        for member in "abc":
            url = channels(gate_url, target, member, "k")
            sockets.append(await stack.enter_async_context(http.ws_connect(url, headers=AUTH)))
            sockets[-1]._writer.transport.write(head + body[:1000])
            await until(lambda: gate.hold.used_bytes == size * min(len(sockets), 2))
        await until(lambda: gate.hold.waiting)
        reading = [asyncio.create_task(ws.receive()) for ws in sockets[:2]]
        done, still = await asyncio.wait(reading, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().data for task in done] == [1013]
        await until(lambda: not gate.hold.waiting)
        sockets[2]._writer.transport.write(body[1000:])
        await until(lambda: twin.frames)
        assert twin.frames == [body]
        for task in still:
            task.cancel()
        await asyncio.gather(*still, return_exceptions=True)
        await hang_up([ws for ws in sockets if not ws.closed])
    assert gate.hold.used_bytes == 0
