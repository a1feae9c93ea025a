"""The broker's journal: who asked for what, when, and what came of it; lines of JSON, only ever appended to."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the socket, as the kernel names it."""

    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Journal:
    """The file at `path`, readable by root alone; `clock` gives aware UTC times."""

    path: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def write(self, peer: Peer, act: str, about: dict[str, object], outcome: str) -> None:
        """Append one line; a disk that is full must not keep runtimes from being stopped, so it is only logged."""
        entry = {"at": self.clock().isoformat(), "uid": peer.uid, "pid": peer.pid, "act": act, **about}
        text = json.dumps(entry | {"outcome": outcome}) + "\n"
        try:
            # Opened each time: whoever rotates it by renaming needs to tell nobody.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("%s can't be written (%s); what was to be written: %s", self.path, error.strerror, text.strip())
