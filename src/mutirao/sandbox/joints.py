"""What keeps the networks of rootless runtimes: for each a holder of its namespaces and a pasta that carries.

Both are processes of the service's user, written down in the runtime's directory as `holder` and `pasta`, so that a
service that comes back finds them; `own` holds the host's addresses that the filter inside was loaded with.
"""

import contextlib
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import pasta, processes
from mutirao.sandbox.pasta import Holder
from mutirao.sandbox.runtimes import resolvers
from mutirao.sandbox.spec import RuntimeSpec, Walls, from_json, to_json


@dataclass(frozen=True, slots=True)
class Joint:
    """The two processes of one runtime's network."""

    holder: Holder
    carrier: Holder


class Joints:
    """All joints that one process of the service starts, mends and ends; each stands in its runtime's `place`."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def hold(self, place: Path) -> Holder:
        """Make a runtime's namespaces."""
        holder, process = pasta.hold()
        self.reap(process)
        _write(place / "holder", to_json(holder))
        return holder

    def load(self, place: Path, spec: RuntimeSpec, holder: Holder, own: tuple[str, ...]) -> None:
        """Load the filter inside, which keeps the runtime from the host's `own` addresses."""
        pasta.load(holder, pasta.rules(spec.network, resolvers(spec), own))
        _write(place / "own", " ".join(own))

    def connect(self, place: Path, walls: Walls, holder: Holder) -> None:
        """Start the pasta; returns once the host reaches the server's port."""
        carrier = pasta.connect(holder, walls.address, walls.port, place / "pasta.log")
        self.reap(carrier)
        found = processes.stat(carrier.pid)
        _write(place / "pasta", to_json(Holder(carrier.pid, found.start_time if found else 0)))

    def of(self, place: Path) -> Joint | None:
        """What is written down of a runtime's joint; None where it is not whole."""
        holder, carrier = (_read(place / part) for part in ("holder", "pasta"))
        return Joint(holder, carrier) if holder and carrier else None

    def mend(self, place: Path, walls: Walls, spec: RuntimeSpec, own: tuple[str, ...]) -> bool:
        """Load a filter that is gone or knows other addresses than `own`, start a pasta that died; True if need was."""
        joint, mended = self.of(place), False
        if joint is None or not joint.holder.alive():
            return False
        if _own(place) != own or not pasta.filtered(joint.holder):
            self.load(place, spec, joint.holder, own)
            mended = True
        if not joint.carrier.alive():
            self.connect(place, walls, joint.holder)
            mended = True
        return mended

    def end(self, place: Path) -> None:
        """End both processes; missing ones are fine."""
        for name in ("pasta", "holder"):
            if found := _read(place / name):
                found.end()
                end = time.monotonic() + 5
                while found.alive() and time.monotonic() < end:
                    time.sleep(0.005)
        self.reap()

    def reap(self, *started: "subprocess.Popen[bytes]") -> None:
        """Remember processes until they have ended, so that none stays a zombie."""
        with self._lock:
            self._started = [process for process in (*self._started, *started) if process.poll() is None]


def _own(place: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        return tuple((place / "own").read_text().split())
    return ()


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


def _read(path: Path) -> Holder | None:
    with contextlib.suppress(OSError, SandboxError):
        return from_json(Holder, path.read_text())
    return None
