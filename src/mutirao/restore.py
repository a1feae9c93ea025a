"""A restore: everything in the backup is checked, the audit too, before anything is touched; then it takes the place.

What was there is put aside. Only files below the data folder are ever written, whatever the archive says.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sqlalchemy import inspect, make_url, text

from mutirao.accounts import Account, accounts
from mutirao.backup import CONFIG, FILE, FOLDER, FORMAT, HUB, IMAGE, STORE, TREE, BackupError, Item
from mutirao.backup import tar as system_tar
from mutirao.config import Settings
from mutirao.hub_tables import make_hub_tables
from mutirao.instance import as_owner, open_store, stopped
from mutirao.store import audit, copy
from mutirao.store.store import MIGRATION_PATIENCE_S, Store

_CHUNK = 1 << 20


def restore(settings: Settings, source: Path, *, force: bool, actor: str) -> list[str]:
    """Put the backup in place of the data folder; everything is checked before anything is touched."""
    data = settings.service.data
    if os.geteuid() != 0:
        raise BackupError("A restore sets owners of files: it needs root.")
    with tempfile.TemporaryDirectory(prefix=".mutirao-restore-") as spool:
        manifest, items = _unpack(source, Path(spool))
        last = _check_audit(Path(spool), items)
        data.mkdir(parents=True, exist_ok=True)
        with stopped(data):
            said = _make_room(settings, force=force)
            _put_files(data, Path(spool), items)
            _put_homes(data, source, items)
            _put_databases(settings, Path(spool), items)
    with open_store(settings, MIGRATION_PATIENCE_S) as store, store.write() as session:
        content = {"made_at": manifest["made_at"], "entry": last, "mutirao": manifest["mutirao"]}
        audit.append(session, datetime.now(UTC), "service.restore", actor=actor, subject=None, content=content)
    said.append(f"Restored the backup of {manifest['made_at'][:19]} UTC; the audit holds to entry {last}.")
    if any(item.kind == CONFIG for item in items):
        said.append(f"The configuration of then is in {data / 'restored-mutirao.toml'}.")
    said.append(
        "Put the old file of signed heads aside: heads that were signed after the backup name entries that are gone."
    )
    return said


def _unpack(source: Path, spool: Path) -> tuple[dict[str, Any], list[Item]]:
    """Read the whole file once: every member against the manifest; what is small lies in `spool` afterwards."""
    seen: dict[str, tuple[int, str]] = {}
    manifest: dict[str, Any] | None = None
    spool.chmod(0o755)
    try:
        with tarfile.open(source, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or manifest is not None or not _plain(member.name) or member.name in seen:
                    raise BackupError(f"{source} holds {member.name!r}, which no backup does: it is not one of ours.")
                if member.name == "manifest.json":
                    manifest = json.loads(content.read())
                    continue
                seen[member.name] = (member.size, _spool(content, spool / member.name))
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise BackupError(f"{source} is damaged or no backup: {error}.") from error
    if manifest is None:
        raise BackupError(f"{source} ends too early: it was cut off.")
    if manifest.get("format") != FORMAT:
        raise BackupError(f"{source} has the format {manifest.get('format')}: a newer Mutirão wrote it.")
    try:
        items = [Item(**values) for values in manifest["items"]]
    except (TypeError, KeyError) as error:
        raise BackupError(f"{source} has a manifest that can't be read: {error}.") from error
    for item in items:
        _check_item(source, item, seen)
    named = {item.member for item in items if item.member}
    if set(seen) != named:
        raise BackupError(f"{source} holds {sorted(set(seen) - named)[:3]}, which its manifest does not name.")
    if not any(item.kind == STORE for item in items):
        raise BackupError(f"{source} holds no store.")
    return manifest, items


def _check_item(source: Path, item: Item, seen: dict[str, tuple[int, str]]) -> None:
    """BackupError where the item is not what the manifest says, or would go anywhere but below the data folder."""
    if item.kind in (FILE, FOLDER, IMAGE, TREE):
        parts = PurePosixPath(item.path).parts
        if not parts or item.path.startswith("/") or ".." in parts or "\0" in item.path:
            raise BackupError(f"{source} names the path {item.path!r}, which leads out of the data folder.")
    if item.kind == FOLDER:
        return
    length = sum(part[1] for part in item.extents) if item.kind == IMAGE else item.size
    if seen.get(item.member) != (length, item.sha256):
        raise BackupError(f"{source}: {item.path or item.kind} is not what was backed up; the file is damaged.")


def _check_audit(spool: Path, items: list[Item]) -> int:
    """The number of the last entry; BackupError where the chain in the backup is broken."""
    member = next(item.member for item in items if item.kind == STORE)
    check = audit.Check()
    with (spool / member).open(encoding="ascii") as file:
        for entry in copy.chain(file):
            broken = check.take(entry)
            if broken:
                break
        else:
            broken = check.end()
    if broken:
        raise BackupError(f"The audit in the backup is broken at entry {broken.number}: {broken.reason}.")
    return check.number


def _make_room(settings: Settings, *, force: bool) -> list[str]:
    """Refuse a place that holds something, or put that aside."""
    data = settings.service.data
    there = [path for path in data.iterdir() if path.name != "lock" and not path.name.startswith("before-restore-")]
    databases = [
        url
        for url in (settings.store_url, settings.hub_database_url)
        if make_url(url).get_backend_name() != "sqlite" and _table_names(url)
    ]
    if not there and not databases:
        return []
    if not force:
        what = data if there else make_url(databases[0]).render_as_string(hide_password=True)
        raise BackupError(f"{what} is not empty: name another --data or database, or use --force, which puts it aside.")
    stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    said = []
    if there:
        aside = data / f"before-restore-{stamp}"
        aside.mkdir(mode=0o700)
        for path in there:
            path.rename(aside / path.name)
        said.append(f"What was in {data} is in {aside}.")
    for url in databases:
        _set_schema_aside(url, f"before_restore_{stamp}")
        said.append(
            f"The tables of {make_url(url).render_as_string(hide_password=True)} are in before_restore_{stamp}."
        )
    return said


def _put_files(data: Path, spool: Path, items: list[Item]) -> None:
    for item in sorted((item for item in items if item.kind == FOLDER), key=lambda item: item.path):
        place = data / item.path
        place.mkdir(exist_ok=True, parents=True)
        place.chmod(item.mode)
        os.chown(place, item.uid, item.gid)
    for item in items:
        if item.kind == FILE:
            _install(spool / item.member, data / item.path, item.mode, item.uid, item.gid)
        elif item.kind == CONFIG:
            _install(spool / item.member, data / "restored-mutirao.toml", 0o600, 0, 0)
    data.chmod(0o711)


def _put_homes(data: Path, source: Path, items: list[Item]) -> None:
    """Images with their holes; folders by the system's tar, which follows no link out of them."""
    homes = {item.member: item for item in items if item.kind in (IMAGE, TREE)}
    if not homes:
        return
    (data / "sandbox" / "homes").mkdir(parents=True, exist_ok=True)
    (data / "sandbox" / "homes").chmod(0o700)
    with tarfile.open(source, "r:gz") as tar:
        for member in tar:
            item = homes.get(member.name)
            content = tar.extractfile(member) if item else None
            if item is None or content is None:
                continue
            place = data / item.path
            if item.kind == IMAGE:
                with place.open("xb") as file:
                    file.truncate(item.size)
                    for start, length in item.extents:
                        file.seek(start)
                        _copy(content, file, length)
                place.chmod(item.mode)
                os.chown(place, item.uid, item.gid)
                continue
            place.mkdir()
            with tempfile.NamedTemporaryFile() as packed:
                shutil.copyfileobj(content, packed, _CHUNK)
                packed.flush()
                system_tar("-C", str(place), "-xpf", packed.name)
            place.chmod(item.mode)
            os.chown(place, item.uid, item.gid)


