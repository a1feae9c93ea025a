"""Bad input meets the whole stack: a clear error that says what to do, and nothing lost."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bench.client import Member
from yarl import URL

from tests.flows.service import PASSWORD, Service, running

UID_FIRST = 3_000_000
SMALL_HOME = f"""
uid_first = {UID_FIRST}
[sizes.small]
title = {{ en = "Small" }}
memory_mb = 1024
cpus = 1
disk_mb = 64
[environments.base]
title = {{ en = "Data science" }}
[environments.ml]
title = {{ en = "Machine learning" }}
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Service]:
    """A service whose one size has a home of 64 MiB, and whose environment `ml` is not built."""
    with running("10.157.0.0/16", SMALL_HOME) as service:
        yield service


@pytest.fixture
async def ana(house: Service) -> AsyncIterator[Member]:
    """A member whose server runs."""
    async with Member(house.url, "ana", PASSWORD) as member:
        _, model = await member.api("GET", "users/ana")
        if not model["servers"]:
            await member.start()
        async with member.http.get(member.server / "lab") as page:
            assert page.status == 200
        yield member


async def said_by(member: Member, method: str, path: str, **options: Any) -> tuple[int, str]:
    """What the hub's API answers: status and message."""
    status, answer = await member.api(method, path, **options)
    return status, (answer or {}).get("message", "")


# ------------------------------------------------------------------ what the hub's API is asked for


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"size": "gigantic"}, 400, ("size", "gigantic", "small")),
        ({"environment": "absent"}, 400, ("environment", "absent", "base")),
        ({"environment": "../../etc"}, 400, ("environment", "base")),
        ({"environment": ["base"]}, 400, ("environment", "base")),
        ({"size": {"memory_mb": 1}}, 400, ("size", "small")),
        ({"size": 1}, 400, ("size", "small")),
        ({"memory_mb": 999_999}, 400, ("memory_mb", "only environment and size")),
        ({"environment": "base", "cmd": "/bin/sh", "args": ["-c"]}, 400, ("args, cmd",)),
        ({"environment": "ml"}, 503, ("ml", "not built", "env build ml")),
    ],
)
async def test_a_choice_that_is_not_offered_is_refused(
    house: Service, options: dict[str, Any], status: int, words: tuple[str, ...]
) -> None:
    async with Member(house.url, "chooser", PASSWORD) as member:
        async with member.http.get(member.hub / "hub/home"):
            pass
        found, said = await said_by(member, "POST", "users/chooser/server", json=options)

        assert found == status, said
        assert all(word in said for word in words), said
        assert (await member.api("GET", "users/chooser"))[1]["servers"] == {}


@pytest.mark.parametrize("body", ['"text"', "[7]", "7", "{", "\x00", "[" * 5000, json.dumps({"size": "x" * 100_000})])
async def test_a_body_that_is_no_choice_is_refused(house: Service, body: str) -> None:
    async with Member(house.url, "chooser", PASSWORD) as member:
        async with member.http.get(member.hub / "hub/home"):
            pass
        headers = {"Content-Type": "application/json"}
        headers |= {"X-XSRFToken": member._xsrf("/hub/api"), "Referer": str(member.hub / "hub/home")}
        url = member.hub / "hub/api/users/chooser/server"
        async with member.http.post(url, data=body, headers=headers) as answer:
            assert answer.status == 400, await answer.text()
            assert len(await answer.text()) < 2000


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    ["a" * 60, "a" * 255, "-rf", "ana@example.org"],
)
async def test_an_unusual_name_works_through_the_whole_stack_or_is_refused(house: Service, name: str) -> None:
    before = outside(house)
    async with Member(house.url, name, PASSWORD) as member:
        async with member.http.get(member.hub / "hub/home") as page:
            assert page.status == 200
        path = f"users/{name}"
        status, said = await said_by(member, "POST", f"{path}/server", json={})
        assert status in (201, 202), said
        try:
            async with asyncio.timeout(60):
                while True:
                    _, model = await member.api("GET", path)
                    if model["servers"].get("", {}).get("ready"):
                        break
                    await asyncio.sleep(0.1)
            async with member.http.get(member.hub / "hub/user-redirect/lab") as lab:
                assert lab.status == 200, await lab.text()
                assert "/user/" in str(lab.url)
                server = lab.url.parent
            runs = Somewhere(member, server)
            async with runs.kernel() as kernel:
                assert (await kernel.run("open('mine.txt', 'w').write('x'); 6 * 7")).text == "42"
                ran = await kernel.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")
                assert ran.refused
                assert "M-" in ran.text
            async with member.http.get(member.hub / "services/mutirao/me") as mine:
                assert mine.status == 200
                assert "M-" in await mine.text()
        finally:
            await member.api("DELETE", f"{path}/server")
            async with asyncio.timeout(60):
                while (await member.api("GET", path))[1]["servers"]:  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(0.1)
    assert outside(house) == before


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "..", ".", "%2e%2e", "", " ", "a" * 256, "a" * 20_000, "a\nb", "a\x7fb"]
)
async def test_a_name_that_can_not_be_is_refused_at_the_door(house: Service, name: str) -> None:
    before = outside(house)
    with pytest.raises(PermissionError, match=r"can't log in: (400|403)"):
        async with Member(house.url, name, PASSWORD):
            pass
    assert outside(house) == before


