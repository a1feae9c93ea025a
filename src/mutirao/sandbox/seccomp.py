"""The system calls that a runtime may not make: a deny list, compiled by libseccomp for the machine it runs on.

Notebooks run all kinds of programs, debuggers and JITs among them, so the default is to allow. Denied is what only
administers a machine, what opens new namespaces, and what has long been the way into kernels. Most calls get EPERM;
ENOSYS is for those whose callers have a second way (glibc falls back from clone3 to clone, libuv from io_uring).
"""

import errno
import os
import platform
import struct
from functools import cache
from typing import Any

from mutirao.errors import SandboxError

NAMESPACES = (0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00020000, 0x00000080)
"""CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWNS and, for unshare alone, NEWTIME."""

DENIED = (
    # namespaces and mounts
    *("setns", "mount", "umount2", "umount", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount", "listmount"),
    # the kernel's own machinery
    *("bpf", "perf_event_open", "userfaultfd", "init_module", "finit_module", "delete_module", "create_module"),
    *("kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog"),
    *("lookup_dcookie", "nfsservctl", "uselib", "ustat", "sysfs", "_sysctl", "vhangup", "iopl", "ioperm", "kcmp"),
    *("fanotify_init", "modify_ldt", "vm86", "vm86old", "get_kernel_syms", "query_module"),
    # keys are not divided by namespaces
    *("add_key", "request_key", "keyctl"),
    # handles get round the directories above a file
    *("open_by_handle_at", "name_to_handle_at"),
    # the machine's clock and names
    *("settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex"),
    *("sethostname", "setdomainname"),
)
ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
FAMILIES = (*range(3, 10), *range(11, 16))
"""Socket families below 17 other than AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; above, everything is denied."""
PROTOCOLS = (33, 115, 132, 136)
"""DCCP, L2TP, SCTP and UDP-Lite: modules that nobody uses here load when somebody asks. Above 255 there is MPTCP."""
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541C, 0x5423
"""Input pushed into a terminal, the console's selection, and line disciplines, which are modules of their own."""
_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16
_SOL_TCP, _TCP_ULP = 6, 31

YOUNG = (457, 458, 467)
"""statmount, listmount and open_tree_attr, which an older libseccomp does not know by name."""
UNKNOWN = 470
"""The first number that no kernel had given when this was written (6.18): what comes later is absent until somebody
has thought about it. From 424 on all architectures number alike; x32's calls lie above too."""


def native() -> str:
    """libseccomp's name of this machine's architecture."""
    names = {"x86_64": "X86_64", "aarch64": "AARCH64"}
    machine = platform.machine()
    if machine not in names:
        raise SandboxError(f"no system call filter for {machine}: sandboxes work on x86_64 and aarch64.")
    return names[machine]


@cache
def program(architecture: str | None = None, without: tuple[str, ...] = ()) -> bytes:
    """The filter as classic BPF, as bubblewrap's --seccomp reads it, for "X86_64" or "AARCH64".

    `without`: calls that are to be missing besides.
    """
    try:
        import pyseccomp as seccomp
    except RuntimeError as error:
        raise SandboxError("libseccomp is missing: install the package libseccomp2.") from error
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    wanted = getattr(seccomp.Arch, architecture or native())
    if wanted != rules_native(seccomp):
        rules.add_arch(wanted)
        rules.remove_arch(rules_native(seccomp))
    # Calls of another architecture (32-bit programs on x86_64) would go round the list.
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.ERRNO(errno.ENOSYS))
    deny, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    for name in DENIED:
        _add(seccomp, rules, wanted, deny, name)
    for name in (*ABSENT, *without):
        _add(seccomp, rules, wanted, absent, name)
    for flag in NAMESPACES:
        _add(seccomp, rules, wanted, deny, "unshare", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
        if flag != 0x80:  # in clone's flags these bits hold the exit signal
            _add(seccomp, rules, wanted, deny, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for request in (TIOCSTI, TIOCLINUX, TIOCSETD):
        _add(seccomp, rules, wanted, deny, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    for call in ("socket", "socketpair"):
        for family in FAMILIES:
            _add(seccomp, rules, wanted, deny, call, seccomp.Arg(0, seccomp.MASKED_EQ, 0xFFFFFFFF, family))
        _add(seccomp, rules, wanted, deny, call, seccomp.Arg(0, seccomp.GT, _AF_NETLINK))
    # Of netlink only routing (protocol 0), which getifaddrs() asks.
    netlink = seccomp.Arg(0, seccomp.MASKED_EQ, 0xFFFFFFFF, _AF_NETLINK)
    _add(seccomp, rules, wanted, deny, "socket", netlink, seccomp.Arg(2, seccomp.NE, 0))
    no_protocol = seccomp.ERRNO(errno.EPROTONOSUPPORT)
    for family in (_AF_INET, _AF_INET6):
        inet = seccomp.Arg(0, seccomp.MASKED_EQ, 0xFFFFFFFF, family)
        for protocol in PROTOCOLS:
            asked = seccomp.Arg(2, seccomp.MASKED_EQ, 0xFFFFFFFF, protocol)
            _add(seccomp, rules, wanted, no_protocol, "socket", inet, asked)
        _add(seccomp, rules, wanted, no_protocol, "socket", inet, seccomp.Arg(2, seccomp.GT, 255))
    # Protocols on top of TCP (TLS, SMC, ESP) are modules too; OpenSSL does without.
    level = seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, _SOL_TCP)
    option = seccomp.Arg(2, seccomp.MASKED_EQ, 0xFFFFFFFF, _TCP_ULP)
    _add(seccomp, rules, wanted, deny, "setsockopt", level, option)
    return _young() + _export(rules)


def _young() -> bytes:
    """Instructions that go before libseccomp's: load the number, refuse what is too young, go on (linux/filter.h)."""
    load, equal, above, answer = 0x20, 0x15, 0x35, 0x06
    steps = [(load, 0, 0, 0), (above, 0, 1, UNKNOWN), (answer, 0, 0, _ERRNO | errno.ENOSYS)]
    for number in YOUNG:
        steps += [(equal, 0, 1, number), (answer, 0, 0, _ERRNO | errno.EPERM)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


_ERRNO = 0x00050000


def rules_native(seccomp: Any) -> Any:
    """The architecture that libseccomp itself was built for."""
    return getattr(seccomp.Arch, native())


def _add(seccomp: Any, rules: Any, architecture: Any, action: int, name: str, *arguments: Any) -> None:
    try:
        number = seccomp.resolve_syscall(architecture, name)
    except (OSError, ValueError):
        return  # this libseccomp does not know the name
    if number < 0:
        return  # this architecture does not have the call
    rules.add_rule(action, name, *arguments)


def _export(rules: Any) -> bytes:
    descriptor = os.memfd_create("seccomp")
    with os.fdopen(descriptor, "r+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
