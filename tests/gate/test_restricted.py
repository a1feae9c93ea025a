"""Who may not run code: told at the gate in the cell that was ended, and before a server is asked to start a kernel."""

import pytest

from mutirao.cases.letter import Halted
from tests.gate.house import TOKEN, execute, kinds, one, until
from tests.gate.test_execute import AUTH


async def test_a_cell_that_ran_ends_with_the_reason_once_and_those_behind_it_as_not_run(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        running, behind, silent = [
            await tab.send(execute(code, silent=code == "3")) for code in ("while True: pass", "2", "3")
        ]
        await until(lambda: len(twin.frames) == 3)
        street.judge.restricted = {"ana"}
        refused = await tab.send(execute("please stop"))
        await until(lambda: "please stop" in street.judge.codes)
        await twin.sockets[0].close(code=1001)
        ended = await tab.answers(running)
        waited = await tab.answers(behind)
        assert kinds(await tab.answers(silent)) == ["status busy", "execute_reply", "status idle"]
        await tab.answers(refused)
        assert (await tab.closed())[0] == 1001
    assert kinds(ended) == kinds(waited) == ["status busy", "display_data", "error", "execute_reply", "status idle"]
    for answers, halted, ename in ((ended, Halted.RUNNING, "Ended"), (waited, Halted.CELL, "NotRun")):
        assert one(answers, "execute_reply")["ename"] == ename
        assert halted.own in one(answers, "display_data")["data"]["text/plain"]
        assert "/services/mutirao/case/M-2026-000007" in one(answers, "display_data")["data"]["text/plain"]


@pytest.mark.parametrize("restricted", [set(), {"bia"}])
async def test_a_server_that_goes_for_another_reason_ends_no_cell_so(street, twin, wire, restricted):
    street.judge.restricted = restricted
    async with street.tab("k-1", wire) as tab:
        await tab.send(execute("1"))
        await until(lambda: twin.frames)
        await twin.sockets[0].close(code=1001)
        received = await tab.ws.receive()
    assert (received.data, received.extra) == (1001, "")


STARTS = {
    "a kernel": ("POST", "api/kernels"),
    "a kernel, a slash behind": ("POST", "api/kernels/"),
    "a session": ("POST", "api/sessions"),
    "a session's other kernel": ("PATCH", "api/sessions/s"),
    "a restart": ("POST", "api/kernels/k-1/restart"),
}
OTHERS = {
    "a list": ("GET", "api/kernels"),
    "sessions": ("GET", "api/sessions"),
    "an interrupt": ("POST", "api/kernels/k-1/interrupt"),
    "an end": ("DELETE", "api/kernels/k-1"),
}


@pytest.mark.parametrize(("method", "path"), STARTS.values(), ids=STARTS)
async def test_a_start_is_refused_with_the_reason_before_it_reaches_a_server(street, twin, method, path):
    async with street.http.request(method, street.url(path), json={}, headers=AUTH) as answer:
        assert answer.headers["X-From"] == "the server"
    twin.requests.clear()
    for street.judge.restricted in ({"ana"}, {"bia"}):
        street.actors.name = "bia"
        async with street.http.request(method, street.url(path), json={}, headers=AUTH) as answer:
            said = await answer.json()
            assert (answer.status, said["reason"]) == (403, "Restricted")
            assert Halted.KERNEL.own in said["message"]
    assert {request.method for request in twin.requests} == {"GET"}
    assert street.gate.counters["refused_starts"] == 2
    assert street.judge.saw == []


@pytest.mark.parametrize(("method", "path"), OTHERS.values(), ids=OTHERS)
async def test_what_starts_nothing_passes(street, twin, method, path):
    street.judge.restricted = {"ana"}
    async with street.http.request(method, street.url(path), headers=AUTH) as answer:
        assert answer.headers["X-From"] == "the server"


async def test_a_stranger_does_not_learn_who_is_restricted(street, twin):
    street.judge.restricted = {"ana"}
    for path in ("api/kernels", "api/sessions"):
        async with street.http.post(street.url(path), json={}) as answer:
            assert (answer.status, await answer.json()) == (403, {"message": "Forbidden"})


async def test_a_session_is_no_way_to_a_kernels_channels(street, twin):
    headers = {"Authorization": f"token {TOKEN}", "Upgrade": "websocket", "Connection": "Upgrade"}
    async with street.http.get(street.url("api/sessions/k-1/channels"), headers=headers) as answer:
        assert answer.status == 200
    assert twin.sockets == []