def outside(service: Service) -> set[str]:
    """What lies beside the data folder's own folders, where a hostile name might write."""
    places = (
        service.data,
        service.data / "sandbox",
        service.data.parent,
        Path("/run/mutirao"),
        Path("/etc"),
        Path("/"),
    )
    # Other tests make folders of their own beside this one; homes are made by member, below sandbox.
    return {
        str(path)
        for place in places
        for path in place.iterdir()
        if "mutirao-" not in path.name and "stock-" not in path.name and path.suffix not in (".jsonl", ".lock")
    }


class Somewhere(Member):
    """A member at a server whose address is known."""

    def __init__(self, member: Member, server: Any) -> None:
        self.hub, self.name, self.http = member.hub, member.name, member.http
        self._server = server

    @property
    def server(self) -> Any:
        return self._server / ""


# ------------------------------------------------------------------ notebooks


@pytest.mark.parametrize(
    "content", ["this is no JSON", "", "[]", '{"cells": 7}', '{"nbformat": 4, "cells": [{', "\ufeff{}"]
)
async def test_a_notebook_that_is_not_one_is_left_as_it_was(ana: Member, content: str) -> None:
    body = {"type": "file", "format": "text", "content": content}
    status, said = await ana.request("PUT", "api/contents/broken.ipynb", json=body)
    assert status in (200, 201), said

    status, said = await ana.request("GET", "api/contents/broken.ipynb?content=1&type=notebook")

    if status != 200:  # an empty or a mended one may open; it is not written back by being opened
        assert 400 <= status < 500
        assert "broken.ipynb" in str(said)
    async with ana.http.get(ana.server / "files/broken.ipynb") as file:
        assert file.status == 200
        assert (await file.read()).decode() == content


# ------------------------------------------------------------------ kernels


async def test_a_kernel_that_dies_in_mid_cell_comes_back(ana: Member) -> None:
    number = await ana.new_kernel()
    async with ana.kernel(number) as kernel:
        await kernel.run("x = 1")
        await kernel.send("execute_request", {"code": "import os; os._exit(1)", "silent": False, "store_history": True})
        async with asyncio.timeout(30):
            while True:
                _, kind, _, content = await kernel.receive()
                if kind == "status" and content["execution_state"] in ("restarting", "autorestarting"):
                    break
        await kernel.ready()
    # A new connection: what a kernel broadcasts right after its restart may come before the old one hears it again.
    async with ana.kernel(number) as kernel:
        assert (await kernel.run("'x' in globals()")).text == "False"
        assert (await kernel.run("6 * 7")).text == "42"
    await ana.request("DELETE", f"api/kernels/{number}")


async def test_two_tabs_on_one_kernel(ana: Member) -> None:
    number = await ana.new_kernel()
    async with ana.kernel(number) as one, ana.kernel(number) as other:
        await one.run("x = 20")
        ran = await other.run("x + 22")
        assert ran.text == "42"
        # Each sees what the other's cell prints, as broadcast.
        async with asyncio.timeout(10):
            while True:
                _, kind, _, content = await one.receive()
                if kind == "execute_result":
                    assert content["data"]["text/plain"] == "42"
                    break
        refused = await other.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")
        assert refused.refused
        assert (await one.run("x")).text == "20"
    await ana.request("DELETE", f"api/kernels/{number}")


async def test_a_tab_that_is_closed_in_mid_cell_leaves_the_cell_running(ana: Member) -> None:
    number = await ana.new_kernel()
    async with ana.kernel(number) as kernel:
        await kernel.send("execute_request", {"code": "import time; time.sleep(2); done = True", "silent": False})
    async with ana.kernel(number) as kernel:
        assert (await kernel.run("done")).text == "True"
    await ana.request("DELETE", f"api/kernels/{number}")


