"""Any part of the service may die at any moment: it comes back, and people's kernels go on."""

import asyncio
import contextlib
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


def parts(service: Service, mark: str) -> list[int]:
    """The pids of one part, a child of the supervisor: none while it is away."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    found = []
    for pid in children:
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_text()
            # Not setpriv, which is about to become it.
            if mark in arguments and "setpriv" not in arguments:
                found.append(int(pid))
    return found


def part_of(service: Service, mark: str) -> int:
    """The pid of one part; of one of its workers where it has several."""
    return parts(service, mark)[0]


async def logs_in(service: Service) -> bool:
    """Whether a new login gets to the member's own server, which asks the hub whose it is."""
    async with Member(service.url, "ana", PASSWORD) as ana, ana.http.get(ana.server / "lab") as lab:
        return lab.status == 200


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS.keys())
async def test_a_part_that_is_killed_comes_back_and_the_same_kernel_goes_on(resilient: Service, mark: str) -> None:
    # A pooled connection on which the proxy refused a handshake would be read by nobody: see Member.
    async with Member(resilient.url, "ana", PASSWORD, keep_alive=False) as ana:
        if not (await ana.api("GET", "users/ana"))[1]["servers"]:
            await ana.start()
        async with ana.http.get(ana.server / "lab") as lab:
            assert lab.status == 200
        number = await ana.new_kernel()
        async with ana.kernel(number) as kernel:
            await kernel.run("x = 20")
        # All workers, where a part has several.
        killed = set(parts(resilient, mark))
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

        async with asyncio.timeout(60):
            # Without broker or forwarder all that a running kernel needs goes on; a login at the member's server does not.
            while killed & (found := set(parts(resilient, mark))) or len(found) < len(killed):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.2)
            while not (await answers(ana, number) and await logs_in(resilient)):  # noqa: ASYNC110
                await asyncio.sleep(0.2)

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