def _copy(content: IO[bytes], file: IO[bytes], length: int) -> None:
    while length:
        chunk = content.read(min(_CHUNK, length))
        if not chunk:
            raise BackupError("The backup ends too early: it was cut off.")
        file.write(chunk)
        length -= len(chunk)


def _put_databases(settings: Settings, spool: Path, items: list[Item]) -> None:
    ours = accounts(settings)
    _give(settings.service.data / "store", 0o2770, ours.gate)
    member = next(item.member for item in items if item.kind == STORE)
    (spool / member).chmod(0o644)
    with (spool / member).open(encoding="ascii") as file, open_store(settings, MIGRATION_PATIENCE_S) as store:
        revision = copy.revision_of(file)
        file.seek(0)
        store.migrate(revision)
        with store.engine.execution_options(write=True).begin() as connection:
            copy.load(connection, file)
        store.migrate()
    hub = next((item.member for item in items if item.kind == HUB), None)
    if hub is None:
        return
    folder = settings.service.data / "hub"
    _give(folder, 0o700, ours.hub)
    make_hub_tables(settings, folder.stat().st_uid)
    with (spool / hub).open(encoding="ascii") as file, as_owner(folder):
        tables = Store(settings.hub_database_url, MIGRATION_PATIENCE_S)
        with contextlib.closing(tables), tables.engine.execution_options(write=True).begin() as connection:
            copy.load(connection, file)
    for path in folder.glob("*.sqlite*"):
        path.chmod(0o600)


def _give(folder: Path, mode: int, account: Account | None) -> None:
    """A folder of one of the parts, with the mode that the supervisor gives it."""
    folder.mkdir(exist_ok=True)
    if account:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(mode)


def _table_names(url: str) -> list[str]:
    store = Store(url, MIGRATION_PATIENCE_S)
    with contextlib.closing(store), store.explained(), store.engine.connect() as connection:
        return inspect(connection).get_table_names()


def _set_schema_aside(url: str, name: str) -> None:
    store = Store(url, MIGRATION_PATIENCE_S)
    with contextlib.closing(store), store.explained(), store.engine.begin() as connection:
        connection.execute(text(f"ALTER SCHEMA public RENAME TO {name}"))
        connection.execute(text("CREATE SCHEMA public"))


def _plain(name: str) -> bool:
    return name == "manifest.json" or (name.isascii() and name.isdigit() and len(name) == 8)


def _spool(content: IO[bytes], place: Path) -> str:
    digest = hashlib.sha256()
    with place.open("xb") as file:
        place.chmod(0o600)
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _install(source: Path, place: Path, mode: int, uid: int, gid: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        os.fchmod(file.fileno(), mode & 0o777)
        os.fchown(file.fileno(), uid, gid)
        with source.open("rb") as content:
            shutil.copyfileobj(content, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
