"""What stands on this machine, written down below /run so that it outlives the process that built it."""

import os
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
    """One file a runtime in `place`; written whole or not at all. They hold tokens, so root alone reads them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._known: dict[str, Record] = {}

    def all(self) -> tuple[Record, ...]:
        return tuple(self._known.values())

    def names(self) -> frozenset[str]:
        return frozenset(self._known)

    def addresses(self) -> frozenset[str]:
        return frozenset(record.walls.address for record in self.all())

    def members(self) -> frozenset[str]:
        return frozenset(record.walls.member for record in self.all())

    def load(self) -> None:
        """Read what an earlier process wrote; a damaged record is dropped, its remains are found without it."""
        for path in self._place.glob("*.json"):
            try:
                self._known[path.stem] = from_json(Record, path.read_text())
            except SandboxError:
                path.unlink()

    def write(self, record: Record) -> None:
        name = record.walls.id
        draft = self._place / f"{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(to_json(record))
        draft.rename(self._place / f"{name}.json")
        self._known[name] = record

    def drop(self, name: str) -> None:
        self._known.pop(name, None)
        for ending in ("json", "new"):
            (self._place / f"{name}.{ending}").unlink(missing_ok=True)
