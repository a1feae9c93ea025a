"""Many members, each with a kernel and a cell a second: round trips with and without the gate, and beside an aggressor.

usage: ./run bench load [--members 100] [--seconds 600] [--rounds 5] [--aggressor-bytes 100000]
                        [--starting 2] [--workers 0] [--phases gate no_gate gate_beside_aggressor]

The real service with its walls, and all clients in this process on the same machine. Four phases of --seconds each, on
the same runtimes: through proxy and gate; the same while one member more sends cells of --aggressor-bytes without a
pause; and both again through a stock proxy of its own that leads straight to the servers. The phases come in turn, in
--rounds parts each, so that noise on the machine meets all. A member's cells are a second
apart, the members' phases are spread over that second. Printed: p50, p99 and the slowest in milliseconds, cells, errors
and cells that had to be sent late because the one before had not come back; the aggressor's own cells; how much a
worker's memory grew. Written: bench/results/load.json. Exit status 1 where a cell failed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tests.flows.service import PASSWORD, Service, free_port, running
from yarl import URL

from bench.client import Kernel, Member

RESULTS = Path(__file__).parent / "results"
CELL = "1"
CELL_TIMEOUT_S = 60.0
PHASES = ("gate", "no_gate", "gate_beside_aggressor", "no_gate_beside_aggressor")
COSTLY_LINE = "    exec('a' + b)\n"
"""What a reader has to take apart, and a kernel compiles but never runs."""


@dataclass(slots=True)
class Tally:
    """What one phase saw."""

    ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    late: int = 0
    aggressor_cells: int = 0
    aggressor_refused: int = 0

    def summary(self) -> dict[str, Any]:
        """Percentiles and counts."""
        cuts = statistics.quantiles(self.ms, n=100) if len(self.ms) > 1 else [0.0] * 99
        return {
            "p50_ms": round(cuts[49], 2),
            "p99_ms": round(cuts[98], 2),
            "max_ms": round(max(self.ms, default=0.0), 2),
            "cells": len(self.ms),
            "errors": len(self.errors),
            "late": self.late,
            "aggressor_cells": self.aggressor_cells,
            "aggressor_refused": self.aggressor_refused,
        }


@dataclass(slots=True)
class Seat:
    """A member with a kernel."""

    member: Member
    number: str


async def sit_down(stack: AsyncExitStack, url: str, name: str) -> Seat:
    """Log in, start the server and a kernel."""
    member = await stack.enter_async_context(Member(url, name, PASSWORD))
    await member.start(timeout_s=600)
    return Seat(member, await member.new_kernel())


async def everybody(
    stack: AsyncExitStack, url: str, names: list[str], at_once: int, said: Callable[[str], None]
) -> list[Seat]:
    """Seats for all, a few starting at a time."""
    turns = asyncio.Semaphore(at_once)
    done = 0

    async def one(name: str) -> Seat:
        nonlocal done
        async with turns:
            seat = await sit_down(stack, url, name)
        done += 1
        said(f"{done} of {len(names)} runtimes stand")
        return seat

    return list(await asyncio.gather(*(one(name) for name in names)))


@asynccontextmanager
async def connected(seats: list[Seat], url: str) -> AsyncIterator[list[Kernel]]:
    """A websocket to each kernel, through the proxy at `url`."""
    async with AsyncExitStack() as stack:
        kernels = []
        for seat in seats:
            seat.member.hub = URL(url.rstrip("/") + "/")
            kernels.append(await stack.enter_async_context(seat.member.kernel(seat.number)))
        yield kernels


async def cells(kernel: Kernel, seconds: float, offset_s: float, tally: Tally) -> None:
    """A cell a second."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + offset_s
    for number in range(int(seconds)):
        due = begin + number
        if loop.time() > due + 0.5:
            tally.late += 1
        await asyncio.sleep(max(0.0, due - loop.time()))
        try:
            ran = await kernel.run(CELL, CELL_TIMEOUT_S)
        except (TimeoutError, ConnectionError) as error:
            tally.errors.append(repr(error))
            return
        if ran.reply.get("status") != "ok":
            tally.errors.append(str(ran.reply.get("evalue"))[:200])
        tally.ms.append(ran.seconds * 1000)


async def attack(kernel: Kernel, size: int, tally: Tally) -> None:
    """Large cells without a pause, none like the one before."""
    count = size // len(COSTLY_LINE)
    while True:
        code = f"if False:  # {random.random()}\n" + COSTLY_LINE * count
        with contextlib.suppress(TimeoutError):
            ran = await kernel.run(code, CELL_TIMEOUT_S)
            tally.aggressor_cells += 1
            tally.aggressor_refused += ran.refused


async def phase(kernels: list[Kernel], seconds: float, aggressor: Kernel | None, size: int, tally: Tally) -> None:
    """All members for so many seconds, beside an aggressor where one is given."""
    attacking = asyncio.create_task(attack(aggressor, size, tally)) if aggressor else None
    await asyncio.gather(*(cells(k, seconds, n / len(kernels), tally) for n, k in enumerate(kernels)))
    if attacking:
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)


