"""The packet filter: one nftables table of ours, whose rules stand still while its sets change with each runtime.

What a runtime may do: answer the host, reach the hub's API, ask the resolvers, connect to the allow-listed TCP ports of
public addresses and to the private ranges that are opened for it. Everything else is refused at once rather than
dropped, so that a notebook shows an error instead of hanging. Nothing connects to a runtime but the host, at the
server's port.
"""

import contextlib
import ipaddress
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from mutirao.errors import SandboxError
from mutirao.sandbox.launch import ROOT_ENV
from mutirao.sandbox.network import PREFIX
from mutirao.sandbox.spec import NetworkPolicy

REFUSED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    # Azure's own service for its machines, with secrets of theirs, at a public address (168.63.129.16 in its manual).
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
"""What is not the public internet (RFC 6890, and one cloud's exception), apart from the ranges for documentation."""

CONNECTIONS = 2000
"""How many connections to the outside one runtime may have at once."""

PACE, BURST = 100, 1000
"""How many new connections a second one runtime may make, and how many in one go: closed ones, which no count of
open ones sees, stay in the machine's table for minutes."""

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))

_RULES = """
add table inet {table}
delete table inet {table}
table inet {table} {{
    set refused {{ type ipv4_addr; flags interval; elements = {{ {refused} }}; }}
    set outside {{ type ifname; {outside} }}
    set hub {{ type inet_service; {hub} }}
    {counted}
    {paced}
    set senders {{ type ifname . ipv4_addr; }}
    set servers {{ type ifname . inet_service; }}
    set resolvers {{ type ifname . ipv4_addr; }}
    set ports {{ type ifname . inet_service; }}
    set allowed {{ type ifname . ipv4_addr . inet_service; flags interval; }}

    chain input {{
        type filter hook input priority -5; policy accept;
        iifname "{ours}" goto to_host
        # The hub's address is for runtimes, not for the neighbourhood of this machine.
        ip daddr {gateway} iifname != "lo" drop
    }}
    chain to_host {{
        iifname . ip saddr != @senders drop
        ct state established,related accept
        {crowd}
        {pace}
        ip daddr {gateway} tcp dport @hub accept
        iifname . ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
        jump refuse
    }}
    chain forward {{
        type filter hook forward priority -5; policy accept;
        iifname "{ours}" goto from_runtime
        oifname "{ours}" goto to_runtime
        {no_router}
    }}
    chain from_runtime {{
        iifname . ip saddr != @senders drop
        oifname "{all}" jump refuse
        ct state established,related accept
        {crowd}
        {pace}
        iifname . ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
        iifname . ip daddr . tcp dport @allowed accept
        ip daddr @refused jump refuse
        iifname . tcp dport @ports accept
        jump refuse
    }}
    chain to_runtime {{
        ct state established,related accept
        drop
    }}
    chain output {{
        type filter hook output priority -5; policy accept;
        oifname "{ours}" goto host_to_runtime
    }}
    chain host_to_runtime {{
        ct state established,related accept
        oifname . tcp dport @servers accept
        meta l4proto tcp reject with tcp reset
        meta l4proto icmp accept
        drop
    }}
    chain refuse {{
        meta l4proto tcp reject with tcp reset
        meta nfproto ipv4 reject with icmp admin-prohibited
        drop
    }}
    {nat}
}}
"""

_NAT = """chain nat {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr {subnet} oifname != "{all}" oifname != "lo" masquerade
    }}"""


