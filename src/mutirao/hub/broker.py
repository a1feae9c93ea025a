"""`python -m mutirao.hub.broker`: the broker as a process, as root; the supervisor says by environment what it needs.

MUTIRAO_BROKER is one JSON object: the settings, the path of the socket, the forwarder's port, and the uids of hub and
forwarder. Exit status 78 (EX_CONFIG of sysexits.h) means that trying again is no use: the last line says why.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mutirao.config import Settings
from mutirao.errors import ConfigError, MutiraoError
from mutirao.hub.recipe import Recipe
from mutirao.part import EX_CONFIG
from mutirao.sandbox import ask
from mutirao.sandbox.ask import Ask
from mutirao.sandbox.broker import Broker
from mutirao.sandbox.journal import Journal
from mutirao.sandbox.rootless import RootlessSandboxes
from mutirao.sandbox.runtimes import Runtimes
from mutirao.sandbox.sandboxes import RUN, Sandboxes

VARIABLE = "MUTIRAO_BROKER"
MAX_SOCKET = 107
"""Bytes of a socket's path (unix(7))."""

HUB_MAY: frozenset[type[Ask]] = frozenset({ask.Start, ask.Poll, ask.Stop, ask.Kills, ask.Log, ask.Known, ask.Keep})
FORWARDER_MAY: frozenset[type[Ask]] = frozenset({ask.Who})


@dataclass(frozen=True, slots=True)
class Charge:
    """What the supervisor charges a broker with; `hub_uid` and `forwarder_uid` may ask, and root."""

    settings: Settings
    socket: str
    forwarder_port: int
    hub_uid: int
    forwarder_uid: int

    def dump(self) -> dict[str, str]:
        """The environment variable that carries it."""
        return {VARIABLE: json.dumps(asdict(self) | {"settings": self.settings.model_dump(mode="json")})}

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "Charge":
        """The charge of the running process."""
        text = environment.get(VARIABLE)
        if not text:
            raise ConfigError(f"{VARIABLE} is not set: the broker is started by `mutirao up`.")
        values = json.loads(text)
        return cls(**values | {"settings": Settings.model_validate(values["settings"])})

    def rights(self) -> dict[int, frozenset[type[Ask]]]:
        """What each uid may ask; where all parts are one user, that one may ask for everything."""
        found: dict[int, frozenset[type[Ask]]] = {0: HUB_MAY | FORWARDER_MAY}
        for uid, may in ((self.hub_uid, HUB_MAY), (self.forwarder_uid, FORWARDER_MAY)):
            found[uid] = found.get(uid, frozenset()) | may
        return found


def open_sandboxes(settings: Settings, forwarder_port: int) -> Runtimes:
    """The sandboxes of an instance, as this user can build them; what stands is known below /run, or in the data."""
    rules = settings.sandbox
    if os.geteuid() != 0:
        return RootlessSandboxes(settings.service.data / "sandbox", hub_ports=(forwarder_port,))
    return Sandboxes(
        settings.service.data / "sandbox",
        subnet=rules.subnet,
        uid_first=rules.uid_first,
        uid_count=rules.uid_count,
        hub_ports=(forwarder_port,),
    )


def socket_path(settings: Settings, sandboxes: Runtimes) -> Path:
    """Where the broker of these sandboxes is asked: with root short, whatever the data folder's name."""
    if isinstance(sandboxes, RootlessSandboxes):
        place = settings.service.data / "run" / "broker.sock"
        if len(str(place)) > MAX_SOCKET:
            raise ConfigError(f"service.data: {settings.service.data} is too long a name for a socket in it.")
        return place
    return RUN.with_name(f"mutirao-{sandboxes.instance}.sock")


async def serve(charge: Charge) -> None:
    """Make the machine ready, then serve until SIGTERM; runtimes stay."""
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    sandboxes = open_sandboxes(charge.settings, charge.forwarder_port)
    journal = Journal(charge.settings.service.data / "logs" / "broker-audit.jsonl")
    broker = Broker(
        sandboxes,
        Recipe(charge.settings).spec,
        charge.rights(),
        journal,
        sandboxes.knows,
    )
    await broker.open()
    if told_to_stop.is_set():
        return
    server = await broker.listen(Path(charge.socket))
    mending = asyncio.create_task(broker.mend())
    try:
        await told_to_stop.wait()
    finally:
        server.close()
        mending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await mending


def main() -> int:
    """Exit status 78 where the machine or the settings don't allow any walls."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(Charge.load(os.environ)))
    except MutiraoError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
