"""What the machine must offer before any wall can stand."""

import os
import shutil
import subprocess

from mutirao.errors import SandboxError
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
"""Programs that the sandbox runs, and the Debian packages that hold them."""


def need_root() -> None:
    """SandboxError unless this process is root."""
    if os.geteuid() != 0:
        raise SandboxError("sandboxes need root to build walls: start the service with sudo.")


def need_programs() -> None:
    """SandboxError naming the first program that is missing and its package."""
    for program, package in PROGRAMS:
        if shutil.which(program, path=ROOT_ENV["PATH"]) is None:
            raise SandboxError(f"{program} is missing: install the package {package}.")


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
