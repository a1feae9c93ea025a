"""What stands on this machine, written down below /run so that it outlives the process that built it."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox.spec import Running, RuntimeSpec, Walls, from_json, to_json


@dataclass(frozen=True, slots=True)
class Record:
    """A runtime: its walls, what was asked for, and the server once it was started."""

    walls: Walls
    spec: RuntimeSpec
    running: Running | None = None


class Records:
    """One file a runtime in `place`, shared by the processes of a service: each call reads what is there now.

    Files are written whole or not at all, and hold tokens, so root alone reads them.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._seen: dict[tuple[str, int], Record] = {}
        self._threads = threading.RLock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One thread of one process at a time; for what must agree with the records."""
        with self._threads:
            descriptor = os.open(self._place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def all(self) -> tuple[Record, ...]:
        """What stands; a damaged file counts as none, and what it spoke of is found without it."""
        seen: dict[tuple[str, int], Record] = {}
        for path in self._place.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                key = (path.name, path.stat().st_mtime_ns)
                try:
                    seen[key] = self._seen.get(key) or from_json(Record, path.read_text())
                except SandboxError:
                    path.unlink(missing_ok=True)
        self._seen = seen
        return tuple(seen.values())

    def names(self) -> frozenset[str]:
        return frozenset(record.walls.id for record in self.all())

    def addresses(self) -> frozenset[str]:
        return frozenset(record.walls.address for record in self.all())

    def last_address(self) -> str | None:
        """The address that was given last; the next one is given after it."""
        try:
            return (self._place / "last-address").read_text() or None
        except FileNotFoundError:
            return None

    def members(self) -> frozenset[str]:
        return frozenset(record.walls.member for record in self.all())

    def write(self, record: Record) -> None:
        name = record.walls.id
        draft = self._place / f"{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(to_json(record))
        draft.rename(self._place / f"{name}.json")
        if not record.walls.home:
            (self._place / "last-address").write_text(record.walls.address)

    def drop(self, name: str) -> None:
        for ending in ("json", "new", "status"):
            (self._place / f"{name}.{ending}").unlink(missing_ok=True)
