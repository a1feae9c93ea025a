"""Invite links: who holds one signs up without waiting for approval; the first operator enters by one.

One file an invite, named by the hash of its token, so that reading the folder gives nobody a way in. Using an invite
renames its file, which only one of two racing sign-ups can do.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mutirao.errors import ConfigError

INVITE_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Invites:
    """The invites in a folder; `clock` gives aware UTC times."""

    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def issue(self, *, operator: bool, life: timedelta = INVITE_LIFE) -> str:
        """A new token, good for one sign-up until its life ends; ConfigError where it can't be kept."""
        if life <= timedelta(0):
            raise ConfigError(f"An invite for {life.days} days has lapsed before it is used: give it 1 day or more.")
        token = secrets.token_urlsafe(24)
        try:
            ends = self.clock() + life
        except OverflowError:
            raise ConfigError(f"An invite for {life.days} days ends after the year 9999: give it fewer days.") from None
        fresh = self._file(token).with_suffix(".new")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.write_text(json.dumps({"operator": operator, "ends_at": ends.isoformat()}))
            fresh.rename(self._file(token))
        except OSError as error:
            raise ConfigError(f"The invite can't be kept in {self.folder}: {error.strerror}.") from error
        return token

    def valid(self, token: str) -> bool:
        """True while the invite is unused and alive."""
        return self._alive(self._file(token)) is not None

    def for_operator(self, token: str) -> bool:
        """True while the invite is valid and makes an operator."""
        held = self._alive(self._file(token))
        return held is not None and bool(held["operator"])

    def use(self, token: str, member: str) -> bool:
        """Spend the invite on a member; False where it is not valid, or somebody was quicker."""
        file = self._file(token)
        held = self._alive(file)
        if held is None:
            return False
        spent = file.with_suffix(".used")
        try:
            os.link(file, spent)
            file.unlink()
        except OSError:
            return False
        self._write(spent, held | {"member": member, "used_at": self.clock().isoformat()})
        return True

    def operators(self) -> set[str]:
        """The members who came in by an operator's invite and have not been made operators yet."""
        return {held["member"] for _, held in self._used() if held["operator"] and "entered_at" not in held}

    def entered(self, member: str) -> None:
        """Note that a member was made an operator, or never will be: an invite makes one once.

        From then on the hub's own record counts, so that whoever was demoted or deleted stays so.
        """
        for file, held in self._used():
            if held["member"] == member and "entered_at" not in held:
                self._write(file, held | {"entered_at": self.clock().isoformat()})

    def operator_provided(self) -> bool:
        """True where an operator came in by invite, or holds one that is valid still."""
        if any(held["operator"] for _, held in self._used()):
            return True
        held = (self._alive(file) for file in self.folder.glob("*.invite"))
        return any(one is not None and one["operator"] for one in held)

    def _used(self) -> list[tuple[Path, dict[str, Any]]]:
        found = [(file, json.loads(file.read_text())) for file in self.folder.glob("*.used")]
        return [(file, held) for file, held in found if "member" in held]

    def _alive(self, file: Path) -> dict[str, Any] | None:
        try:
            held: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError):
            return None
        return held if datetime.fromisoformat(held["ends_at"]) > self.clock() else None

    def _write(self, file: Path, held: dict[str, Any]) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(held))
        fresh.replace(file)

    def _file(self, token: str) -> Path:
        return self.folder / f"{hashlib.sha256(token.encode(errors='replace')).hexdigest()}.invite"
