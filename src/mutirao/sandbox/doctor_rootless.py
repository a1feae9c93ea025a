"""What an ordinary user can have of walls on this machine; the lines that `doctor` shows where it is not root's."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import machine, pasta
from mutirao.sandbox.doctor import Check, State
from mutirao.sandbox.rootless import LESS
from mutirao.sandbox.spec import NetworkPolicy

PREPARE = "sudo ./run prepare"


def looks() -> tuple[tuple[str, Callable[[], Check]], ...]:
    """The checks, by name."""
    return (
        ("user", _user),
        ("programs", _programs),
        ("user namespaces", _user_namespaces),
        ("pasta", _pasta),
        ("nftables", _nftables),
        ("limits", _limits),
    )


def _user() -> Check:
    groups = machine.dangerous_groups()
    found = f"uid {os.getuid()}: rootless mode. {' '.join(LESS)}"
    if groups:
        do = (
            f"Members run with this user's groups ({', '.join(groups)}), which can't be dropped without root: use a "
            "user that has none of them, or start with sudo."
        )
        return Check("user", State.LACK, found, do)
    return Check("user", State.NOTE, found, "Start with sudo where members don't know one another.")


def _programs() -> Check:
    if missing := machine.missing(machine.ROOTLESS_PROGRAMS):
        packages = " ".join(dict.fromkeys(package for _, package in missing))
        return Check(
            "programs",
            State.LACK,
            f"missing: {', '.join(name for name, _ in missing)}",
            f"{PREPARE}, or apt-get install {packages}",
        )
    return Check("programs", State.OK, ", ".join(name for name, _ in machine.ROOTLESS_PROGRAMS))


def _user_namespaces() -> Check:
    try:
        with _held():
            return Check("user namespaces", State.OK, "this user can make them")
    except SandboxError as error:
        do = (
            f"{PREPARE}, or allow them: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, "
            "kernel.apparmor_restrict_unprivileged_userns=0."
        )
        return Check("user namespaces", State.LACK, str(error), do)


def _pasta() -> Check:
    if not os.access(machine.TUN, os.R_OK | os.W_OK):
        found = f"{machine.TUN} can't be opened by this user"
        return Check("pasta", State.LACK, found, f"{PREPARE}, or sudo chmod 666 {machine.TUN}")
    return Check("pasta", State.OK, f"{machine.TUN} can be opened")


def _nftables() -> Check:
    try:
        with _held() as holder:
            pasta.load(holder, pasta.rules(NetworkPolicy(), ("192.0.2.53",), pasta.own_addresses()))
    except SandboxError as error:
        return Check("nftables", State.LACK, str(error), "The kernel needs nf_tables with conntrack and reject.")
    return Check("nftables", State.OK, "works in a network namespace of this user's")


def _limits() -> Check:
    found = "processes and open files by the kernel, memory and disk looked at, processors not at all"
    return Check("limits", State.NOTE, found, "Start with sudo for limits that the kernel keeps.")


@contextlib.contextmanager
def _held() -> Iterator[pasta.Holder]:
    if not Path("/proc/self/ns/user").exists():
        raise SandboxError("this kernel has no user namespaces.")
    holder, process = pasta.hold()
    try:
        yield holder
    finally:
        holder.end()
        process.wait()
