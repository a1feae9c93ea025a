"""How many connections to kernels one member may have."""

import pytest
from aiohttp import WSServerHandshakeError

from tests.gate.house import execute, kinds, until
from tests.gate.test_execute import AUTH

UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "A" * 22 + "==",
}  # fmt: skip


async def test_one_more_is_refused_in_words_and_there_is_room_again_when_one_ends(street, twin):
    street.gate.max_connections = 2
    url = street.url("api/kernels/k-1/channels")
    async with street.tab("k-1") as first:
        async with street.tab("k-2"):
            async with street.http.get(url, headers=AUTH | UPGRADE) as answer:
                assert answer.status == 429
                said = (await answer.json())["message"]
            assert "ana has 2 connections" in said
            assert "close browser tabs" in said
            assert kinds(await first.run("please stop"))[-1] == "status idle", "those that are open go on"
        await until(lambda: len(street.gate._relays) == 1)
        async with street.tab("k-3") as third:
            await third.send(execute("1"))
    async with street.http.get(f"{street.gate_url}/metrics") as answer:
        assert "mutirao_gate_too_many_connections_total 1.0" in await answer.text()


async def test_only_whom_the_server_accepts_uses_a_member_s_room(street, twin):
    street.gate.max_connections = 1
    url = street.url("api/kernels/k-1/channels")
    for _ in range(3):
        with pytest.raises(WSServerHandshakeError) as refused:
            async with street.http.ws_connect(url):
                pass
        assert refused.value.status == 418, "the server's own refusal"
    async with street.tab("k-1"):
        pass
    await until(lambda: not street.gate._open)
    assert not street.gate._connecting
