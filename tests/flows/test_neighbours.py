"""Members side by side: they can't read, reach or signal each other, and twenty fit on one small machine."""

import asyncio
import json

import pytest
from bench.client import Member

from tests.flows.service import PASSWORD, Service, running

SMALL = {"environment": "base", "size": "small"}

LOOK_AROUND = """
import json, os, signal, socket, subprocess
def tried(act):
    try:
        return repr(act())
    except OSError as error:
        return type(error).__name__ + ":" + str(error.errno)
def reach(address, port):
    with socket.create_connection((address, port), timeout=2):
        return "reached"
print(json.dumps({
    "address": socket.gethostbyname(socket.gethostname()),
    "homes": tried(lambda: sorted(os.listdir("/home"))),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "uid": os.getuid(),
    "neighbour": tried(lambda: reach(NEIGHBOUR, 8888)),
    "hub": tried(lambda: reach("127.0.0.1", HUB_PORT)),
    "proxy": tried(lambda: reach(GATEWAY, HUB_PORT)),
    "metadata": tried(lambda: reach("169.254.169.254", 80)),
    "signal": tried(lambda: os.kill(NEIGHBOUR_PID, 0)),
    "shadow": tried(lambda: open("/etc/shadow").read()),
    "secrets": [key for key in os.environ if "SECRET" in key or "PASSWORD" in key],
}))
"""


async def started(service: Service, name: str) -> Member:
    member = Member(service.url, name, PASSWORD)
    await member.login()
    await member.start(SMALL, timeout_s=180)
    return member


async def test_two_members_can_not_read_reach_or_signal_each_other(service: Service) -> None:
    ana, bia = await started(service, "neighbour-ana"), await started(service, "neighbour-bia")
    try:
        async with ana.kernel() as at_ana, bia.kernel() as at_bia:
            await at_bia.run("open('secret.txt', 'w').write('mine')")
            asked = "import os, json, socket; print(json.dumps([os.getpid(), open('/proc/net/fib_trie').read()]))"
            pid, routes = json.loads((await at_bia.run(asked)).text)
            address = next(
                line.split()[-1]
                for line in routes.splitlines()
                if "10.138." in line and line.strip().startswith("|--") and not line.strip().endswith((".0", ".1"))
            )
            port = int(service.url.rpartition(":")[2])
            code = LOOK_AROUND.replace("NEIGHBOUR_PID", str(pid + 100_000)).replace("NEIGHBOUR", repr(address))
            code = code.replace("HUB_PORT", str(port)).replace("GATEWAY", "'10.138.0.1'")
            ran = await at_ana.run(code)
            assert ran.reply["status"] == "ok", ran.messages
            seen = json.loads(ran.text)

        assert seen["homes"] == "['member']"
        assert max(seen["processes"]) < 1000
        assert seen["uid"] == 1000
        for door in ("neighbour", "hub", "proxy", "metadata"):
            assert "reached" not in seen[door], f"{door}: {seen[door]}"
        assert "ProcessLookupError" in seen["signal"]
        assert "Error" in seen["shadow"]
        assert seen["secrets"] == []
        async with ana.http.get(bia.server / "api/contents/secret.txt") as answer:
            assert answer.status in (403, 404)
    finally:
        for member in (ana, bia):
            await member.stop()
            await member.http.close()


@pytest.mark.parametrize("members", [8, pytest.param(20, marks=pytest.mark.campaign)])
async def test_many_runtimes_run_at_once(members: int) -> None:
    """Each with a kernel that answers while all the others stand."""
    with running("10.142.0.0/16") as service:
        crowd: list[Member] = []
        try:
            for start in range(0, members, 4):
                crowd += await asyncio.gather(*(started(service, f"m{start + i}") for i in range(4)))
            kernels = await asyncio.gather(*(member.new_kernel() for member in crowd))

            async def answer(member: Member, number: str) -> str:
                async with member.kernel(number) as kernel:
                    return (
                        await kernel.run("import numpy; print(int(numpy.arange(10).sum()))", timeout_s=120)
                    ).text.strip()

            answers = await asyncio.gather(*(answer(m, n) for m, n in zip(crowd, kernels, strict=True)))
            assert answers == ["45"] * members
        finally:
            await asyncio.gather(*(member.stop(120) for member in crowd))
            for member in crowd:
                await member.http.close()