@asynccontextmanager
async def without_gate(service: Service, seats: list[Seat], operator: Member) -> AsyncIterator[str]:
    """A stock proxy whose routes lead straight to the members' servers; its address."""
    port, api_port = free_port(), free_port()
    command = [os.environ["MUTIRAO_NODE"], os.environ["MUTIRAO_PROXY"], "--ip", "127.0.0.1", "--port", str(port)]
    command += ["--api-ip", "127.0.0.1", "--api-port", str(api_port), "--default-target", service.url]
    command += ["--log-level", "warn"]
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": "bench"})
    try:
        async with aiohttp.ClientSession(headers={"Authorization": "token bench"}) as api:
            routes = URL(f"http://127.0.0.1:{api_port}/api/routes")
            await answering(lambda: api.get(routes))
            _, known = await operator.api("GET", "proxy")
            for seat in seats:
                target = {"target": known[f"/user/{seat.member.name}/"]["target"]}
                async with api.post(routes / "user" / seat.member.name, json=target) as answer:
                    answer.raise_for_status()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def answering(ask: Callable[[], Any]) -> None:
    """Wait until somebody answers."""
    for _ in range(200):
        with contextlib.suppress(aiohttp.ClientError):
            async with ask():
                return
        await asyncio.sleep(0.05)
    raise TimeoutError("the second proxy does not answer")


def workers_mb() -> list[float]:
    """The memory of each gate worker, MiB."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.joinpath("cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"mutirao.gate"]:
                status = process.joinpath("status").read_text()
                found.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
    return found


async def measure(service: Service, options: argparse.Namespace, said: Callable[[str], None]) -> dict[str, Any]:
    """All phases."""
    names = [f"m{number:03}" for number in range(options.members)]
    found: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        operator = await stack.enter_async_context(Member(service.url, "op", operator_password(service)))
        began = time.monotonic()
        seats = await everybody(stack, service.url, [*names, "aggressor"], options.starting, said)
        found["start_s"] = round(time.monotonic() - began, 1)
        memory = workers_mb()

        async def through(url: str, attacked: bool, tally: Tally) -> None:
            async with connected(seats, url) as kernels:
                *calm, aggressor = kernels
                await asyncio.gather(*(kernel.run(CELL) for kernel in calm))
                seconds = options.seconds / options.rounds
                await phase(calm, seconds, aggressor if attacked else None, options.aggressor_bytes, tally)
            for error in tally.errors[:5]:
                said(f"error: {error}")

        direct = await stack.enter_async_context(without_gate(service, seats, operator))
        tallies = {name: Tally() for name in options.phases}
        for round_ in range(options.rounds):
            for name in options.phases:
                said(f"round {round_ + 1} of {options.rounds}: {name}")
                url = service.url if name.startswith("gate") else direct
                await through(url, "aggressor" in name, tallies[name])
        found |= {name: tally.summary() for name, tally in tallies.items()}
        found["workers_mb"] = {"before": memory, "after": workers_mb()}
        for seat in seats:
            seat.member.hub = URL(service.url + "/")
        await asyncio.gather(*(seat.member.stop(timeout_s=600) for seat in seats))
    return found


def operator_password(service: Service) -> str:
    """What the service printed for its operators."""
    return service.output.read_text().split("log in with:")[1].split()[0]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rounds", type=int, default=5, help="each phase is cut into so many parts")
    parser.add_argument("--aggressor-bytes", type=int, default=100_000)
    parser.add_argument("--starting", type=int, default=2, help="runtimes that start at a time")
    parser.add_argument("--workers", type=int, default=0, help="gate workers; 0: one for each core")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    options = parser.parse_args()
    # Each member holds a few connections here.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def said(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    extra = f'start_timeout_s = 600\n[gate]\nworkers = {options.workers}\n[login]\nkind = "demo"\noperators = ["op"]\n'
    with running("10.141.0.0/16", extra) as service:
        found = asyncio.run(measure(service, options, said))
    result = {"bench": "load", "members": options.members, "seconds": options.seconds, "cores": os.cpu_count()}
    result |= found
    ratios = {
        "p99_gate_to_no_gate": ("gate", "no_gate"),
        "p99_beside_aggressor_to_alone": ("gate_beside_aggressor", "gate"),
        "p99_beside_aggressor_to_alone_without_gate": ("no_gate_beside_aggressor", "no_gate"),
    }
    result["ratios"] = {key: ratio(found, *pair) for key, pair in ratios.items() if set(pair) <= set(options.phases)}
    print(f"{options.members} members, {options.seconds:g} s a phase, {os.cpu_count()} cores")
    columns = ("p50_ms", "p99_ms", "max_ms", "cells", "errors", "late", "aggressor_cells", "aggressor_refused")
    print(f"{'':26} " + " ".join(f"{name.removeprefix('aggressor_'):>9}" for name in columns))
    for name in options.phases:
        print(f"{name:26} " + " ".join(f"{found[name][column]:9}" for column in columns))
    for name, value in result["ratios"].items():
        print(f"{name}: {value}")
    print(f"gate workers, MiB: {found['workers_mb']}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "load.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(any(found[name]["errors"] for name in options.phases))


def ratio(found: dict[str, Any], name: str, to: str) -> float:
    """How one phase's p99 compares with another's."""
    return round(found[name]["p99_ms"] / max(found[to]["p99_ms"], 0.01), 3)


if __name__ == "__main__":
    main()
