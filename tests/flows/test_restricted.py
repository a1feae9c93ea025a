"""A member who may not run code: told, stopped within seconds, with all their files at hand; free again as fast."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from bench.client import Member
from playwright.sync_api import Browser, expect

from mutirao.accounts import Accounts
from tests.flows.browser import log_in, person
from tests.flows.service import PASSWORD, Service, as_part, running

BASE = {"environment": "base", "size": "small"}
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
WAIT_S = 90.0


@pytest.fixture(scope="module")
def house() -> Iterator[Service]:
    with running("10.161.0.0/16") as service:
        yield service


CASE = """
import sys
from datetime import UTC, datetime
from mutirao.cases import review
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Office, Refused
from mutirao.cases.wording import Pages
from mutirao.policy.version import load_versions
from mutirao.store.models import Case
from mutirao.store.store import Store
from sqlalchemy import select
url, pages, member, scope = sys.argv[1:]
with Store(url).write() as session:
    case = session.scalars(select(Case).where(Case.member == member).order_by(Case.id.desc())).first()
    made = review.restrict(
        session, Office(load_versions(), Pages(pages)), case, Scope(scope), 3, "rita", "A reviewer looked at it.", datetime.now(UTC)
    )
    assert not isinstance(made, Refused), made
    print(made.id)
