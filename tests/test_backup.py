"""A backup comes back whole, into either database; a damaged or hostile one touches nothing."""

import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from mutirao import backup, config, restore, upgrade
from mutirao.accounts import accounts
from mutirao.backup import BackupError
from mutirao.cases import adoption
from mutirao.errors import ConfigError, StoreError
from mutirao.instance import open_store, stopped
from mutirao.store import audit
from mutirao.store.models import Adoption, Audit, Case
from mutirao.store.store import Store, newest_revision
from tests import postgres

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a restore sets owners: it needs root"),
]

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that the service's own user can get through, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="mutirao-test-", dir="/var/tmp") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def place() -> Iterator[Path]:
    with folder() as made:
        yield made


@dataclass
class Instance:
    """A data folder as a service leaves it, with its settings."""

    settings: config.Settings
    file: Path

    @property
    def data(self) -> Path:
        return self.settings.service.data

    def fill(self, *, hub: bool = True) -> None:
        ours = accounts(self.settings)
        its, gate = ours.hub.uid, ours.gate.uid
        for name, mode, owner in (
            ("hub", 0o700, its),
            ("hub/invites", 0o700, its),
            ("sandbox", 0o711, 0),
            ("store", 0o2770, gate),
            ("logs", 0o700, 0),
        ):
            (self.data / name).mkdir(parents=True, exist_ok=True)
            os.chown(self.data / name, owner, ours.gate.gid if name == "store" else owner)
            (self.data / name).chmod(mode)
        self.data.chmod(0o711)
        for name, body in (
            ("hub/cookie_secret", "secret"),
            ("sandbox/uids.jsonl", '{"uid": 2000000, "member": "ana"}\n'),
            ("hub/invites/x.invite", "{}"),
            ("logs/hub.log", "left out"),
        ):
            (self.data / name).write_text(body)
            (self.data / name).chmod(0o600)
        with open_store(self.settings) as store:
            store.migrate()
            for number in range(3):
                with store.write() as session:
                    if not number:
                        adoption.adopt(session, 2, known={2}, effective_from=NOON, now=NOON, by="op", reason="wé")
                    session.add(
                        Case(member="ana", owner="bia", fingerprint=f"x{number}", category="mining", day=NOON.date(), policy_version=2, opened_at=NOON, last_seen_at=NOON)
                    )  # fmt: skip
                    audit.append(session, NOON, "case.open", actor=None, subject="ana", content={"n": number, "f": 0.1})
            with store.write() as session:
                audit.erase(session, [2], NOON, actor="cli:root", why="x")
        if not hub:
            return
        self._hub(
            "from jupyterhub.orm import User; from nativeauthenticator.orm import UserInfo; s = new(os.environ['URL'])(); "
            "s.add(User(name='ana')); s.add(UserInfo(username='ana', password=b'\\x00\\xffhash', is_authorized=True)); s.commit(); s.close()"
        )

    def _hub(self, code: str) -> None:
        head = "import os; import nativeauthenticator.orm; from jupyterhub.orm import new_session_factory as new; "
        environment = os.environ | {"URL": self.settings.hub_database_url}
        subprocess.run([os.sys.executable, "-c", head + code], env=environment, check=True, capture_output=True)  # type: ignore[attr-defined]

    def rows(self) -> dict[str, list[Any]]:
        """What the store holds."""
        with open_store(self.settings) as store, store.read() as session:
            assert audit.verify(audit.entries(session)) is None
            return {
                "audit": [(e.id, e.at, e.act, e.content, e.hash) for e in audit.entries(session)],
                "case": [(c.id, c.number, c.member, c.opened_at) for c in session.scalars(select(Case))],
                "adoption": [(a.version, a.reason, a.effective_from) for a in session.scalars(select(Adoption))],
            }

    def accounts(self) -> list[tuple[Any, ...]]:
        hub = Store(self.settings.hub_database_url)
        with hub.engine.connect() as connection:
            found = connection.execute(text("SELECT username, password, is_authorized FROM users_info")).fetchall()
        hub.close()
        return [(name, bytes(password), bool(known)) for name, password, known in found]


