"""Host uids for members: one each, from a reserved range, written down for ever and never given twice.

The register is a file of JSON lines, `{"uid": 200000, "member": "ada"}`, only ever appended to and synced before the
uid is used. Files of a member who has gone therefore never become somebody else's.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mutirao.errors import SandboxError


class Uids:
    """The register at `path`; safe to use from several threads and processes."""

    def __init__(self, path: Path, first: int, count: int) -> None:
        if first < 1000 or count < 1:
            raise SandboxError(f"uid range {first} + {count}: must start at 1000 or above and hold at least one uid.")
        self._path = path
        self._first = first
        self._count = count

    @property
    def first(self) -> int:
        return self._first

    @property
    def last(self) -> int:
        return self._first + self._count - 1

    def of(self, member: str) -> int:
        """The member's uid, the same each time; a new member gets the next one of the range."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return self._given(descriptor, member)
        finally:
            os.close(descriptor)

    def all(self) -> dict[str, int]:
        """Every member's uid."""
        return dict(_parse(self._path, self._path.read_bytes()).members) if self._path.exists() else {}

    def _given(self, descriptor: int, member: str) -> int:
        content = b""
        while chunk := os.read(descriptor, 1 << 20):
            content += chunk
        register = _parse(self._path, content)
        if member in register.members:
            return register.members[member]
        uid = max(register.highest, self._first - 1) + 1
        lines = ""
        if register.torn:
            # The torn line may have been handed out: its uid is written down as nobody's and stays unused for good.
            os.ftruncate(descriptor, register.sound)
            lines = json.dumps({"uid": uid, "member": None}) + "\n"
            uid += 1
        if uid > self.last:
            raise SandboxError(
                f"no host uid is left for {member!r}: all {self._count} of {self._first}-{self.last} are given. "
                "Raise sandbox.uid_count; uids are never reused."
            )
        lines += json.dumps({"uid": uid, "member": member}) + "\n"
        try:
            os.write(descriptor, lines.encode())
            os.fsync(descriptor)
        except OSError as error:
            raise SandboxError(f"{self._path} can't be written ({error.strerror}): free some space there.") from error
        return uid


@dataclass(frozen=True, slots=True)
class _Register:
    """What the file says: `sound` is the length of its readable part in bytes, `torn` whether a last line is not."""

    members: dict[str, int]
    highest: int
    sound: int
    torn: bool


def _parse(path: Path, content: bytes) -> _Register:
    members: dict[str, int] = {}
    highest = 0
    sound = 0
    lines = content.split(b"\n")
    rest = lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            uid, member = entry["uid"], entry["member"]
            if type(uid) is not int or not isinstance(member, str | None):
                raise TypeError("shape")
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not rest:
                return _Register(members, highest, sound, torn=True)
            raise SandboxError(
                f"{path} line {number} is damaged: {line[:80]!r}. Restore the file from a backup, or repair that line "
                "by the owner of the files in the member's home; never give its uid to somebody else."
            ) from None
        if member is not None:
            members[member] = uid
        highest = max(highest, uid)
        sound += len(line) + 1
    return _Register(members, highest, sound, torn=bool(rest))
