"""What the machine must offer before any wall can stand."""

import contextlib
import grp
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import pasta
from mutirao.sandbox.launch import ROOT_ENV

PROGRAMS = (
    ("bwrap", "bubblewrap"),
    ("nft", "nftables"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
)
"""Programs that root's sandboxes run, and the Debian packages that hold them."""

ROOTLESS_PROGRAMS = (
    ("bwrap", "bubblewrap"),
    ("pasta", "passt"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("du", "coreutils"),
)
"""The same for an ordinary user's."""
TUN = Path("/dev/net/tun")

RISKY_GROUPS = frozenset(
    ("root", "sudo", "wheel", "adm", "docker", "lxd", "disk", "kvm", "shadow", "staff", "libvirt", "systemd-journal")
)


def need_root() -> None:
    """SandboxError unless this process is root."""
    if os.geteuid() != 0:
        raise SandboxError("sandboxes need root to build walls: start the service with sudo.")


def need_programs(programs: Iterable[tuple[str, str]] = PROGRAMS) -> None:
    """SandboxError naming the first program that is missing and its package."""
    for program, package in missing(programs):
        raise SandboxError(f"{program} is missing: install the package {package} (sudo ./run prepare).")


def missing(programs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (program, package) pairs whose program is not here."""
    return [pair for pair in programs if shutil.which(pair[0], path=ROOT_ENV["PATH"]) is None]


def need_user_namespaces(uid: int) -> None:
    """SandboxError unless `uid` can make a sandbox with bubblewrap."""
    number = str(uid)
    done = subprocess.run(
        [
            *("setpriv", "--reuid", number, "--regid", number, "--clear-groups", "--"),
            *("bwrap", "--unshare-user", "--unshare-pid", "--disable-userns", "--ro-bind", "/", "/", "--", "/bin/true"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=ROOT_ENV,
    )
    if done.returncode:
        raise SandboxError(
            f"bubblewrap can't make user namespaces for an ordinary user here ({done.stderr.strip()[:200]}): allow "
            "them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0)."
        )


def need_rootless() -> None:
    """SandboxError unless this user can build walls here."""
    if os.geteuid() == 0:
        raise SandboxError("rootless mode is for an ordinary user: root has better walls.")
    need_programs(ROOTLESS_PROGRAMS)
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise SandboxError(f"{TUN} can't be opened by uid {os.getuid()}: sudo chmod 666 {TUN} (sudo ./run prepare).")
    holder, process = pasta.hold()
    holder.end()
    process.wait()


def dangerous_groups() -> tuple[str, ...]:
    """Groups of this user that give rights over the machine: without root they can't be dropped for members."""
    names = set()
    for number in os.getgroups():
        with contextlib.suppress(KeyError):
            names.add(grp.getgrgid(number).gr_name)
    return tuple(sorted(RISKY_GROUPS & names))
