"""A runtime's network without root: a namespace that an unprivileged user owns, joined to the host by pasta.

pasta (Debian: passt) is a process of the service's user that carries connections from the namespace to sockets of the
host. Its usual doors to the host's loopback are shut; one is opened on purpose, from outside: the server's port, which
the host reaches on a loopback address that is the runtime's alone. What may leave is judged by nftables inside the
namespace, loaded before pasta starts. The rules belong to the namespace's owner; the member runs in a user namespace
below it and has no rights over them.

Source: passt(1) of 2023-03, which Debian 12 has; newer ones know the same options.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from mutirao.errors import SandboxError
from mutirao.sandbox import processes
from mutirao.sandbox.firewall import BURST, CONNECTIONS, PACE, REFUSED
from mutirao.sandbox.launch import ROOT_ENV
from mutirao.sandbox.spec import NetworkPolicy

INSIDE, GATEWAY, BITS = "192.0.0.2", "192.0.0.1", 29
"""Addresses inside, the same for everybody (RFC 7335 keeps them for such use); no packet ever carries them outside."""
START_S = 10.0
INOTIFY = 64
"""So many inotify instances one runtime may have; they are counted for the host's user, whom all members share."""

_RULES = """
table inet walls
delete table inet walls
table inet walls {{
    set own {{ type ipv4_addr; flags interval; auto-merge; {own} }}
    set refused {{ type ipv4_addr; flags interval; auto-merge; {refused} }}
    set resolvers {{ type ipv4_addr; {resolvers} }}
    set ports {{ type inet_service; {ports} }}
    set allowed {{ type ipv4_addr . inet_service; flags interval; {allowed} }}
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
    }}
    chain output {{
        type filter hook output priority 0; policy drop;
        oifname "lo" accept
        ct state established,related accept
        {crowd}
        ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
        ip daddr @own jump refuse
        ip daddr . tcp dport @allowed accept
        ip daddr @refused jump refuse
        tcp dport @ports accept
        jump refuse
    }}
    chain refuse {{
        meta l4proto tcp reject with tcp reset
        meta nfproto ipv4 reject with icmp admin-prohibited
        drop
    }}
}}
"""

_SET_UP = f"""
ip link set lo up
for scope in all default; do echo 1 >/proc/sys/net/ipv6/conf/$scope/disable_ipv6; done 2>/dev/null
echo {INOTIFY} >/proc/sys/user/max_inotify_instances 2>/dev/null
exec nft -f -
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that keeps a runtime's user and network namespace, known by pid and start time."""

    pid: int
    start_time: int

    @property
    def netns(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def enter(self) -> tuple[str, ...]:
        """The words that run a command in these namespaces, with rights over them and nothing else."""
        return ("nsenter", "--preserve-credentials", f"--user=/proc/{self.pid}/ns/user", f"--net={self.netns}", "--")

    def alive(self) -> bool:
        return processes.alive(self.pid, self.start_time)

    def end(self) -> None:
        processes.kill(self.pid, self.start_time, signal.SIGKILL)


def hold() -> tuple[Holder, "subprocess.Popen[bytes]"]:
    """Make the two namespaces, and a process that keeps them until it is ended."""
    process = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", "--", "sh", "-c", "echo made; exec sleep infinity >&-"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ROOT_ENV,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout and process.stderr
    with process.stdout, process.stderr:
        made = process.stdout.readline() == b"made\n"
        found = processes.stat(process.pid)
        if not made or found is None:
            process.kill()
            process.wait()
            said = process.stderr.read().decode(errors="replace").strip()[:200]
            raise SandboxError(f"no user and network namespace can be made ({said}): see `mutirao doctor`.")
    return Holder(process.pid, found.start_time), process


def rules(policy: NetworkPolicy, resolvers: Iterable[str], own: Iterable[str]) -> str:
    """The filter inside: what `policy` allows, never an address of the host's own."""

    def elements(entries: Iterable[object]) -> str:
        listed = ", ".join(map(str, entries))
        return f"elements = {{ {listed} }};" if listed else ""

    return _RULES.format(
        own=elements(own),
        refused=elements(REFUSED),
        resolvers=elements(resolvers),
        ports=elements(policy.tcp_ports),
        allowed=elements(f"{network} . {port}" for network, port in policy.allowed()),
        crowd=f"ct state new ct count over {CONNECTIONS} jump refuse\n        "
        f"ct state new limit rate over {PACE}/second burst {BURST} packets jump refuse",
    )


def load(holder: Holder, text: str) -> None:
    """Bring up loopback and load the filter, all of it or none."""
    done = subprocess.run(
        [*holder.enter(), "sh", "-c", _SET_UP], input=text, capture_output=True, text=True, check=False, env=ROOT_ENV
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        raise SandboxError(f"the packet filter can't be loaded without root ({said}): see `mutirao doctor`.")


def filtered(holder: Holder) -> bool:
    """Whether the filter stands in the namespace."""
    words = [*holder.enter(), "nft", "list", "table", "inet", "walls"]
    return subprocess.run(words, capture_output=True, check=False, env=ROOT_ENV).returncode == 0


def connect(holder: Holder, address: str, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start pasta for these namespaces; returns when the host can reach the server's port at `address`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *("pasta", "--foreground", "--quiet", "--ipv4-only", "--config-net", "--no-map-gw"),
                *("--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra", "--interface", _way_out(), "--ns-ifname", "eth0"),
                *("--address", INSIDE, "--netmask", str(BITS), "--gateway", GATEWAY),
                *("--tcp-ports", f"{address}/{port}", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
                *("--netns", holder.netns, "--userns", f"/proc/{holder.pid}/ns/user"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=ROOT_ENV,
            cwd="/",
            start_new_session=True,
        )
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if _listens(address, port):
            return process
        time.sleep(0.005)
    process.kill()
    process.wait()
    said = " ".join(line for line in log.read_text(errors="replace").splitlines() if "syslog" not in line)[-300:]
    raise SandboxError(f"pasta gives no network ({said or 'it said nothing'}): see `mutirao doctor`.")


def own_addresses() -> tuple[str, ...]:
    """The host's own IPv4 addresses, which a runtime must not reach through pasta."""
    with IPRoute() as ip:
        # A link to one peer has the peer's address and, apart from it, its own.
        found = [entry.get_attr(key) for entry in ip.get_addr(family=2) for key in ("IFA_ADDRESS", "IFA_LOCAL")]
    return tuple(sorted({str(address) for address in found if address}))


def _way_out() -> str:
    """The interface of the default route, any other where there is none: pasta wants one to begin with."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, target, *_ = line.split()
        if target == "00000000":
            return name
    names = sorted(place.name for place in Path("/sys/class/net").iterdir())
    return next((name for name in names if name != "lo"), "lo")


def _listens(address: str, port: int) -> bool:
    """Whether a socket of this user listens there: another's would be somebody who waits for our members' secrets."""
    number = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    wanted = f"{number}:{port:04X}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == wanted and fields[3] == "0A":
                return int(fields[7]) == os.getuid()
    return False
