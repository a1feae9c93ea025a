"""An instance as its operator's commands meet it: its store, as the user whose files it is; who gives the command."""

import contextlib
import fcntl
import getpass
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from mutirao import config
from mutirao.errors import ConfigError
from mutirao.store import audit
from mutirao.store.store import Store


def actor() -> str:
    """Who runs the command, as the audit names them: no member can be called so."""
    try:
        return f"cli:{os.environ.get('SUDO_USER') or getpass.getuser()}"
    except (KeyError, OSError):
        return f"cli:uid {os.getuid()}"


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Be the owner of a folder for a while, where this is root: files made in it are theirs, with a mode like its."""
    found = folder.stat() if folder.exists() else None
    if found is None or os.geteuid() != 0 or found.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(found.st_gid)
    os.seteuid(found.st_uid)
    before = os.umask(~found.st_mode & 0o777)
    try:
        yield
    finally:
        os.umask(before)
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextlib.contextmanager
def open_store(settings: config.Settings, patience_s: float = 60) -> Iterator[Store]:
    """The store of this instance, opened as the user whose files it is."""
    with as_owner(settings.service.data / "store"):
        store = Store(settings.store_url, patience_s)
        try:
            yield store
        finally:
            store.close()


def store_exists(settings: config.Settings) -> bool:
    """False before the first start, where the store is SQLite."""
    url = make_url(settings.store_url)
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()


def note(settings: config.Settings, act: str, **content: Any) -> None:
    """Write an administrator's act into the audit; before the first start there is none."""
    if store_exists(settings):
        with open_store(settings) as store, store.write() as session:
            audit.append(session, datetime.now(UTC), act, actor=actor(), subject=None, content=content)


@contextlib.contextmanager
def stopped(data: Path) -> Iterator[None]:
    """ConfigError where the service runs; while this holds it can't start."""
    with (data / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"Mutirão runs with {data}: stop it first.") from error
        yield
