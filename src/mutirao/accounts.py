"""Which host uid each part of the service runs as: one each, counted down from the members' range.

The offsets are fixed for ever, because files on the disk carry them. STORE is the group of the database's folder,
which gate and pages both write and the warden reads; nobody has it as a uid.
"""

import contextlib
import os
import stat
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from mutirao.config import Settings
from mutirao.errors import ConfigError


class Offset(IntEnum):
    """How far below the first member's uid a part's own lies."""

    STORE = 1
    HUB = 2
    PROXY = 3
    GATE = 4
    PAGES = 5
    FORWARDER = 6
    WARDEN = 7


UMASK = 0o077
STORE_UMASK = 0o007


@dataclass(frozen=True, slots=True)
class Account:
    """Host uid and gid of a part, and the umask it writes with."""

    uid: int
    gid: int
    umask: int = UMASK


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of one instance; None for all of them where it does not run as root and has but its own."""

    first_member: int
    separate: bool = True

    @property
    def hub(self) -> Account | None:
        return self._own(Offset.HUB)

    @property
    def proxy(self) -> Account | None:
        return self._own(Offset.PROXY)

    @property
    def forwarder(self) -> Account | None:
        return self._own(Offset.FORWARDER)

    @property
    def gate(self) -> Account | None:
        return self._sharing(Offset.GATE)

    @property
    def pages(self) -> Account | None:
        return self._sharing(Offset.PAGES)

    @property
    def warden(self) -> Account | None:
        return self._sharing(Offset.WARDEN)

    def _own(self, offset: Offset) -> Account | None:
        number = self.first_member - offset
        return Account(number, number) if self.separate else None

    def _sharing(self, offset: Offset) -> Account | None:
        group = self.first_member - Offset.STORE
        return Account(self.first_member - offset, group, STORE_UMASK) if self.separate else None


def accounts(settings: Settings) -> Accounts:
    """The accounts of an instance with these settings, as its supervisor's rights allow."""
    return Accounts(settings.sandbox.uid_first, os.geteuid() == 0)


def own(path: Path, mode: int, account: Account | None) -> None:
    """Make a folder, or give the one that stands its mode and owner: root's without an account."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, account.uid if account else 0, account.gid if account else 0)
        path.chmod(mode)
    except OSError as error:
        raise ConfigError(
            f"service.data: {path} can't be made or changed ({error.strerror}): choose another folder with --data."
        ) from error


def hand_over(folder: Path, account: Account | None) -> None:
    """Give the files below `folder` to their part, as an older version or another uid range left them.

    A part that was taken over may have put anything there: links are not followed, and a file with a second name, which
    could be somebody else's, stays whose it is.
    """
    if account is None:
        return
    file_mode = 0o666 & ~account.umask
    # Files in a folder that is shared get its group.
    folder_mode = 0o777 & ~account.umask | (stat.S_ISGID if account.umask == STORE_UMASK else 0)
    for _, folders, files, at in os.fwalk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
                try:
                    found = os.fstat(descriptor)
                    is_folder = stat.S_ISDIR(found.st_mode)
                    if not is_folder and (not stat.S_ISREG(found.st_mode) or found.st_nlink != 1):
                        continue
                    if (found.st_uid, found.st_gid) != (account.uid, account.gid):
                        os.fchown(descriptor, account.uid, account.gid)
                    os.fchmod(descriptor, folder_mode if is_folder else file_mode)
                finally:
                    os.close(descriptor)
