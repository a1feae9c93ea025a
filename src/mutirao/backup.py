"""A backup: one file with everything, written while the service runs or not.

The file is a gzipped tar. Its members have plain numbers for names; `manifest.json`, the last one, says what each
is, with size and SHA-256. So a hostile archive names no path: what the manifest says is checked before it is used.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sqlalchemy import make_url, text

from mutirao import __version__
from mutirao.config import Settings
from mutirao.errors import MutiraoError
from mutirao.instance import open_store
from mutirao.sandbox import image
from mutirao.store import copy
from mutirao.store.store import MIGRATION_PATIENCE_S, Store

FORMAT = 1
STORE, HUB, CONFIG, FILE, FOLDER, IMAGE, TREE = "store", "hub", "config", "file", "folder", "image", "tree"
LEFT_OUT = ("logs", "run", "backups", "lock")
LEFT_OUT_BELOW = ("store/*.sqlite*", "hub/*.sqlite*", "sandbox/homes", "before-restore-*", "restored-mutirao.toml")
_CHUNK = 1 << 20


class BackupError(MutiraoError):
    """A backup can't be written, is damaged, or must not be put here."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a backup: `member` is its name in the tar (empty for a folder), `path` its place in the data folder.

    `extents` are an image's (offset, length) pairs; its member holds them one after the other, and `size` is that of
    the whole image.
    """

    kind: str
    path: str = ""
    member: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    size: int = 0
    sha256: str = ""
    extents: list[list[int]] = field(default_factory=list)


# Writing


def write(settings: Settings, config_file: Path | None, target: Path, *, homes: bool) -> list[str]:
    """Write the backup, whole or not at all; what was done, in sentences."""
    if target.exists():
        raise BackupError(f"{target} exists already: choose another name.")
    data = settings.service.data
    if not data.is_dir():
        raise BackupError(f"There is no data folder {data}: nothing to keep.")
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".mutirao-backup-", dir=target.absolute().parent) as spool:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with (
                os.fdopen(descriptor, "wb") as raw,
                gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
            ):
                said = _Writer(settings, config_file, archive, Path(spool)).all(homes=homes)
            descriptor = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(descriptor)
            os.close(descriptor)
        fresh.rename(target)
    except OSError as error:
        raise BackupError(f"{target} can't be written: {error}. Is the disk full?") from error
    finally:
        fresh.unlink(missing_ok=True)
    return [
        *said,
        f"Wrote {target} ({target.stat().st_size >> 10} KiB). It holds secrets: keep it as safe as the data.",
    ]


class _Writer:
    def __init__(self, settings: Settings, config_file: Path | None, archive: tarfile.TarFile, spool: Path) -> None:
        self.settings = settings
        self.data = settings.service.data
        self.config_file = config_file
        self.archive = archive
        self.spool = spool
        self.items: list[Item] = []

    def all(self, *, homes: bool) -> list[str]:
        # Files before databases: what files say of the audit must not be ahead of it.
        for path in sorted(_files(self.data)):
            self._file(path)
        if self.config_file is not None:
            self._add(CONFIG, self.config_file.read_bytes())
        last = self._database(STORE, open_store(self.settings))
        hub = self._hub()
        said = [f"{len(self.items)} files and folders, the store at audit entry {last}" + (", the hub" if hub else "")]
        if homes:
            count = sum(1 for path in self._homes())
            said.append(f"{count} homes")
        manifest = {
            "format": FORMAT,
            "mutirao": __version__,
            "made_at": datetime.now(UTC).isoformat(),
            "audit": last,
            "items": [asdict(item) for item in self.items],
        }
        self._member("manifest.json", io.BytesIO(body := json.dumps(manifest).encode()), len(body))
        return [", ".join(said) + "."]

    def _file(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # gone since we looked, as an invitation that was used
            found = path.lstat()
            values = {"path": str(path.relative_to(self.data)), "mode": stat.S_IMODE(found.st_mode)}
            owner = {"uid": found.st_uid, "gid": found.st_gid}
            if stat.S_ISDIR(found.st_mode):
                self.items.append(Item(FOLDER, **values, **owner))  # type: ignore[arg-type]
            elif stat.S_ISREG(found.st_mode):
                self._add(FILE, path.read_bytes(), **values, **owner)

    def _database(self, kind: str, opened: AbstractContextManager[Store]) -> int:
        """Spool a dump, add it; the number of its last audit entry."""
        spooled = self.spool / kind
        # Opened before we step down to the user whose database it is.
        with spooled.open("w", encoding="ascii") as file, opened as store, store.read() as session:
            connection = session.connection()
            copy.dump(connection, file)
            last = connection.scalar(text("SELECT max(id) FROM audit")) if kind == STORE else 0
        with spooled.open("rb") as content:
            self._stream(Item(kind), content, spooled.stat().st_size)
        return last or 0

    def _hub(self) -> bool:
        url = make_url(self.settings.hub_database_url)
        if url.get_backend_name() == "sqlite":
            path = Path(str(url.database))
            if not path.exists():
                return False
            still = self.spool / "hub.sqlite"
            with (
                contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as source,
                contextlib.closing(sqlite3.connect(still)) as target,
            ):
                source.backup(target)
            url = make_url(f"sqlite:///{still}")
        hub = Store(url.render_as_string(hide_password=False), MIGRATION_PATIENCE_S)
        self._database(HUB, contextlib.closing(hub))
        return True

    def _homes(self) -> Iterator[Path]:
        folder = self.data / "sandbox" / "homes"
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            values: dict[str, Any] = {"path": str(path.relative_to(self.data))}
            if path.suffix == ".img" and path.is_file():
                self._image(path, values)
                yield path
            elif path.is_dir() and not path.is_symlink():
                self._tree(path, values)
                yield path

    def _image(self, path: Path, values: dict[str, Any]) -> None:
        with image.still(path), path.open("rb") as file:
            found = os.fstat(file.fileno())
            parts = image.extents(file.fileno())
            values |= {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
            item = Item(IMAGE, size=found.st_size, extents=[list(part) for part in parts], **values)
            self._stream(item, _Extents(file, parts), sum(length for _, length in parts))

    def _tree(self, path: Path, values: dict[str, Any]) -> None:
        """A home that is a folder: a tar of its own, by the system's tar, which knows owners, links and holes."""
        packed = self.spool / "tree"
        tar("-C", str(path), "-cf", str(packed), ".")
        found = path.stat()
        values |= {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
        with packed.open("rb") as content:
            self._stream(Item(TREE, **values), content, packed.stat().st_size)
        packed.unlink()

    def _add(self, kind: str, body: bytes, **values: Any) -> None:
        self._stream(Item(kind, **values), io.BytesIO(body), len(body))

    def _stream(self, item: Item, content: Any, length: int) -> None:
        name = f"{len(self.items):08d}"
        hashed = _Hashed(content)
        self._member(name, hashed, length)
        values = asdict(item) | {"member": name, "sha256": hashed.digest.hexdigest()}
        if item.kind != IMAGE:
            values["size"] = length
        self.items.append(Item(**values))

    def _member(self, name: str, content: Any, length: int) -> None:
        member = tarfile.TarInfo(name)
        member.size = length
        member.mode = 0o600
        self.archive.addfile(member, content)


class _Hashed:
    """Reads on, and hashes what was read."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk: bytes = self.content.read(size)
        self.digest.update(chunk)
        return chunk


class _Extents:
    """The parts of a file that hold data, one after the other."""

    def __init__(self, file: IO[bytes], parts: list[tuple[int, int]]) -> None:
        self.file = file
        self.parts = list(parts)

    def read(self, size: int) -> bytes:
        found = b""
        while self.parts and len(found) < size:
            start, length = self.parts.pop(0)
            chunk = os.pread(self.file.fileno(), min(length, size - len(found)), start)
            found += chunk
            if chunk and len(chunk) < length:
                self.parts.insert(0, (start + len(chunk), length - len(chunk)))
        return found


def _files(data: Path) -> Iterator[Path]:
    """All of the data folder that a backup keeps, but databases and homes; other file systems are not entered."""
    device = data.stat().st_dev
    for top, folders, files in os.walk(data):
        here = Path(top)
        kept = []
        for name in folders:
            path = here / name
            with contextlib.suppress(OSError):
                if not _left_out(data, path) and not path.is_symlink() and path.stat().st_dev == device:
                    kept.append(name)
        folders[:] = kept
        yield from (here / name for name in folders)
        yield from (here / name for name in files if not _left_out(data, here / name))


def _left_out(data: Path, path: Path) -> bool:
    inside = PurePosixPath(path.relative_to(data))
    return str(inside) in LEFT_OUT or any(inside.match(pattern) for pattern in LEFT_OUT_BELOW)


def tar(*words: str) -> None:
    """Run the system's tar so that owners, links and holes stay."""
    program = shutil.which("tar")
    if program is None:
        raise BackupError("tar is missing: install it.")
    options = ["--numeric-owner", "--sparse", "--xattrs", "--acls", "--one-file-system"]
    done = subprocess.run([program, *options, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"tar failed: {done.stderr.strip()[:300]}")
