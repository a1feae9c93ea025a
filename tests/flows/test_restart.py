"""Any part of the service may die at any moment: it comes back, and people's kernels go on."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from bench.client import Member

from tests.flows.service import PASSWORD, Service, running

MARKS = {
    "proxy": "configurable-http-proxy",
    "gate": "mutirao.gate",
    "pages": "mutirao.web",
    "hub": "jupyterhub_config",
    "broker": "mutirao.hub.broker",
    "forwarder": "mutirao.hub.forward",
    "warden": "mutirao.hub.warden",
}


@pytest.fixture(scope="module")
def resilient() -> Iterator[Service]:
    with running("10.156.0.0/16") as service:
        yield service


def part_of(service: Service, mark: str) -> int:
    """The pid of one part, a child of the supervisor."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    found = [pid for pid in children if mark in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(found) == 1
    return int(found[0])


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS.keys())
async def test_a_part_that_is_killed_comes_back_and_the_same_kernel_goes_on(resilient: Service, mark: str) -> None:
    async with Member(resilient.url, "ana", PASSWORD) as ana:
        if not (await ana.api("GET", "users/ana"))[1]["servers"]:
            await ana.start()
        async with ana.http.get(ana.server / "lab") as lab:
            assert lab.status == 200
        number = await ana.new_kernel()
        async with ana.kernel(number) as kernel:
            await kernel.run("x = 20")
        killed = part_of(resilient, mark)
        os.kill(killed, signal.SIGKILL)

        async with asyncio.timeout(60):
            while not (stands(resilient, mark, killed) and await answers(ana, number)):  # noqa: ASYNC110
                await asyncio.sleep(0.2)

        assert part_of(resilient, mark) != killed
        async with Member(resilient.url, "ana", PASSWORD) as again:
            async with again.http.get(again.server / "lab") as lab:
                assert lab.status == 200
            async with again.kernel(number) as kernel:
                assert (await kernel.run("x")).text == "20"
                ran = await kernel.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")
                assert ran.refused
                assert "M-" in ran.text
            async with again.http.get(again.hub / "services/mutirao/me") as me:
                assert me.status == 200


def stands(service: Service, mark: str, killed: int) -> bool:
    """Whether another process does what the killed one did; some parts answer nobody."""
    try:
        return part_of(service, mark) != killed
    except (AssertionError, FileNotFoundError):
        return False


async def answers(member: Member, number: str) -> bool:
    """Whether hub, pages and kernel can be reached again."""
    try:
        for path in ("hub/health", "services/mutirao/healthz"):
            async with member.http.get(member.hub / path) as answer:
                if not answer.ok:
                    return False
        async with member.kernel(number) as kernel:
            return (await kernel.run("1", timeout_s=5)).text == "1"
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        return False
