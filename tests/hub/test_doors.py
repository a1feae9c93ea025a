"""One address holds so many connections; others are not its business."""

import asyncio
import contextlib

from mutirao.hub.doors import Doors


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


async def speaks(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    """Whether there is an answer rather than an end."""
    reader, writer = streams
    try:
        writer.write(b"x")
        return await reader.read(1) == b"x"
    except ConnectionError:
        return False


async def test_the_connection_too_many_is_dropped_and_a_place_that_is_left_is_free() -> None:
    doors = Doors(Echo, most=2)
    server = await asyncio.get_running_loop().create_server(doors, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]

    async def knock(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))

    async with server:
        first, second, third = [await knock("127.0.0.2") for _ in range(3)]
        assert [await speaks(one) for one in (first, second, third)] == [True, True, False]
        other = await knock("127.0.0.3")
        assert await speaks(other)

        first[1].close()
        await first[1].wait_closed()
        async with asyncio.timeout(5):
            while doors.open["127.0.0.2"] > 1:  # noqa: ASYNC110 - the other end closes when it hears of it
                await asyncio.sleep(0.01)
        again = await knock("127.0.0.2")
        assert await speaks(again)
        for _, writer in (second, third, other, again):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
