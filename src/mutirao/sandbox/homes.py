"""Members' homes, each with a limit of its own: a project quota where the file system has it, else an ext4 image.

An image is a sparse file that only root reads; it is mounted nosuid,nodev at the member's first runtime and unmounted
after the last. Inside it the member owns everything, and a full one harms nobody else. Images can promise more than
the host's disk holds: below `FLOOR_MB` free no runtime starts, because a write that the host can't keep would damage
the image.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import quota, syscalls
from mutirao.sandbox.spec import slug

FLOOR_MB = 64


class Homes:
    """Homes below `data/homes`, shown below `mounts` while they are used; both are root's."""

    def __init__(self, data: Path, mounts: Path, mounted: Callable[[], frozenset[str]] | None = None) -> None:
        self._homes = data / "homes"
        self._mounts = mounts
        self._mounted = mounted or mount_points

    def prepare(self) -> None:
        self._homes.mkdir(parents=True, exist_ok=True)
        self._homes.chmod(0o700)
        self._mounts.mkdir(parents=True, exist_ok=True)

    def open(self, member: str, uid: int, disk_mb: int) -> Path:
        """The directory that holds the member's files, made and mounted if need be."""
        name = slug(member)
        target = self._mounts / name
        if str(target) in self._mounted():
            return target
        free_mb = _free_mb(self._homes)
        if free_mb < FLOOR_MB:
            raise SandboxError(
                f"the disk that holds {self._homes} is full ({free_mb} MB free, {FLOOR_MB} needed): "
                f"no runtime can start for {member!r}. Free some space there."
            )
        target.mkdir(exist_ok=True)
        image, directory = self._homes / f"{name}.img", self._homes / name
        if not image.exists() and self._under_quota(directory, uid, disk_mb):
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount(str(directory), str(target), flags=syscalls.MS_BIND)
            syscalls.mount("none", str(target), flags=flags)
            return target
        try:
            if not image.exists():
                self._make(image, uid, disk_mb)
            elif image.stat().st_size < disk_mb << 20:
                self._grow(image, disk_mb)
            self._mount(image, target)
        except SandboxError:
            target.rmdir()
            raise
        # The image's root is a mount point here, so nothing that a member does inside can lead these two elsewhere.
        with contextlib.suppress(OSError):
            (target / "lost+found").rmdir()
        target.chmod(0o700)
        return target

    def close(self, member: str) -> None:
        """Unmount the member's home; one that is not mounted is fine."""
        unmount(self._mounts / slug(member))

    def mounted(self) -> frozenset[str]:
        """The slugs of the homes that are mounted now."""
        return frozenset(Path(p).name for p in self._mounted() if Path(p).parent == self._mounts)

    def close_slug(self, name: str) -> None:
        """Unmount the home of the member with this slug."""
        unmount(self._mounts / name)

    def _under_quota(self, directory: Path, uid: int, disk_mb: int) -> bool:
        source = quota.device(self._homes)
        if source is None:
            return False
        new = not directory.exists()
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            quota.limit(directory, source, uid, disk_mb)
        except OSError:
            if new:
                directory.rmdir()
                return False
            raise SandboxError(
                f"{directory} has no project quota any more: mount its file system with prjquota again."
            ) from None
        os.chown(directory, uid, uid)
        return True

    def _make(self, image: Path, uid: int, disk_mb: int) -> None:
        draft = image.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                draft.chmod(0o600)
                file.truncate(disk_mb << 20)
            options = f"lazy_itable_init=1,lazy_journal_init=1,root_owner={uid}:{uid}"
            _run("mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro", "-E", options, str(draft))
            _sync(draft)
            draft.rename(image)
            _sync(image.parent)
        except (OSError, SandboxError) as error:
            draft.unlink(missing_ok=True)
            raise SandboxError(f"the home {image} of {disk_mb} MB can't be made: {error} Is the disk full?") from error

    def _grow(self, image: Path, disk_mb: int) -> None:
        # Offline, because growing a mounted ext4 needs CAP_SYS_RESOURCE. e2fsck: 1 means that errors were corrected.
        with image.open("r+b") as file:
            file.truncate(disk_mb << 20)
        _check(image)
        _run("resize2fs", str(image))

    def _mount(self, image: Path, target: Path) -> None:
        command = (
            "mount",
            "-t",
            "ext4",
            "-o",
            "loop,nosuid,nodev,noatime,discard,noinit_itable",
            str(image),
            str(target),
        )
        try:
            _run(*command)
        except SandboxError:
            _check(image)
            try:
                _run(*command)
            except SandboxError as error:
                raise SandboxError(
                    f"{image} can't be mounted: {error} Check it with `e2fsck -f {image}`, and that loop devices are "
                    "left (`mutirao doctor`)."
                ) from error


def mount_points() -> frozenset[str]:
    """Where something is mounted now, in this process's view."""
    text = Path("/proc/self/mounts").read_text()
    return frozenset(line.split()[1].replace("\\040", " ") for line in text.splitlines())


def unmount(place: Path) -> None:
    """Unmount `place` if something is mounted there, and remove the empty directory."""
    while str(place) in mount_points():
        for _ in range(50):
            try:
                syscalls.unmount(str(place))
                break
            except OSError:
                time.sleep(0.02)
        else:
            syscalls.unmount(str(place), syscalls.MNT_DETACH)
    with contextlib.suppress(OSError):
        place.rmdir()


def _free_mb(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize >> 20


def _check(image: Path) -> None:
    """Repair the image; what a cautious e2fsck leaves to a person (lost+found made a link, say) is answered with yes.

    The member decides what lies in there, so whatever stopped here would be theirs to bring about.
    """
    try:
        _run("e2fsck", "-f", "-p", str(image), fine=(0, 1))
    except SandboxError:
        _run("e2fsck", "-f", "-y", str(image), fine=(0, 1))


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run(program: str, *arguments: str, fine: tuple[int, ...] = (0,)) -> None:
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=path)
    except FileNotFoundError:
        raise SandboxError(f"{program} is missing: install the packages e2fsprogs and mount.") from None
    if done.returncode not in fine:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise SandboxError(f"{program} says: {'; '.join(lines[:3])}.")
