"""A whole service that an ordinary user starts: a cell runs, survives the hub and the broker, and nothing is left."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.client import Member

from mutirao.sandbox import processes
from tests.flows.service import PASSWORD, Service, running
from tests.flows.test_restart import MARKS, answers, logs_in, part_of
from tests.sandbox.conftest import outside_stands
from tests.sandbox.rootless_house import UID, everybodys_tun


@pytest.fixture(scope="module")
def house() -> Iterator[Service]:
    # pasta wants an interface besides loopback, which a machine of tests may lack.
    with outside_stands(), everybodys_tun(), running("10.159.0.0/16", uid=UID) as service:
        yield service
    assert ours() == []


def ours() -> list[str]:
    """Processes of the ordinary user; a zombie has ended and waits for init, however slow that is."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            seen = processes.stat(int(place.name))
            if place.stat().st_uid == UID and seen and seen.state not in "ZX":
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        except OSError:
            continue
    return found


def test_it_says_what_it_cannot_promise(house: Service) -> None:
    assert "All members are one user of this machine" in house.output.read_text()


@pytest.mark.parametrize("part", ["none", "broker", "forwarder", "hub"])
async def test_a_kernel_of_an_ordinary_users_service_goes_on(house: Service, part: str) -> None:
    """Whatever dies; the walls are still looked after, the hub still knows whose runtime asks."""
    async with Member(house.url, "ana", PASSWORD) as ana:
        if not (await ana.api("GET", "users/ana"))[1]["servers"]:
            await ana.start()
        async with ana.http.get(ana.server / "lab") as lab:
            assert lab.status == 200
        number = await ana.new_kernel()
        async with ana.kernel(number) as kernel:
            await kernel.run("x = 20")
        if part != "none":
            os.kill(part_of(house, MARKS[part]), signal.SIGKILL)
        async with asyncio.timeout(60):
            while not await answers(ana, number):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.2)
        async with asyncio.timeout(60):
            # A new login at the member's own server asks the hub by the runtime's door, which a dead broker took along.
            while not await logs_in(house):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        async with Member(house.url, "ana", PASSWORD) as again:
            async with again.http.get(again.server / "lab") as lab:
                assert lab.status == 200
            async with again.kernel(number) as kernel:
                assert (await kernel.run("x")).text == "20"
                assert (await kernel.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")).refused