class Firewall:
    """The table of one service."""

    def __init__(
        self, instance: str, subnet: ipaddress.IPv4Network, gateway: str, interfaces: str, shared: Path
    ) -> None:
        self.table = f"mutirao_{instance}"
        self.nat = True
        self._subnet = subnet
        self._gateway = gateway
        self._interfaces = interfaces
        self._was = shared / "ip_forward"

    def prepare(self, hub_ports: tuple[int, ...]) -> None:
        """Load the table afresh, without any runtime in it, and let the machine forward packets."""
        router = FORWARD.read_text().strip() != "0" and not self._was.exists()
        outside = "" if router else ", ".join(f'"{name}"' for name in _outside())
        values = {
            "table": self.table,
            "refused": ", ".join(REFUSED),
            "outside": f"elements = {{ {outside} }};" if outside else "",
            # Forwarding is the whole machine's switch: whoever it did not route for before, it does not route for now.
            "no_router": "iifname @outside oifname @outside drop" if outside else "",
            "hub": f"elements = {{ {', '.join(map(str, hub_ports))} }};" if hub_ports else "",
            "gateway": self._gateway,
            "ours": f"{self._interfaces}*",
            "all": f"{PREFIX}*",
        }
        parts = {
            "nat": _NAT.format(subnet=self._subnet, all=values["all"]),
            "counted": "set counted { type ipv4_addr; flags dynamic; size 65535; }",
            # The table of connections is the whole machine's: nobody may fill it.
            "crowd": f"ct state new add @counted {{ ip saddr ct count over {CONNECTIONS} }} jump refuse",
            "paced": "set paced { type ipv4_addr; flags dynamic; size 65535; timeout 1m; }",
            "pace": "ct state new update @paced "
            f"{{ ip saddr limit rate over {PACE}/second burst {BURST} packets }} jump refuse",
        }
        # Older kernels can't count connections. One without NAT still serves where the network routes the subnet back.
        uncounted = ("counted", "crowd", "paced", "pace")
        for missing in ((), uncounted, ("nat",), ("nat", *uncounted)):
            try:
                nft(_RULES.format(**values, **{name: "" if name in missing else part for name, part in parts.items()}))
                self.nat = "nat" not in missing
                break
            except SandboxError:
                if len(missing) == len(parts):
                    raise
        if not router:
            self._was.parent.mkdir(parents=True, exist_ok=True)
            self._was.write_text("0")
            try:
                FORWARD.write_text("1")
            except OSError as error:
                raise SandboxError(
                    f"{FORWARD} can't be set to 1 ({error.strerror}): runtimes would have no network. "
                    "Set net.ipv4.ip_forward=1 on the machine."
                ) from error

    def stands(self) -> bool:
        """Whether the table is loaded."""
        return self._stands(self.table)

    def admit(self, interface: str, address: str, port: int, policy: NetworkPolicy, resolvers: tuple[str, ...]) -> None:
        """Enter a runtime into the sets."""
        name = f'"{interface}"'
        lines = {
            "senders": [f"{name} . {address}"],
            "servers": [f"{name} . {port}"],
            "resolvers": [f"{name} . {resolver}" for resolver in resolvers],
            "ports": [f"{name} . {allowed}" for allowed in policy.tcp_ports],
            "allowed": [f"{name} . {network} . {allowed}" for network, allowed in policy.allowed()],
        }
        nft("".join(_element("add", self.table, kind, entry) for kind, entries in lines.items() for entry in entries))

    def admitted(self) -> frozenset[str]:
        """The interfaces that are in the sets."""
        return frozenset(entry.split('"')[1] for entries in self._listing().values() for entry in entries)

    def dismiss(self, *interfaces: str) -> None:
        """Take runtimes out of the sets; one that is not in them is fine."""
        if not interfaces:
            return
        names = {f'"{interface}"' for interface in interfaces}
        lines = [
            _element("delete", self.table, kind, entry)
            for kind, entries in self._listing().items()
            for entry in entries
            if entry.split(" . ")[0] in names
        ]
        if lines:
            nft("".join(lines))

    def teardown(self) -> None:
        """Remove the table; the last service on the machine puts forwarding back as it was."""
        if self._stands(self.table):
            nft(f"delete table inet {self.table}\n")
        if self._was.exists() and not self._stands("mutirao_", whole=False):
            with contextlib.suppress(OSError):
                FORWARD.write_text(self._was.read_text())
            self._was.unlink(missing_ok=True)

    def _stands(self, table: str, *, whole: bool = True) -> bool:
        names = [line.split()[-1] for line in nft("", "list", "tables", "inet").splitlines() if line.split()]
        return any(name == table if whole else name.startswith(table) for name in names)

    def _listing(self) -> dict[str, list[str]]:
        if not self._stands(self.table):
            return {}
        found: dict[str, list[str]] = {}
        for item in json.loads(nft("", "--json", "list", "table", "inet", self.table))["nftables"]:
            one = item.get("set")
            if one and one["name"] in ("senders", "servers", "resolvers", "ports", "allowed"):
                found[one["name"]] = [_plain(element) for element in one.get("elem", [])]
        return found


def nft(rules: str, *words: str) -> str:
    """Run nft on `rules`, all of them or none, or on the command `words`; returns what it prints."""
    try:
        done = subprocess.run(
            ["nft", *(words or ("-f", "-"))], input=rules, capture_output=True, text=True, check=False, env=ROOT_ENV
        )
    except FileNotFoundError:
        raise SandboxError("nft is missing: install the package nftables.") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise SandboxError(f"nftables refuses our rules ({' '.join(lines[:2])}): see `mutirao doctor`.")
    return done.stdout


def _element(verb: str, table: str, kind: str, entry: str) -> str:
    return f"{verb} element inet {table} {kind} {{ {entry} }}\n"


def _plain(element: object) -> str:
    """An element of nft's JSON as it is written in rules."""
    if isinstance(element, dict):
        if "elem" in element:
            return _plain(element["elem"]["val"])
        if "concat" in element:
            first, *rest = element["concat"]
            return " . ".join([f'"{first}"', *(_plain(part) for part in rest)])
        if "prefix" in element:
            return f"{element['prefix']['addr']}/{element['prefix']['len']}"
        if "range" in element:
            return "-".join(_plain(part) for part in element["range"])
    return str(element)


def _outside() -> Iterable[str]:
    return sorted(
        place.name
        for place in Path("/sys/class/net").iterdir()
        if not place.name.startswith(PREFIX) and place.name != "lo"
    )


def host_resolvers(places: Iterable[Path] = RESOLV_CONF) -> tuple[str, ...]:
    """The host's IPv4 resolvers that a runtime can reach, three at most; a local stub's own upstreams in its place."""
    found: list[str] = []
    for place in places:
        with contextlib.suppress(OSError):
            for line in place.read_text(errors="replace").splitlines():
                fields = line.split()
                if len(fields) > 1 and fields[0] == "nameserver":
                    with contextlib.suppress(ValueError):
                        address = ipaddress.IPv4Address(fields[1])
                        if not address.is_loopback and str(address) not in found:
                            found.append(str(address))
        if found:
            break
    return tuple(found[:3])
