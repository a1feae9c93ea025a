"""What this machine can do for sandboxes, and what to do about each lack.

Every check stands alone, changes nothing that outlives it, and turns whatever goes wrong into a line of its own, on any
machine and for any user. One who is not root is told about rootless mode, see `doctor_rootless`.
"""

import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox import cgroups, firewall, machine, network, quota, seccomp
from mutirao.sandbox.launch import ROOT_ENV


class State(StrEnum):
    """`lack` keeps runtimes from starting or from being walled; `note` is worth knowing."""

    OK = "ok"
    LACK = "lack"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report: what was looked at, what was found, and what to do (empty when it is fine)."""

    name: str
    state: State
    found: str
    do: str = ""


def examine(data: Path = Path("/var/lib/mutirao"), uid: int = 200_000) -> tuple[Check, ...]:
    """Look at this machine; `data` is where the service keeps its files, `uid` a host uid reserved for members."""
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("root", _root),
        ("programs", _programs),
        ("bubblewrap", lambda: _bubblewrap(uid)),
        ("control groups", _control_groups),
        ("seccomp", _seccomp),
        ("network", _network),
        ("nftables", _nftables),
        ("address translation", _nat),
        ("other firewalls", _other_firewalls),
        ("forwarding", _forwarding),
        ("name resolution", _resolvers),
        ("homes", lambda: _homes(data)),
        ("disk", lambda: _disk(data)),
        ("memory", _memory),
        ("BPF", _bpf),
        ("GPU", _gpu),
    )
    if os.geteuid() != 0:
        from mutirao.sandbox import doctor_rootless

        roots = {"root", "programs", "bubblewrap", "control groups", "network", "nftables", "address translation"}
        roots |= {"other firewalls", "forwarding", "homes"}
        looks = (*doctor_rootless.looks(), *(look for look in looks if look[0] not in roots))
    checks = []
    for name, look in looks:
        try:
            checks.append(look())
        except Exception as error:
            checks.append(Check(name, State.NOTE, f"could not be examined: {error}", "Report this as a bug."))
    return tuple(checks)


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    return Check("python", State.OK, found)


def _root() -> Check:
    return Check("root", State.OK, "this is root")


def _programs() -> Check:
    if missing := machine.missing(machine.PROGRAMS):
        packages = " ".join(dict.fromkeys(package for _, package in missing))
        names = ", ".join(program for program, _ in missing)
        return Check("programs", State.LACK, f"missing: {names}", f"apt-get install {packages}")
    return Check("programs", State.OK, ", ".join(program for program, _ in machine.PROGRAMS))


def _bubblewrap(uid: int) -> Check:
    if _which("bwrap") is None:
        return Check("bubblewrap", State.LACK, "no bwrap", "apt-get install bubblewrap")
    version = _say("bwrap", "--version").split()[-1]
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < (0, 8):
        return Check("bubblewrap", State.LACK, version, "Install bubblewrap 0.8 or newer (it has --disable-userns).")
    try:
        machine.need_user_namespaces(uid)
    except SandboxError as error:
        return Check("bubblewrap", State.LACK, f"{version}, but no user namespaces", str(error))
    return Check("bubblewrap", State.OK, f"{version}, with user namespaces for uid {uid}")


def _control_groups() -> Check:
    trees = cgroups.detect()
    if lacking := trees.lacking():
        do = "Boot with these controllers (cgroup_enable=memory, systemd.unified_cgroup_hierarchy=1)."
        return Check("control groups", State.LACK, f"no {', '.join(lacking)} in v1 or v2", do)
    places = [f"{name} in {'v2' if name in trees.v2_controllers else 'v1'}" for name in cgroups.NEEDED]
    kill = "cgroup.kill by v2" if trees.v2 else "killed one by one"
    found = f"{', '.join(places)}; {kill}"
    for root in trees.roots():
        if not _writable(root):
            do = "Run outside a container, or give it its own writable cgroup tree."
            return Check("control groups", State.LACK, f"{root} is read-only", do)
    return Check("control groups", State.OK, found)


def _writable(root: Path) -> bool:
    trial = root / f"mutirao-doctor-{secrets.token_hex(4)}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True


def _seccomp() -> Check:
    try:
        size = len(seccomp.program()) // 8
    except SandboxError as error:
        return Check("seccomp", State.LACK, str(error), "apt-get install libseccomp2")
    return Check("seccomp", State.OK, f"a filter of {size} instructions for {seccomp.native()}")


def _network() -> Check:
    try:
        network.try_out()
    except Exception as error:
        do = "The kernel needs network namespaces and veth (modprobe veth)."
        return Check("network", State.LACK, f"no network namespace or veth pair: {error}", do)
    return Check("network", State.OK, "network namespaces and veth pairs work")


def _nftables() -> Check:
    table = f"mutirao_doctor_{secrets.token_hex(4)}"
    rules = f"""table inet {table} {{
        set s {{ type ifname . ipv4_addr . inet_service; flags interval; }}
        chain c {{ type filter hook forward priority 0; policy accept;
            iifname "mut*" ct state established accept
            iifname . ip daddr . tcp dport @s reject with tcp reset
            iifname "mut-doctor" reject with icmp admin-prohibited
        }}
    }}
    delete table inet {table}
    """
    return _try_rules("nftables", rules, State.LACK, "The kernel needs nf_tables with conntrack and reject.")


def _nat() -> Check:
    table = f"mutirao_doctor_{secrets.token_hex(4)}"
    rules = f"""table inet {table} {{
        chain c {{ type nat hook postrouting priority 100; policy accept; iifname "mut-doctor" masquerade; }}
    }}
    delete table inet {table}
    """
    do = (
        "Runtimes have no way out until the network routes sandbox.subnet back to this machine, "
        "or the kernel gets nft_masq (modprobe nft_masq)."
    )
    return _try_rules("address translation", rules, State.NOTE, do)


def _try_rules(name: str, rules: str, state: State, do: str) -> Check:
    try:
        firewall.nft(rules)
    except SandboxError as error:
        return Check(name, state, str(error), do)
    return Check(name, State.OK, "works")


def _other_firewalls() -> Check:
    if _which("nft") is None:
        return Check("other firewalls", State.NOTE, "not examined", "Install nftables.")
    chains = firewall.nft("", "list", "chains").splitlines()
    closed = [line for line in chains if "hook forward" in line and "policy drop" in line]
    if closed:
        do = "Let that firewall accept packets from and to interfaces whose names begin with mut."
        return Check("other firewalls", State.NOTE, "another firewall drops what is forwarded (Docker, ufw?)", do)
    return Check("other firewalls", State.OK, "none drops what is forwarded")


def _forwarding() -> Check:
    if not firewall.FORWARD.exists():
        return Check("forwarding", State.LACK, "no IPv4 here", "Give this machine an IPv4 network.")
    if firewall.FORWARD.read_text().strip() != "0":
        return Check("forwarding", State.OK, "on")
    found = "off; the service turns it on while it runs and routes for nobody but runtimes"
    if not os.access(firewall.FORWARD, os.W_OK):
        return Check("forwarding", State.LACK, "off, and read-only here", "Set net.ipv4.ip_forward=1 on the machine.")
    return Check("forwarding", State.OK, found)


def _resolvers() -> Check:
    if found := firewall.host_resolvers():
        return Check("name resolution", State.OK, ", ".join(found))
    do = "Set sandbox.dns_servers to resolvers that runtimes can reach: a stub on 127.0.0.1 can't be reached."
    return Check("name resolution", State.NOTE, "no IPv4 resolver other than this machine's own loopback", do)


def _homes(data: Path) -> Check:
    place = _existing(data)
    if device := quota.device(place):
        return Check("homes", State.OK, f"project quotas on {device}")
    if not Path("/dev/loop-control").exists():
        do = "modprobe loop, or mount the data's file system with prjquota."
        return Check("homes", State.LACK, "neither project quotas nor loop devices", do)
    return Check("homes", State.OK, f"an image for each member (the file system of {place} has no project quotas)")


def _disk(data: Path) -> Check:
    place = _existing(data)
    free_gb = shutil.disk_usage(place).free / 1e9
    found = f"{free_gb:.0f} GB free at {place}"
    if free_gb < 1:
        return Check("disk", State.LACK, found, "Free some space: environments and homes need it.")
    if free_gb < 10:
        return Check("disk", State.NOTE, found, "Environments take 1-10 GB, homes up to their limit.")
    return Check("disk", State.OK, found)


def _memory() -> Check:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    total_gb, free_gb = (int(lines[key].split()[0]) / 1e6 for key in ("MemTotal", "MemAvailable"))
    found = f"{free_gb:.1f} of {total_gb:.1f} GB available, {os.cpu_count()} CPUs"
    if total_gb < 2:
        return Check("memory", State.NOTE, found, "Hub and proxy take 0.5 GB, each runtime 0.2 GB and what people use.")
    return Check("memory", State.OK, found)


def _bpf() -> Check:
    found = []
    if Path("/sys/kernel/btf/vmlinux").is_file() and os.access("/sys/kernel/btf/vmlinux", os.R_OK):
        found.append("BTF")
    if any("bpf" in line.split()[2:3] for line in Path("/proc/self/mounts").read_text().splitlines()):
        found.append("bpffs")
    if any(Path(place, "tracing/events/sched").is_dir() for place in ("/sys/kernel", "/sys/kernel/debug")):
        found.append("tracepoints")
    if _bpf_call():
        found.append("bpf()")
    if {"BTF", "bpf()"} <= set(found):
        return Check("BPF", State.OK, ", ".join(found))
    do = "The watcher will fall back to the proc connector, which sees every program but not all arguments."
    return Check("BPF", State.NOTE, f"found: {', '.join(found) or 'nothing'}", do)


def _bpf_call() -> bool:
    """Whether bpf(2) can make an array map of one entry, which is closed again at once."""
    import ctypes
    import struct

    number = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
    if number is None:
        return False
    attributes = struct.pack("=IIIII", 2, 4, 4, 1, 0)
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, len(attributes))
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True


def _gpu() -> Check:
    nodes = sorted(place.name for place in Path("/dev").glob("nvidia[0-9]*"))
    if not nodes:
        return Check("GPU", State.NOTE, "none", "Runtimes get CPUs alone.")
    named = ""
    if _which("nvidia-smi"):
        named = ", ".join(_say("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines())
    return Check("GPU", State.OK, f"{', '.join(nodes)} {named}".strip())


def _existing(place: Path) -> Path:
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return place


def _which(program: str) -> str | None:
    return shutil.which(program, path=ROOT_ENV["PATH"])


def _say(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20, env=ROOT_ENV)
    return done.stdout.strip()
