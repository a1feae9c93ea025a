"""What a runtime sees: the arguments for bubblewrap, and an /etc made for it.

The system is the host's /usr, read-only. Of the host's /etc only what programs need to run is shown; users, names,
resolvers and the machine's id are written for the runtime. Writable are the home, /tmp and /dev/shm, the latter two in
memory that counts against the runtime's limit.
"""

import contextlib
import shutil
from pathlib import Path

from mutirao.sandbox.spec import HOME, ReadOnly, RuntimeSpec

INSIDE_UID = 1000
HOSTNAME = "mutirao"
EXPENDABLE = "/etc/mutirao/expendable"
"""A program inside: `expendable COMMAND…` runs COMMAND as the first to go when memory runs out."""
EXPENDABLE_SCORE = 500

ETC_FILES = (
    *("ld.so.cache", "ld.so.conf", "mime.types", "magic", "magic.mime", "protocols", "services", "rpc", "locale.alias"),
    *("debian_version", "gai.conf", "inputrc", "bash.bashrc", "profile", "timezone", "ca-certificates.conf"),
    *("os-release", "localtime", "shells", "host.conf", "papersize", "vimrc", "nanorc"),
)
ETC_DIRECTORIES = (
    *("ssl", "ca-certificates", "alternatives", "fonts", "ld.so.conf.d", "terminfo", "python3"),
    *(
        "python3.11",
        "python3.12",
        "python3.13",
        "OpenCL",
        "vulkan",
        "glvnd",
        "ImageMagick-6",
        "texmf",
        "R",
        "java-17-openjdk",
    ),
    *("openmpi", "perl", "groff", "xdg"),
)
MASKED_IN_PROC = (
    "kcore",
    "keys",
    "key-users",
    "timer_list",
    "sched_debug",
    "kallsyms",
    "kmsg",
    "latency_stats",
    "modules",
    # The kernel's command line, where some put secrets, and its configuration.
    "cmdline",
    "config.gz",
    # How busy which device is, from which others' keystrokes and traffic were read before.
    "interrupts",
    "softirqs",
    "slabinfo",
    "vmallocinfo",
    "pagetypeinfo",
)
EMPTIED_IN_PROC = ("acpi", "asound", "fs", "scsi")
"""Folders that tell about the host's disks and devices; what /proc/bus, irq and sys hold bubblewrap makes read-only."""
SYSTEM = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")


def write_etc(
    place: Path,
    address: str,
    resolvers: tuple[str, ...],
    read_only: tuple[ReadOnly, ...] = (),
    host: Path = Path("/etc"),
) -> None:
    """Make at `place` the directory that becomes /etc, with mount points for what is mounted into it."""
    place.mkdir(mode=0o755)
    for name, text in {
        "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"member:x:{INSIDE_UID}:{INSIDE_UID}:Member:{HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": f"root:x:0:\ntty:x:5:\nmember:x:{INSIDE_UID}:\nnogroup:x:65534:\n",
        "hostname": f"{HOSTNAME}\n",
        "hosts": f"127.0.0.1\tlocalhost\n{address}\t{HOSTNAME}\n",
        "resolv.conf": "".join(f"nameserver {resolver}\n" for resolver in resolvers) or "# no name resolution\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
        "protocols: files\nservices: files\n",
        "machine-id": "0" * 31 + "1\n",
        "mtab": "",
    }.items():
        (place / name).write_text(text)
    for name in ETC_FILES:
        source = host / name
        with contextlib.suppress(OSError):
            if source.is_symlink() and str(source.resolve()).startswith("/usr/"):
                (place / name).symlink_to(source.resolve())
            elif source.is_file():
                shutil.copy(source, place / name)
    for name in ETC_DIRECTORIES:
        if (host / name).is_dir():
            (place / name).mkdir()
    for shown in read_only:
        if shown.inside.startswith("/etc/") and not (target := place / shown.inside.removeprefix("/etc/")).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir() if shown.source.is_dir() else target.touch()
    (place / "mutirao").mkdir(exist_ok=True)
    expendable = place / "mutirao" / "expendable"
    expendable.write_text(f'#!/bin/sh\necho {EXPENDABLE_SCORE} 2>/dev/null >/proc/self/oom_score_adj\nexec "$@"\n')
    expendable.chmod(0o755)


def options(
    spec: RuntimeSpec, *, etc: Path, home: Path, read_only: tuple[ReadOnly, ...], info: int, status: int, seccomp: int
) -> list[str]:
    """bubblewrap's options (see bwrap(1)) for the server of `spec`; the last three are descriptors it inherits.

    They hold the environment and so its secrets: pass them by --args, which no list of processes shows.
    The network namespace is not bubblewrap's to make: it is entered before, see `network`.
    """
    memory = spec.limits.memory_mb << 20
    words = [
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
        "--disable-userns",
    ]
    words += ["--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", HOSTNAME]
    words += ["--new-session", "--cap-drop", "ALL", "--seccomp", str(seccomp)]
    words += ["--info-fd", str(info), "--json-status-fd", str(status)]
    for directory in ("/home", "/run", "/sys", "/var"):
        words += ["--perms", "0755", "--dir", directory]
    words += ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM:
        place = Path("/") / name
        if place.is_symlink():
            words += ["--symlink", str(place.readlink()), str(place)]
        elif place.is_dir():
            words += ["--ro-bind", str(place), str(place)]
    words += ["--ro-bind", str(etc), "/etc"]
    for name in ETC_DIRECTORIES:
        if (etc / name).is_dir():
            words += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    words += ["--proc", "/proc"]
    for name in MASKED_IN_PROC:
        if (Path("/proc") / name).exists():
            words += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for name in EMPTIED_IN_PROC:
        if (Path("/proc") / name).is_dir():
            words += ["--perms", "0555", "--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
    words += ["--dev", "/dev", "--perms", "1777", "--size", str(memory // 2), "--tmpfs", "/dev/shm"]  # noqa: S108
    # numpy, PyTorch and OpenBLAS read the processors' layout; nothing else of /sys is shown.
    words += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    words += ["--ro-bind-try", "/sys/devices/system/node", "/sys/devices/system/node"]
    words += ["--perms", "1777", "--size", str(memory // 2), "--tmpfs", "/tmp"]  # noqa: S108
    words += ["--symlink", "/tmp", "/var/tmp", "--symlink", "/run", "/var/run"]  # noqa: S108
    words += ["--bind", str(home), HOME]
    for shown in read_only:
        words += ["--ro-bind", str(shown.source), shown.inside]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME, "--clearenv"]
    for name, value in spec.env.items():
        words += ["--setenv", name, value]
    return words