def instance(place: Path, name: str, server: postgres.Server | None) -> Instance:
    """An instance with its tables in SQLite or in two databases of the server."""
    file = place / f"{name}.toml"
    lines = ["[service]", f'data = "{place / name}"']
    if server:
        lines += ["[store]", f'url = "{server.fresh()}"', f'hub_url = "{server.fresh()}"']
    file.write_text("\n".join(lines))
    return Instance(config.load(file), file)


KINDS = ["sqlite", "postgresql"]


def server_for(kind: str, request: pytest.FixtureRequest) -> postgres.Server | None:
    return request.getfixturevalue("postgres_server") if kind == "postgresql" else None


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_a_backup_comes_back_whole_into_either_database(
    place: Path, request: pytest.FixtureRequest, source: str, target: str
) -> None:
    old = instance(place, "old", server_for(source, request))
    old.fill()
    backup.write(old.settings, old.file, place / "b.tar.gz", homes=False)
    assert (place / "b.tar.gz").stat().st_mode & 0o777 == 0o600

    new = instance(place, "new", server_for(target, request))
    restore.restore(new.settings, place / "b.tar.gz", force=False, actor="cli:root")

    before, after = old.rows(), new.rows()
    assert after["audit"][: len(before["audit"])] == before["audit"]
    assert [entry[2] for entry in after["audit"][len(before["audit"]) :]] == ["service.restore"]
    assert (after["case"], after["adoption"]) == (before["case"], before["adoption"])
    assert new.accounts() == old.accounts() == [("ana", b"\x00\xffhash", True)]
    for name in ("hub/cookie_secret", "sandbox/uids.jsonl", "hub/invites/x.invite"):
        assert (new.data / name).read_text() == (old.data / name).read_text()
        assert (new.data / name).stat().st_mode == (old.data / name).stat().st_mode
    assert not (new.data / "logs").exists()
    assert (new.data / "restored-mutirao.toml").read_text() == old.file.read_text()
    with open_store(new.settings) as store, store.write() as session:
        fresh = Case(member="bia", owner="bia", fingerprint="y", category="dos", day=NOON.date(), policy_version=2, opened_at=NOON, last_seen_at=NOON)  # fmt: skip
        session.add(fresh)
        session.flush()
        assert fresh.id == 4
    if target == "sqlite":
        assert (new.data / "store" / "mutirao.sqlite").stat().st_gid == accounts(new.settings).pages.gid


@pytest.fixture(scope="module")
def written() -> Iterator[tuple[Instance, Path]]:
    """An instance and its backup, which tests leave alone."""
    with folder() as place:
        old = instance(place, "old", None)
        old.fill()
        backup.write(old.settings, old.file, place / "b.tar.gz", homes=False)
        yield old, place / "b.tar.gz"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_never_overwritten(
    place: Path, request: pytest.FixtureRequest, written: tuple[Instance, Path], kind: str
) -> None:
    new = instance(place, "new", server_for(kind, request))
    new.fill(hub=False)
    before = new.rows()

    with pytest.raises(BackupError, match="not empty"):
        restore.restore(new.settings, written[1], force=False, actor="x")
    assert new.rows() == before
    said = restore.restore(new.settings, written[1], force=True, actor="x")

    (aside,) = new.data.glob("before-restore-*")
    assert (aside / "hub" / "cookie_secret").exists()
    assert any(str(aside) in line for line in said)
    assert len(new.rows()["audit"]) == 6


def test_neither_restore_nor_upgrade_touch_a_service_that_runs(written: tuple[Instance, Path]) -> None:
    old, file = written
    with stopped(old.data):
        with pytest.raises(ConfigError, match="stop it first"):
            restore.restore(old.settings, file, force=True, actor="x")
        with pytest.raises(ConfigError, match="stop it first"):
            upgrade.upgrade(old.settings, old.file, None, "x")
    assert not list(old.data.glob("before-restore-*"))