async def test_memory_that_runs_out_is_said_in_the_cell_and_the_server_lives(ana: Member) -> None:
    number = await ana.new_kernel()
    async with ana.kernel(number) as kernel:
        await kernel.send(
            "execute_request",
            {
                "code": "a = []\nwhile True: a.append(bytearray(b'x' * 50_000_000))",
                "silent": False,
                "allow_stdin": False,
            },
        )
        said = ""
        restarted = False
        async with asyncio.timeout(90):
            while not (restarted and "memory" in said):
                _, kind, _, content = await kernel.receive()
                if kind == "display_data":
                    said += content["data"].get("text/plain", "")
                if kind == "stream":
                    said += content["text"]
                restarted |= kind == "status" and content["execution_state"] in ("restarting", "autorestarting")
        assert "1024 MiB" in said or "1 GiB" in said
        await kernel.ready()
    async with ana.kernel(number) as kernel:
        assert (await kernel.run("6 * 7")).text == "42"
    status, model = await ana.request("GET", "api/status")
    assert status == 200, model
    await ana.request("DELETE", f"api/kernels/{number}")


async def test_a_full_home_is_said_in_the_cell_and_everything_goes_on(ana: Member, house: Service) -> None:
    free = os.statvfs(house.data).f_bavail
    fill = """
import os
import signal
try:
    with open('big', 'wb') as file:
        for _ in range(2000):
            file.write(b'x' * 100_000)
            file.flush()
            os.fsync(file.fileno())
finally:
    size = os.path.getsize('big')
"""
    async with ana.kernel() as kernel:
        ran = await kernel.run(fill)
        assert ran.reply["ename"] == "OSError"
        assert "No space left" in ran.reply["evalue"] or "quota" in ran.reply["evalue"]
        assert int((await kernel.run("size")).text.splitlines()[-1]) <= 64 * 2**20
        # A full home stops nothing that needs no room: the kernel, new kernels, deleting.
        async with ana.kernel() as second:
            assert (await second.run("6 * 7")).text == "42"
        status, said = await ana.request(
            "PUT", "api/contents/note.txt", json={"type": "file", "format": "text", "content": "x" * 900_000}
        )
        assert status >= 400, said
        await kernel.run("os.remove('big')")
        status, said = await ana.request(
            "PUT", "api/contents/note.txt", json={"type": "file", "format": "text", "content": "x"}
        )
        assert status in (200, 201), said
    block = os.statvfs(house.data).f_frsize
    assert (free - os.statvfs(house.data).f_bavail) * block < 500 * 2**20


async def test_a_runtime_that_is_killed_on_the_host_is_noticed_and_can_be_started_again(
    ana: Member, house: Service
) -> None:
    async with ana.kernel() as kernel:
        await kernel.run("open('kept.txt', 'w').write('here')")
    assert len(runtime_processes()) >= 2
    for path in runtime_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.name), signal.SIGKILL)

    async with asyncio.timeout(60):
        while (await ana.api("GET", "users/ana"))[1]["servers"]:
            async with ana.http.get(ana.server / "lab"):
                pass  # the hub looks when somebody knocks
            await asyncio.sleep(0.5)
    await ana.start()
    async with ana.kernel() as kernel:
        assert "here" in (await kernel.run("open('kept.txt').read()")).text


def runtime_processes() -> list[Path]:
    """The host's /proc entries of this service's runtimes, by their uids."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and path.stat().st_uid in range(UID_FIRST, UID_FIRST + 1000):
                found.append(path)
    return found


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    "path",
    [
        "/user/ana/../bia/api/kernels",
        "/user/ana/%2e%2e/bia/api/kernels",
        "/user/ana//api//kernels",
        "/user/ana/api/kernels/%00/channels",
        "/user/ana/api/kernels/" + "a" * 4000,
        "/user/ana/api/kernels/../../../../hub/api",
        "/hub/../user/ana/api/kernels",
        "/services/mutirao/../../user/ana/api",
        "/services/mutirao/case/M-9999-999999",
        "/services/mutirao/case/..%2f..%2fetc%2fpasswd",
        "/user/%C3%BC/" + "%2f" * 100,
    ],
)
async def test_a_crooked_address_is_no_error_of_ours(ana: Member, house: Service, path: str) -> None:
    address = URL(house.url + path, encoded=True)
    async with aiohttp.ClientSession() as stranger, stranger.get(address, allow_redirects=False) as answer:
        assert answer.status < 500
        # Hub and server tell everybody their version, and nothing else.
        assert answer.status != 200 or set(await answer.json()) == {"version"}
    async with ana.http.get(address, allow_redirects=False) as answer:
        assert answer.status < 500 or answer.status == 503
