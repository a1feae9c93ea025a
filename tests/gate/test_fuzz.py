"""Mutated frames against a real gate: no crash, no leak, and no frame with code that the judge has not seen."""

import asyncio
import gc
import logging
import os
import resource
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from mutirao.gate.app import Gate, make_runner
from mutirao.gate.route import claims, route_for
from tests.gate.conftest import serving
from tests.gate.fuzz import BINARY, TEXT, Fuzzer, frame, would_run
from tests.gate.house import SECRET, TOKEN, V1, MarkerJudge, OneActor, execute, until
from tests.gate.twin import TwinServer

AUTH = {"Authorization": f"token {TOKEN}"}
BATCH = 4


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def memory_mb() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


class Campaign:
    """Sends batches of fuzzed frames on connections that last as long as the gate lets them."""

    def __init__(
        self, gate_url: str, twin_url: str, twin: TwinServer, judge: MarkerJudge, wire: str, seed: int
    ) -> None:
        signed = claims(route_for("/user/ana/", twin_url, "ana", ""), SECRET)
        self.url = f"{gate_url}/r/{signed}/user/ana/api/kernels/k/channels"
        self.twin, self.judge, self.wire = twin, judge, wire
        self.fuzzer = Fuzzer(seed, wire)
        self.seen: Counter[str] = Counter()

    async def run(self, frames: int) -> None:
        async with aiohttp.ClientSession() as http:
            while self.seen["frames"] < frames:
                protocols = (V1,) if self.wire else ()
                async with http.ws_connect(self.url, headers=AUTH, protocols=protocols, max_msg_size=0) as ws:
                    self.seen["connections"] += 1
                    reading = asyncio.create_task(self._read(ws))
                    while not reading.done() and self.seen["frames"] < frames:
                        await self._batch(ws, reading)
                    ws._writer.transport.abort()
                    await reading

    async def _batch(self, ws: aiohttp.ClientWebSocketResponse, reading: asyncio.Task[None]) -> None:
        # Few at a time: a broken one ends the connection, and what comes behind it counts for nothing.
        for _ in range(self.fuzzer.dice.randint(1, BATCH)):
            if ws._writer.transport.is_closing():
                break
            ws._writer.transport.write(self.fuzzer.frames())
            self.seen["frames"] += 1
        number = f"sentinel {self.seen['frames']}"
        if not ws._writer.transport.is_closing():
            data, _ = self.twin.frame(execute(number), self.wire)
            ws._writer.transport.write(frame(BINARY if self.wire else TEXT, data))
        arrived = number.encode()
        await until(lambda: reading.done() or any(arrived in _bytes(one) for one in self.twin.frames[-3:]))
        self._check()

    def _check(self) -> None:
        seen = set(self.judge.codes)
        for one in self.twin.frames:
            self.seen["passed"] += 1
            for code in would_run(one, self.wire):
                self.seen["code"] += not code.startswith("sentinel")
                assert code in seen, f"passed uninspected: {one!r}"
                assert "please stop" not in code, f"refused, and yet passed: {one!r}"
        self.twin.frames.clear()
        # What was judged may still be on its way: only its cell stays remembered.
        del self.judge.saw[:-50]

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for received in ws:
            self.seen["answers"] += 1
            assert received.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


def _bytes(data: bytes | str) -> bytes:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data


async def fuzz(frames: int, wire: str, seed: int, caplog: pytest.LogCaptureFixture) -> Counter[str]:
    caplog.set_level(logging.WARNING)
    judge, twin = MarkerJudge(), TwinServer()
    twin.subprotocols = (V1,) if wire else ()
    gate = Gate(SECRET, judge, OneActor(), max_message_bytes=2_000_000, judge_timeout_s=5)
    async with (
        serving(make_runner(gate)) as gate_url,
        serving(web.AppRunner(twin.app(), access_log=None, shutdown_timeout=0.2)) as twin_url,
    ):
        campaign = Campaign(gate_url, twin_url, twin, judge, wire, seed)
        await campaign.run(min(frames, 500))
        await until(lambda: gate.counters["connections_open"] == 0)
        await until(lambda: not any(_of_gate(one) for one in asyncio.all_tasks()))
        gc.collect()
        before = len(asyncio.all_tasks()), open_files(), memory_mb()
        await campaign.run(frames)
        await until(lambda: gate.counters["connections_open"] == 0)
        await until(lambda: len(asyncio.all_tasks()) <= before[0])
        await until(lambda: open_files() <= before[1] + 2)
        gc.collect()
        assert memory_mb() - before[2] < 40, "memory grew with the number of frames"
        assert (gate._relays, gate.hold.used_bytes, gate.hold.waiting) == (set(), 0, [])
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == []
    return campaign.seen


def _of_gate(task: asyncio.Task[object]) -> bool:
    return "Relay" in repr(task.get_coro())


@pytest.mark.parametrize("seed", [1])
async def test_2000_fuzzed_frames_neither_crash_nor_leak_nor_pass_uninspected(wire, seed, caplog):
    seen = await fuzz(1000, wire, seed, caplog)
    print(dict(seen))
    # A campaign whose frames all bounce off would prove nothing.
    assert seen["code"] > 40
    assert seen["passed"] > 100
    assert seen["connections"] > 8


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [2, 3, 4, 5, 6])
async def test_100000_fuzzed_frames_neither_crash_nor_leak_nor_pass_uninspected(wire, seed, caplog):
    seen = await fuzz(10_000, wire, seed, caplog)
    print(dict(seen))
    assert seen["code"] > 400