def test_a_backup_is_never_written_over(written: tuple[Instance, Path]) -> None:
    with pytest.raises(BackupError, match="exists already"):
        backup.write(written[0].settings, None, written[1], homes=False)


Members = dict[str, bytes]


def remade(file: Path, folder_: Path, change: Callable[[Members, dict[str, Any]], None]) -> Path:
    """The backup with its members and manifest changed, packed again."""
    with tarfile.open(file) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    changed = folder_ / "changed.tar.gz"
    with gzip.open(changed, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, body in [*members.items(), ("manifest.json", json.dumps(manifest).encode())]:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return changed


def first(manifest: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(item for item in manifest["items"] if item["kind"] == kind)


def flip(members: Members, manifest: dict[str, Any]) -> None:
    name = first(manifest, "file")["member"]
    members[name] = bytes([members[name][0] ^ 1]) + members[name][1:]


def rehash(members: Members, manifest: dict[str, Any], body: bytes, item: dict[str, Any]) -> None:
    import hashlib

    members[item["member"]] = body
    item |= {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def break_audit(members: Members, manifest: dict[str, Any]) -> None:
    item = first(manifest, "store")
    rehash(members, manifest, members[item["member"]].replace(b'"case.open"', b'"case.shut"', 1), item)


def cut_store(members: Members, manifest: dict[str, Any]) -> None:
    item = first(manifest, "store")
    rehash(
        members,
        manifest,
        members[item["member"]][: len(members[item["member"]]) // 2].rpartition(b"\n")[0] + b"\n",
        item,
    )


def escape(path: str) -> Callable[[Members, dict[str, Any]], None]:
    return lambda members, manifest: first(manifest, "file").update(path=path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip, "damaged"),
        (break_audit, "audit in the backup is broken"),
        (cut_store, "cut off"),
        (escape("../../etc/cron.d/x"), "leads out"),
        (escape("/etc/cron.d/x"), "leads out"),
        (escape("hub/../../x"), "leads out"),
        (escape(""), "leads out"),
        (lambda members, manifest: members.update({"99999999": b"x"}), "does not name"),
        (lambda members, manifest: members.update({"../evil": b"x"}), "not one of ours"),
        (lambda members, manifest: members.pop(first(manifest, "file")["member"]), "damaged"),
        (lambda members, manifest: manifest.update(format=99), "newer"),
        (lambda members, manifest: manifest["items"].append({"what": 1}), "can't be read"),
        (lambda members, manifest: manifest.update(items=[]), "does not name"),
    ],
)
def test_a_damaged_or_hostile_backup_touches_nothing(
    place: Path, written: tuple[Instance, Path], change: Callable[[Members, dict[str, Any]], None], words: str
) -> None:
    new = instance(place, "new", None)

    with pytest.raises((BackupError, StoreError), match=words):
        restore.restore(new.settings, remade(written[1], place, change), force=False, actor="x")

    assert not new.data.exists() or list(new.data.iterdir()) == []


@pytest.mark.parametrize("length", [0, 100, -200])
def test_a_file_that_was_cut_off_touches_nothing(place: Path, written: tuple[Instance, Path], length: int) -> None:
    cut = place / "cut.tar.gz"
    cut.write_bytes(written[1].read_bytes()[:length])

    with pytest.raises(BackupError, match=r"damaged|cut off"):
        restore.restore(instance(place, "new", None).settings, cut, force=False, actor="x")


def test_a_link_or_device_in_the_archive_is_refused(place: Path, written: tuple[Instance, Path]) -> None:
    evil = place / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as tar:
        member = tarfile.TarInfo("00000000")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)

    with pytest.raises(BackupError, match="not one of ours"):
        restore.restore(instance(place, "new", None).settings, evil, force=False, actor="x")


def test_homes_keep_content_and_holes(place: Path) -> None:
    old = instance(place, "old", None)
    old.fill(hub=False)
    homes = old.data / "sandbox" / "homes"
    homes.mkdir()
    image = homes / "ana-x.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(5 << 20)
        file.write(b"a" * 5000)
        file.seek((64 << 20) - 10)
        file.write(b"b" * 10)
    tree = homes / "bia-y"
    (tree / "work").mkdir(parents=True)
    (tree / "work" / "n.ipynb").write_text("{}")
    (tree / "link").symlink_to("/etc/passwd")
    os.chown(tree / "work" / "n.ipynb", 2_000_001, 2_000_001)
    backup.write(old.settings, None, place / "b.tar.gz", homes=True)

    new = instance(place, "new", None)
    restore.restore(new.settings, place / "b.tar.gz", force=False, actor="x")

    back = new.data / "sandbox" / "homes" / "ana-x.img"
    assert back.read_bytes() == image.read_bytes()
    assert back.stat().st_blocks * 512 < 1 << 20
    again = new.data / "sandbox" / "homes" / "bia-y"
    assert (again / "work" / "n.ipynb").stat().st_uid == 2_000_001
    assert (again / "link").readlink() == Path("/etc/passwd")


def test_a_home_in_use_is_copied_whole_and_written_on_afterwards(place: Path) -> None:
    """A file system that is mounted is held still for its copy."""
    old = instance(place, "old", None)
    old.fill(hub=False)
    homes = old.data / "sandbox" / "homes"
    homes.mkdir()
    image, point = homes / "ana.img", place / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    try:
        (point / "x").write_text("not synced")
        backup.write(old.settings, None, place / "b.tar.gz", homes=True)
        (point / "y").write_text("afterwards")
    finally:
        subprocess.run(["umount", str(point)], check=True)

    new = instance(place, "new", None)
    restore.restore(new.settings, place / "b.tar.gz", force=False, actor="x")
    back = new.data / "sandbox" / "homes" / "ana.img"
    subprocess.run(["e2fsck", "-p", str(back)], check=False, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(back), str(point)], check=True)
    try:
        assert (point / "x").read_text() == "not synced"
        assert not (point / "y").exists()
    finally:
        subprocess.run(["umount", str(point)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_with_nothing_to_do_says_so(place: Path, request: pytest.FixtureRequest, kind: str) -> None:
    old = instance(place, "old", server_for(kind, request))
    old.fill()

    assert "nothing to do" in upgrade.upgrade(old.settings, old.file, None, "x")[0]
    assert not (old.data / "backups").exists()


def test_an_older_hub_is_upgraded_after_a_backup(place: Path) -> None:
    old = instance(place, "old", None)
    old.fill()
    hub = Store(old.settings.hub_database_url)
    with hub.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ff1860e38070'"))
        connection.execute(text("ALTER TABLE spawners DROP COLUMN display_name"))
    hub.close()

    said = upgrade.upgrade(old.settings, old.file, place / "before.tar.gz", "cli:root")

    assert any("hub's tables" in line for line in said)
    assert (place / "before.tar.gz").exists()
    assert "nothing to do" in upgrade.upgrade(old.settings, old.file, None, "x")[0]
    assert old.rows()["audit"][-1][2] == "service.upgrade"


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_store_is_refused_and_left_alone(place: Path, request: pytest.FixtureRequest, kind: str) -> None:
    old = instance(place, "old", server_for(kind, request))
    old.fill(hub=False)
    with open_store(old.settings) as store, store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreError, match="9999"):
        upgrade.upgrade(old.settings, old.file, None, "x")
    with open_store(old.settings) as store:
        assert store.revision() == "9999"
        assert newest_revision() != "9999"
        with store.read() as session:
            assert session.scalars(select(Audit)).first() is not None