"""


def restrict(house: Service, member: str, scope: str) -> str:
    """What a reviewer's form does, in the store of the running service; the sanction's number."""
    store = f"sqlite:///{house.data}/store/mutirao.sqlite"
    return as_part(Accounts(2_000_000).pages, CASE, store, f"{house.url}/services/mutirao/", member, scope).strip()


def lift(house: Service, number: str) -> None:
    house.command("sanction", "lift", number, "--by", "rita", "--why", "It was a mistake after all.")


@asynccontextmanager
async def at_work(house: Service, name: str) -> AsyncIterator[tuple[Member, str]]:
    """A member with a runtime, a saved notebook, a kernel, and a case (one cell that was stopped)."""
    async with Member(house.url, name, PASSWORD) as member:
        await member.start(BASE, timeout_s=180)
        body = {"type": "notebook", "format": "json", "content": NOTEBOOK}
        status, _ = await member.request("PUT", "api/contents/mine.ipynb", json=body)
        assert status == 201
        number = await member.new_kernel()
        async with member.kernel(number) as kernel:
            assert (await kernel.run("!/usr/sbin/sshd -p 2222 -D")).refused
            assert "Tomato" in (await kernel.run("print('tomato'.title())")).text
        yield member, number
        if (await member.api("GET", f"users/{name}"))[1].get("servers"):
            await member.stop()


async def gone(member: Member) -> None:
    """Wait until no runtime of the member is left."""
    async with asyncio.timeout(WAIT_S):
        while (await member.api("GET", f"users/{member.name}"))[1].get("servers"):  # noqa: ASYNC110 - the hub's
            await asyncio.sleep(0.1)


async def last_words(kernel: Any) -> dict[str, dict[str, Any]]:
    """By cell, what came last of each kind until the connection closed."""
    said: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(WAIT_S):
        with suppress(ConnectionError):
            while True:
                _, kind, parent, content = await kernel.receive()
                said.setdefault(parent, {})[kind] = content
    return said


async def servers(member: Member) -> Any:
    return (await member.api("GET", f"users/{member.name}"))[1]["servers"]


@pytest.mark.parametrize("scope", ["compute", "account"])
async def test_a_running_runtime_is_stopped_and_the_reading_room_opens(house: Service, scope: str) -> None:
    name = f"rui-{scope}"
    async with at_work(house, name) as (member, number):
        async with member.kernel(number) as kernel:
            running = await kernel.send("execute_request", {"code": "import time; print('Tomato'); time.sleep(600)"})
            while (await kernel.receive())[1] != "stream":
                pass
            sanction = restrict(house, name, scope)
            behind = await kernel.send("execute_request", {"code": "print('never')"})
            said = await last_words(kernel)
        ended, refused = said.pop(running), said.pop(behind)
        assert [told["execute_reply"]["ename"] for told in (ended, refused)] == ["Ended", "NotRun"]
        for told in (ended, refused):
            assert "restricted for you until" in told["execute_reply"]["evalue"]
            assert "/services/mutirao/case/M-" in told["display_data"]["data"]["text/html"]
            assert "appeal" in told["display_data"]["data"]["text/plain"]
            assert told["status"] == {"execution_state": "idle"}
        await gone(member)

        async with member.http.get(member.hub / "hub/spawn", allow_redirects=False) as page:
            said = await page.text()
        assert "reading room" in said
        assert "/services/mutirao/case/M-" in said
        assert 'type="radio"' not in said
        async with member.http.get(member.hub / "hub/home", headers={"Accept-Language": "pt-BR"}) as page:
            assert 'id="restricted"' in await page.text()

        # Whatever is asked for, this is what comes.
        await member.start({"environment": "base", "size": "large"}, timeout_s=180)
        assert (await servers(member))[""]["user_options"]["size"] == "reading room"
        status, model = await member.request("GET", "api/contents/mine.ipynb")
        assert status == 200
        assert model["content"] == NOTEBOOK
        async with member.http.get(member.server / "files/mine.ipynb", params={"download": "1"}) as download:
            assert json.loads(await download.text()) == NOTEBOOK
        body = {"type": "file", "format": "text", "content": "changed there"}
        assert (await member.request("PUT", "api/contents/notes.txt", json=body))[0] == 201
        for path, body in (
            ("api/kernels", {"name": "python3"}),
            ("api/sessions", {"path": "mine.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}}),
            ("api/terminals", {}),
        ):
            status, refused = await member.request("POST", path, json=body)
            assert status == (404 if path == "api/terminals" else 403), (path, refused)
            assert status == 404 or "No kernel was started" in refused["message"]
        assert (await member.request("GET", "api/kernels"))[1] == []

        # The pages stay theirs: the case says why, and there the appeal is.
        async with member.http.get(member.hub / "services/mutirao/me") as page:
            assert page.status == 200

        lift(house, sanction)
        await gone(member)
        await member.start(BASE, timeout_s=180)
        assert (await servers(member))[""]["user_options"]["size"] == "small"
        async with member.kernel() as kernel:
            assert "Tomato" in (await kernel.run("print('tomato'.title())")).text
        assert (await member.request("GET", "api/contents/notes.txt"))[1]["content"] == "changed there"


async def test_a_neighbour_s_runtime_and_a_gpu_restriction_run_on(house: Service) -> None:
    """Restricted GPUs are said on the start page, and nothing else changes; nobody else is touched."""
    async with at_work(house, "gil") as (member, number), at_work(house, "tom") as (other, _):
        before = await servers(member)
        restrict(house, "gil", "gpu")
        sanction = restrict(house, "tom", "compute")
        await gone(other)

        assert await servers(member) == before | {
            "": before[""] | {"last_activity": (await servers(member))[""]["last_activity"]}
        }
        async with member.kernel(number) as kernel:
            assert "Tomato" in (await kernel.run("print('tomato'.title())")).text
        await member.stop()
        async with member.http.get(member.hub / "hub/spawn") as page:
            said = await page.text()
        assert "GPUs are restricted" in said
        assert 'type="radio"' in said
        lift(house, sanction)


async def test_only_the_hub_learns_who_is_restricted(house: Service) -> None:
    async with Member(house.url, "eva", PASSWORD) as member:
        for headers in ({}, {"Authorization": "token x"}, {"Authorization": "token "}):
            where = member.hub / "services/mutirao/internal/standing"
            async with member.http.get(where, params={"member": "tom"}, headers=headers) as answer:
                assert answer.status == 404


def test_in_a_browser_the_words_are_theirs(house: Service, browser: Browser) -> None:
    """A suspended person logs in, reads why in their language, opens the reading room, sees their notebook."""

    async def work() -> None:
        async with at_work(house, "nina") as (member, _):
            restrict(house, "nina", "account")
            await gone(member)

    # Playwright's loop runs in this thread.
    with ThreadPoolExecutor(1) as aside:
        aside.submit(asyncio.run, work()).result()
    page = person(browser, "pt-BR").new_page()
    log_in(page, house.url, "nina", PASSWORD)
    page.goto(f"{house.url}/hub/spawn")
    expect(page.locator("#restricted")).to_contain_text("suspensa")
    page.locator("#start").click()
    page.wait_for_url("**/lab**")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    expect(page.get_by_text("mine.ipynb").first).to_be_visible()
    page.context.close()
