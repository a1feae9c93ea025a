"""What the hub tells a member in the cells that are running."""

import asyncio

from mutirao.gate.announcement import SECRET_HEADER
from tests.gate.house import SECRET, execute, request_of, until

OOM = {"kind": "out-of-memory", "owner": "ana", "server": "", "memory_mb": 512}


async def announce(street, body: object, secret: str = SECRET) -> int:
    headers = {SECRET_HEADER: secret}
    async with street.http.post(f"{street.gate_url}/announce", json=body, headers=headers) as answer:
        return answer.status


async def test_a_running_cell_is_told_and_a_finished_one_is_not(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        done, running = await tab.send(execute("1")), await tab.send(execute("2"))
        await until(lambda: len(twin.frames) == 2)
        reply = {**request_of("execute_reply", {"execution_count": 1}), "parent_header": done}
        await twin.sockets[0].send_frame(*twin.frame(reply, wire))
        await tab.receive()
        assert await announce(street, OOM) == 200
        told = await tab.receive()
    assert told["parent_header"]["msg_id"] == running["msg_id"]
    assert "512 MiB" in told["content"]["data"]["text/plain"]


async def test_only_whoever_knows_the_secret_announces(street, twin):
    assert await announce(street, OOM, "wrong") == 403


async def test_an_unknown_announcement_is_refused(street, twin):
    assert await announce(street, {**OOM, "kind": "sale"}) == 400


async def test_a_client_that_never_reads_does_not_hold_the_hub_up(street, twin, monkeypatch):
    async def never(notice):
        await asyncio.Event().wait()

    monkeypatch.setattr("mutirao.gate.app.ANNOUNCE_S", 0.05)
    async with street.tab("k-1"):
        await until(lambda: street.gate._relays)
        (relay,) = street.gate._relays
        relay.announce = never
        assert await asyncio.wait_for(announce(street, OOM), 3) == 200
    for task in asyncio.all_tasks():
        if "_tell" in str(task.get_coro()):
            task.cancel()
