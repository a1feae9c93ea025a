"""`python -m mutirao.hub.forward`: the forwarder as a process; settings come from the environment.

MUTIRAO_FORWARDER_ADDRESS and _PORT (where runtimes reach it), MUTIRAO_HUB_URL, MUTIRAO_BROKER_SOCKET, and
MUTIRAO_VISITORS (1 where others than its own member may come to a runtime).
"""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from mutirao.hub.doors import Doors
from mutirao.hub.forwarder import Forwarder, make_app
from mutirao.process import required, run
from mutirao.sandbox.client import Client

MAX_LINE_BYTES = 8190
BROKER_RESTARTS_S = 10.0
MOST_CONNECTIONS = 48
"""Of one runtime; its server holds a handful."""


async def serve(environment: Mapping[str, str]) -> None:
    """Serve until told to stop."""
    told_to_stop = asyncio.Event()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    forwarder = Forwarder(
        required(environment, "MUTIRAO_HUB_URL"),
        Client(Path(required(environment, "MUTIRAO_BROKER_SOCKET")), BROKER_RESTARTS_S),
        visitors=environment.get("MUTIRAO_VISITORS") == "1",
    )
    runner = web.AppRunner(
        make_app(forwarder),
        access_log=None,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        keepalive_timeout=15,
        shutdown_timeout=2,
    )
    await runner.setup()
    address, port = required(environment, "MUTIRAO_FORWARDER_ADDRESS"), required(environment, "MUTIRAO_FORWARDER_PORT")
    assert runner.server
    doors = Doors(runner.server, MOST_CONNECTIONS)
    server = await asyncio.get_running_loop().create_server(doors, address, int(port))
    try:
        await told_to_stop.wait()
    finally:
        server.close()
        await runner.cleanup()


def main() -> int:
    """Exit status 2 where the environment is wrong."""
    return run(lambda: asyncio.run(serve(os.environ)))


if __name__ == "__main__":
    sys.exit(main())
