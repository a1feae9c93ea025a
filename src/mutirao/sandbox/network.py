"""A network namespace for each runtime, joined to the host by a veth pair with one address on each side.

The namespace is made by root before bubblewrap starts, so it belongs to the host's user namespace and the member has
no rights over it. The runtime's side is called eth0 and has one address (/32) and one way out: the subnet's first
address, which the host keeps on its loopback interface and where the hub's API listens. Neighbours are entered by
hand on both sides, so nothing is ever asked or answered by ARP. IPv6 is off.

The whole subnet is blackholed on the host before the first runtime starts: a packet for a runtime that is gone would
otherwise leave the machine by the default route.
"""

import contextlib
import errno
import ipaddress
import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from mutirao.errors import SandboxError
from mutirao.sandbox import syscalls

ROUTE_MARK = 109
"""The `proto` of our routes (see rt_protos), by which we know them again."""

PREFIX = "mut"
INSIDE = "eth0"


class Network:
    """The host's side of every runtime's network, for one service."""

    def __init__(self, subnet: str, instance: str) -> None:
        try:
            self.subnet = ipaddress.IPv4Network(subnet)
        except ValueError as error:
            raise SandboxError(f"sandbox.subnet is {subnet!r}: {error}. Write it as 10.137.0.0/16.") from None
        if not 8 <= self.subnet.prefixlen <= 29:
            raise SandboxError(f"sandbox.subnet is {subnet}: choose a size between /8 and /29.")
        self.interfaces = f"{PREFIX}{instance}"
        self.gateway = str(self.subnet.network_address + 1)
        self._label = f"lo:{self.interfaces}"

    def interface(self, name: str) -> str:
        """The host's name for a runtime's veth."""
        return f"{self.interfaces}{name}"

    def prepare(self) -> None:
        """Blackhole the subnet, then bring up the gateway's address; idempotent."""
        with IPRoute() as ip:
            self._refuse_overlap(ip)
            ip.route("replace", dst=str(self.subnet), type="blackhole", proto=ROUTE_MARK)
            ip.addr("replace", index=1, address=self.gateway, prefixlen=32, label=self._label)
            ip.link("set", index=1, state="up")

    def free_address(self, taken: Collection[str], last: str | None) -> str:
        """The next address after `last` that nobody has, so that an address rests before it is given again."""
        first = int(self.subnet.network_address) + 2
        size = self.subnet.num_addresses - 3
        start = int(ipaddress.IPv4Address(last)) + 1 - first if last else 0
        for step in range(size):
            address = str(ipaddress.IPv4Address(first + (start + step) % size))
            if address not in taken:
                return address
        raise SandboxError(
            f"all {size} addresses of {self.subnet} are in use: widen sandbox.subnet, or stop a runtime."
        )

    def make(self, name: str, address: str, netns: Path) -> None:
        """Make the runtime's namespace, mounted on the file `netns`, and the pair that leads to it."""
        interface = self.interface(name)
        netns.touch()
        _in_thread(lambda: _new_namespace(netns))
        with IPRoute() as ip, netns.open() as namespace:
            mtu = _way_out_mtu(ip)
            peer = {"ifname": INSIDE, "mtu": mtu, "net_ns_fd": namespace.fileno()}
            ip.link("add", ifname=interface, kind="veth", mtu=mtu, peer=peer)
            with contextlib.suppress(OSError):
                Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
            link = ip.get_links(ifname=interface)[0]
            index, hardware = link["index"], link.get_attr("IFLA_ADDRESS")
            ip.link("set", index=index, state="up")
            inside = _in_thread(lambda: self._inside(namespace.fileno(), address, hardware))
            ip.neigh("replace", dst=address, lladdr=inside, ifindex=index, state="permanent")
            ip.route("replace", dst=f"{address}/32", oif=index, scope="link", proto=ROUTE_MARK, prefsrc=self.gateway)

    def _inside(self, namespace: int, address: str, gateway_hardware: str) -> str:
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        with IPRoute() as ip:
            link = ip.get_links(ifname=INSIDE)[0]
            index = link["index"]
            ip.link("set", index=1, state="up")
            ip.link("set", index=index, state="up")
            ip.addr("add", index=index, address=address, prefixlen=32)
            ip.neigh("replace", dst=self.gateway, lladdr=gateway_hardware, ifindex=index, state="permanent")
            ip.route("add", dst=f"{self.gateway}/32", oif=index, scope="link")
            ip.route("add", dst="default", gateway=self.gateway, oif=index)
            return str(link.get_attr("IFLA_ADDRESS"))

    def remove(self, interface: str, netns: Path) -> None:
        """Remove the pair and the namespace; missing ones are fine."""
        with IPRoute() as ip:
            for index in ip.link_lookup(ifname=interface):
                _gone(partial(ip.link, "del", index=index))
        with contextlib.suppress(OSError):
            syscalls.unmount(str(netns), syscalls.MNT_DETACH)
        netns.unlink(missing_ok=True)

    def leftovers(self) -> tuple[str, ...]:
        """The veths of ours that stand now, by the host's name."""
        with IPRoute() as ip:
            names = (str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links())
            return tuple(name for name in names if name.startswith(self.interfaces))

    def teardown(self) -> None:
        """Remove the gateway's address and the blackhole."""
        with IPRoute() as ip:
            _gone(lambda: ip.addr("del", index=1, address=self.gateway, prefixlen=32, label=self._label))
            _gone(lambda: ip.route("del", dst=str(self.subnet), type="blackhole", proto=ROUTE_MARK))

    def _refuse_overlap(self, ip: Any) -> None:
        for found in ip.get_addr(family=2):
            address, label = found.get_attr("IFA_ADDRESS"), found.get_attr("IFA_LABEL")
            network = ipaddress.IPv4Network(f"{address}/{found['prefixlen']}", strict=False)
            if network.overlaps(self.subnet) and label != self._label:
                raise SandboxError(
                    f"sandbox.subnet {self.subnet} is in use on this machine: {label} has {address}. "
                    "Choose a range that nothing else uses, or stop the other Mutirão."
                )
        for route in ip.get_routes(family=2, table=254):
            target = route.get_attr("RTA_DST")
            if target is None or route["proto"] == ROUTE_MARK:
                continue
            if ipaddress.IPv4Network(f"{target}/{route['dst_len']}").overlaps(self.subnet):
                raise SandboxError(
                    f"sandbox.subnet {self.subnet} is in use on this machine: there is a route to "
                    f"{target}/{route['dst_len']}. Choose a range that nothing else uses."
                )


def _way_out_mtu(ip: Any) -> int:
    """The smallest packet size of the host's default routes, so that nothing has to be cut on the way."""
    sizes = [1500]
    for route in ip.get_default_routes(family=2):
        if index := route.get_attr("RTA_OIF"):
            sizes += [link.get_attr("IFLA_MTU") for link in ip.get_links(index)]
    return min(sizes)


def _new_namespace(place: Path) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNET)
    for scope in ("all", "default"):
        # /proc/sys/net shows the namespace of the thread that looks. A kernel without IPv6 has no such file.
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
    syscalls.mount("/proc/thread-self/ns/net", str(place), flags=syscalls.MS_BIND)


def try_out() -> None:
    """Make a namespace and a veth pair in it, both of which end with this call; raises what the kernel says."""

    def inside() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with IPRoute() as ip:
            ip.link("add", ifname="try0", kind="veth", peer={"ifname": "try1"})

    _in_thread(inside)


def _in_thread(work: Callable[[], Any]) -> Any:
    """Run `work` in a thread of its own, which alone changes namespace and then ends."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="mutirao-netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _gone(remove: Callable[[], Any]) -> None:
    try:
        remove()
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL):
            raise
