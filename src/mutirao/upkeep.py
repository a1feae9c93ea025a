"""What the supervisor does from time to time: signs the audit's head, lets personal data expire, cuts the logs.

None of it ever stops the service: what fails is logged, and stands in `audit/state.json` for doctor and metrics.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mutirao import logs
from mutirao.config import Settings
from mutirao.errors import StoreError
from mutirao.sandbox.doctor import Check, State
from mutirao.store import heads

log = logging.getLogger(__name__)

LOOK_S = 10
DAY_S = 86_400
FIRST_SWEEP_S = 300
CHORE_TIMEOUT_S = 3_600


@dataclass(frozen=True, slots=True)
class Signed:
    """The last head that was signed and written; `error` says why the latest attempt failed."""

    number: int = 0
    hash: str = ""
    signed_at: str = ""
    error: str = ""


def state_file(data: Path) -> Path:
    """Where the last head stands for doctor and metrics; everybody may read it."""
    return data / "audit" / "state.json"


def last_signed(data: Path) -> Signed:
    """The last head; none where none was ever signed or the file is damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Signed(**json.loads(state_file(data).read_text()))
    return Signed()


def key_file(data: Path) -> Path:
    """The key that signs heads; root's alone."""
    return data / "audit" / "key"


class Upkeep:
    """The chores of one instance; those on the store run as the owner of its folder."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.data = settings.service.data
        self.environment = dict(environment) | {"MUTIRAO_DATABASE": settings.store_url}

    def prepare(self) -> None:
        """The folder and the key, made at the first start."""
        folder = self.data / "audit"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        public = heads.Key.make(key_file(self.data)).public
        (folder / "key.pub").write_text(public + "\n")

    async def run(self) -> None:
        """Do every chore when it is due; until cancelled."""
        head_due, sweep_due = 0.0, time.monotonic() + FIRST_SWEEP_S
        while True:
            try:
                self.cut_logs()
                if time.monotonic() >= head_due:
                    head_due = time.monotonic() + self.settings.audit.every_minutes * 60
                    await self.sign()
                if time.monotonic() >= sweep_due:
                    sweep_due = time.monotonic() + DAY_S
                    await self.sweep()
            except Exception:
                log.exception("a chore failed; the service goes on")
            await asyncio.sleep(LOOK_S)

    def cut_logs(self) -> None:
        """Cut what has grown too long."""
        rules = self.settings.logs
        for file in (self.data / "logs").glob("*.log"):
            try:
                logs.rotate(file, rules.max_mb << 20, rules.keep)
            except OSError as error:
                log.error("the log %s can't be cut: %s", file, error)

    async def sign(self) -> Signed:
        """Sign the audit's head and add it to the file, where the chain has grown since the last one."""
        last = last_signed(self.data)
        try:
            found = await self._chore("head", str(last.number))
            if last.number and found["known"] != last.hash:
                raise StoreError(
                    f"The audit's entry {last.number} is not the one that was signed at {last.signed_at}: "
                    "run mutirao audit verify."
                )
            now = last
            if found["number"] > last.number:
                head = heads.Key.open(key_file(self.data)).sign(found["number"], found["hash"], datetime.now(UTC))
                heads.append(self.settings.heads_file, head)
                now = Signed(head.number, head.hash, head.signed_at)
            elif last.error:
                now = Signed(last.number, last.hash, last.signed_at)
        except (StoreError, OSError) as error:
            log.error("the audit's head can't be signed: %s", error)
            now = Signed(last.number, last.hash, last.signed_at, str(error))
        if now != last:
            with contextlib.suppress(OSError):
                fresh = state_file(self.data).with_suffix(".new")
                fresh.write_text(json.dumps(asdict(now)))
                fresh.chmod(0o644)
                fresh.rename(state_file(self.data))
        return now

    async def sweep(self) -> None:
        """Let personal data expire."""
        if self.settings.privacy.keep_days:
            try:
                gone = await self._chore("sweep", str(self.settings.privacy.keep_days))
                if gone["cases"] or gone["entries"]:
                    log.warning("personal data expired: %s cases, %s audit entries", gone["cases"], gone["entries"])
            except (StoreError, OSError) as error:
                log.error("personal data can't expire: %s", error)

    async def _chore(self, *arguments: str) -> dict[str, Any]:
        owner = (self.data / "store").stat()
        stepped_down = os.geteuid() == 0 and owner.st_uid != 0
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mutirao.store.chores",
            *arguments,
            env=self.environment,
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            user=owner.st_uid if stepped_down else None,
            group=owner.st_gid if stepped_down else None,
            extra_groups=[] if stepped_down else None,
            umask=~owner.st_mode & 0o777,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), CHORE_TIMEOUT_S)
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            *_, said = err.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise StoreError(said)
        found: dict[str, Any] = json.loads(out)
        return found


def examine(settings: Settings) -> list[Check]:
    """What doctor says about the audit."""
    data = settings.service.data
    if not state_file(data).exists():
        return [Check("audit", State.NOTE, "no head was signed yet", "The service signs one when it runs.")]
    last = last_signed(data)
    found = f"entry {last.number} was signed at {last.signed_at[:19]}, into {settings.heads_file}"
    if last.error:
        return [Check("audit", State.LACK, last.error, f"Make {settings.heads_file} writable, or change audit.heads.")]
    if settings.audit.heads is None and os.path.lexists(data):
        do = "Set audit.heads to a file that this machine's root can't rewrite."
        return [Check("audit", State.NOTE, found, do)]
    return [Check("audit", State.OK, found)]
