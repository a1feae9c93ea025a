"""Two gate workers: each server has its own, and one that is killed takes nobody else's connections along."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import aiohttp
from bench.client import Member

from mutirao.gate.shard import worker_of
from tests.flows.service import PASSWORD, Service, running

DISALLOWED = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W"


def workers(service: Service) -> dict[str, int]:
    """The address of each worker of this instance, and its process, in the order of their names."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines = process.joinpath("environ").read_bytes().decode().split("\0")
            env = dict(line.split("=", 1) for line in lines if "=" in line)
            is_gate = process.joinpath("cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"mutirao.gate"]
            if is_gate and str(service.data) in env.get("MUTIRAO_DATABASE", ""):
                found[env["MUTIRAO_GATE_WORKER"]] = (env["MUTIRAO_GATE_URL"], int(process.name))
    return dict(found[name] for name in sorted(found))


async def counters(url: str) -> dict[str, int]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/healthz") as answer:
        return dict((await answer.json())["counters"])


async def test_a_worker_that_is_killed_takes_only_its_own_connections_and_comes_back() -> None:
    with running("10.155.0.0/16", "[gate]\nworkers = 2\n") as service:
        pids = workers(service)
        urls = list(pids)
        assert len(urls) == 2
        mine, other = (next(n for n in map("m{}".format, range(99)) if worker_of(urls, n, "") == url) for url in urls)
        async with Member(service.url, mine, PASSWORD) as ana, Member(service.url, other, PASSWORD) as bia:
            await asyncio.gather(ana.start(), bia.start())
            number = await ana.new_kernel()
            async with bia.kernel() as theirs:
                async with ana.kernel(number) as kernel:
                    assert (await kernel.run("x = 6 * 7; x")).text == "42"
                    assert (await theirs.run("1")).text == "1"
                    for url in urls:
                        assert (await counters(url))["connections_open"] == 1

                    os.kill(pids[urls[0]], signal.SIGKILL)
                    with contextlib.suppress(ConnectionError):
                        while True:
                            await asyncio.wait_for(kernel.receive(), 30)
                assert (await theirs.run("2")).text == "2"

                async with asyncio.timeout(60):
                    while True:
                        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                            async with ana.kernel(number) as again:
                                assert (await again.run("x")).text == "42", "the kernel must have lived on"
                                assert (await again.run(DISALLOWED)).refused
                                break
                        await asyncio.sleep(0.1)
                assert (await theirs.run("3")).text == "3"
                assert (await counters(urls[0]))["connections"] >= 1
            assert list(workers(service)) == urls
