"""Where a runtime can connect to, and who can connect to it; the outside is a namespace of the tests' own."""

import asyncio
import errno
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import firewall
from mutirao.sandbox.network import Network
from mutirao.sandbox.spec import NetworkPolicy
from tests.sandbox.house import (
    HUB_PORT,
    METADATA,
    OUTSIDE,
    POLICY,
    PORT,
    PRIVATE,
    RESOLVER,
    Guest,
    House,
    until,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("outside")]


def from_host(address: str, port: int) -> str:
    """What the host itself gets there: proof that a refusal inside is no accident."""
    with socket.create_connection((address, port), 3) as connection:
        return connection.recv(100).decode()


@contextmanager
def listener(address: str, port: int) -> Iterator[int]:
    """A listener on the host, which greets."""
    with socket.create_server((address, port)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"host")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("port", [80, 443])
def test_allowed_ports_of_the_outside_answer(guest: Guest, port: int) -> None:
    assert guest.connects(OUTSIDE, port) == "hello 203.0.113.1", "and the runtime's address stays inside"


@pytest.mark.parametrize("port", [22, 5432])
def test_other_ports_are_refused_at_once(guest: Guest, port: int) -> None:
    assert from_host(OUTSIDE, port).startswith("hello")
    assert guest.connects(OUTSIDE, port).startswith("ConnectionRefusedError")


@pytest.mark.parametrize("address", [PRIVATE, METADATA])
def test_private_and_link_local_addresses_are_refused(guest: Guest, address: str) -> None:
    assert from_host(address, 443).startswith("hello")
    assert guest.connects(address, 443).startswith("ConnectionRefusedError")


@pytest.mark.parametrize(
    "address", ["100.64.0.1", "172.16.0.1", "192.168.0.1", "198.18.0.1", "240.0.0.1", "10.250.0.9"]
)
def test_so_is_every_range_that_is_not_public(guest: Guest, address: str) -> None:
    assert guest.connects(address, 443, 1).startswith("ConnectionRefusedError")


def test_a_private_range_that_is_allowed_answers_on_its_ports(house: House) -> None:
    policy = NetworkPolicy(tcp_ports=(443,), dns=False, allow=(f"{PRIVATE}/32:5432", "10.99.0.0/16"))
    friend = house.start("friend", network=policy)
    assert friend.connects(PRIVATE, 5432).startswith("hello")
    assert friend.connects(PRIVATE, 443).startswith("hello")
    assert friend.connects(PRIVATE, 22).startswith("ConnectionRefusedError")
    assert friend.connects(OUTSIDE, 80).startswith("ConnectionRefusedError")
    house.run(house.sandboxes.stop(friend.running, 0))


ASK = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect(({address!r}, {port}))
s.send(b"name")
try:
    result = s.recv(100).decode()
except OSError as error:
    result = type(error).__name__
"""


def test_resolvers_answer_and_nobody_else_by_udp(guest: Guest, house: House) -> None:
    assert guest(ASK.format(address=RESOLVER, port=53)) == "answer name"
    assert guest(ASK.format(address=OUTSIDE, port=53)) != "answer name"
    assert guest(ASK.format(address=RESOLVER, port=123)) != "answer name"


def test_without_dns_no_resolver_answers(house: House) -> None:
    quiet = house.start("quiet", network=NetworkPolicy(dns=False, dns_servers=(RESOLVER,)))
    assert quiet(ASK.format(address=RESOLVER, port=53)) != "answer name"
    assert "nameserver" not in quiet("result = open('/etc/resolv.conf').read()")
    house.run(house.sandboxes.stop(quiet.running, 0))


def test_the_hosts_loopback_is_out_of_reach(guest: Guest) -> None:
    with listener("127.0.0.1", 0) as port:
        assert from_host("127.0.0.1", port) == "host"
        assert guest.connects("127.0.0.1", port).startswith("ConnectionRefusedError")


@pytest.mark.parametrize("address", ["203.0.113.1", "10.99.7.1"])
@pytest.mark.parametrize("port", [443, 0])
def test_the_host_itself_is_out_of_reach(guest: Guest, address: str, port: int) -> None:
    with listener(address, port) as bound:
        assert from_host(address, bound) == "host"
        assert guest.connects(address, bound).startswith("ConnectionRefusedError")


def test_of_the_host_only_the_hub_answers(guest: Guest, house: House) -> None:
    gateway = house.sandboxes.hub_address
    with listener(gateway, HUB_PORT), listener(gateway, 443):
        assert guest.connects(gateway, HUB_PORT) == "host"
        assert guest.connects(gateway, 443).startswith("ConnectionRefusedError")


def test_neighbours_of_the_machine_dont_reach_the_hub_or_a_runtime(guest: Guest, house: House) -> None:
    """The peer routes by this machine, and still only runtimes and the host get through."""
    pid = next(
        place.name
        for place in Path("/proc").glob("[0-9]*")
        if b"selectors" in cmdline(place) and b"tcp,0.0.0.0,5432" in cmdline(place)
    )
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net", "/usr/bin/python3", "-c"]
    code = "import socket; socket.create_connection(({!r}, {}), 1)"
    gateway = house.sandboxes.hub_address
    with listener(gateway, HUB_PORT), listener("203.0.113.1", 4443):
        reached = subprocess.run([*enter, code.format("203.0.113.1", 4443)], capture_output=True)
        assert reached.returncode == 0, "the peer can reach the machine at all"
        for address, port in ((gateway, HUB_PORT), (guest.running.address, PORT)):
            assert subprocess.run([*enter, code.format(address, port)], capture_output=True).returncode != 0


def cmdline(place: Path) -> bytes:
    try:
        return (place / "cmdline").read_bytes()
    except OSError:
        return b""


def test_another_runtime_is_out_of_reach(guest: Guest, neighbour: Guest) -> None:
    assert neighbour.answers()
    assert guest.connects(neighbour.running.address, PORT).startswith("ConnectionRefusedError")
    neighbour("import socket; s = socket.create_server(('0.0.0.0', 4443)); __builtins__['kept'] = s")
    assert guest.connects(neighbour.running.address, 4443).startswith("ConnectionRefusedError")


def test_not_even_an_allowed_range_opens_the_way_to_runtimes_or_the_host(neighbour: Guest, house: House) -> None:
    wide = house.start(
        "wide", network=NetworkPolicy(tcp_ports=(443, PORT), dns=False, allow=("10.0.0.0/8", "172.16.0.0/12"))
    )
    assert wide.connects(PRIVATE, 443).startswith("hello")
    assert wide.connects(neighbour.running.address, PORT).startswith("ConnectionRefusedError")
    with listener("10.99.7.1", 443):
        assert wide.connects("10.99.7.1", 443).startswith("ConnectionRefusedError")
    house.run(house.sandboxes.stop(wide.running, 0))


def test_the_host_reaches_the_servers_port_and_no_other(guest: Guest) -> None:
    assert guest.answers()
    guest("import socket; s = socket.create_server(('0.0.0.0', 9999)); __builtins__['kept'] = s")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((guest.running.address, 9999), 2)


def test_there_is_no_ipv6(guest: Guest) -> None:
    assert guest("result = open('/proc/sys/net/ipv6/conf/all/disable_ipv6').read().strip()") == "1"
    assert guest("result = open('/proc/net/if_inet6').read()") == ""


def test_the_member_has_no_rights_over_the_interface(guest: Guest) -> None:
    for words in ("link set eth0 down", "addr add 172.29.9.9/32 dev eth0", "route del default"):
        assert guest.shell(f"/usr/sbin/ip {words}")[0] != 0
    assert guest.answers()


def test_a_borrowed_address_is_dropped(guest: Guest) -> None:
    """Even root in the namespace could not speak for another runtime."""
    netns = guest.running.walls.netns
    subprocess.run(["nsenter", f"--net={netns}", "ip", "addr", "add", "172.29.200.1/32", "dev", "eth0"], check=True)
    try:
        found = guest(
            "import socket\ns = socket.socket()\ns.settimeout(1)\ns.bind(('172.29.200.1', 0))\n"
            f"result = s.connect_ex(('{OUTSIDE}', 443))"
        )
        assert found != 0
        # The kernel lists a connection once its first packet was let through.
        assert "172.29.200.1" not in Path("/proc/net/nf_conntrack").read_text()
    finally:
        subprocess.run(["nsenter", f"--net={netns}", "ip", "addr", "del", "172.29.200.1/32", "dev", "eth0"], check=True)


def test_a_dead_runtimes_address_leads_nowhere(house: House) -> None:
    gone = house.start("gone")
    address = gone.running.address
    house.run(house.sandboxes.stop(gone.running, 0))
    routes = json.loads(subprocess.run(["ip", "-j", "route"], capture_output=True, check=True).stdout)
    assert [route for route in routes if route.get("type") == "blackhole" and route["dst"] == "172.29.0.0/16"]
    # The kernel answers itself; nothing is sent by the default route.
    with pytest.raises(OSError, match=r"Invalid argument|unreachable"):
        socket.create_connection((address, PORT), 1)


def test_an_address_rests_before_it_is_given_again() -> None:
    network = Network("10.141.0.0/29", "test")
    assert network.gateway == "10.141.0.1"
    assert network.free_address({"10.141.0.2"}, None) == "10.141.0.3"
    assert network.free_address(set(), "10.141.0.3") == "10.141.0.4"
    assert network.free_address({"10.141.0.5"}, "10.141.0.4") == "10.141.0.6"
    assert network.free_address(set(), "10.141.0.6") == "10.141.0.2"


def test_a_range_that_is_used_up_says_so() -> None:
    network = Network("10.141.0.0/29", "test")
    with pytest.raises(SandboxError, match=r"all 5 addresses of 10.141.0.0/29 are in use: widen sandbox.subnet"):
        network.free_address({f"10.141.0.{n}" for n in range(2, 7)}, "10.141.0.3")


@pytest.mark.parametrize("subnet", ["10.137.0.0/33", "10.137.1.1/16", "fd00::/64", "10.137.0.0/30", "", "10.0.0.0/4"])
def test_a_wrong_subnet_is_named(subnet: str) -> None:
    with pytest.raises(SandboxError, match=r"sandbox\.subnet"):
        Network(subnet, "test")


def test_a_subnet_that_the_machine_uses_is_refused() -> None:
    network = Network("10.99.0.0/16", "test")
    with pytest.raises(SandboxError, match=r"in use on this machine: .*10\.99\.7\.[01]"):
        network.prepare()


def test_a_filter_that_was_flushed_is_mended(house: House) -> None:
    alone = house.start("alone")
    table = f"mutirao_{house.sandboxes.instance}"
    assert house.run(house.sandboxes.mend()) is False
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    assert house.run(house.sandboxes.mend()) is True
    assert alone.answers()
    assert alone.connects(OUTSIDE, 443).startswith("hello")
    assert alone.connects(OUTSIDE, 22).startswith("ConnectionRefusedError")
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    second = house.start("second")
    assert second.connects(PRIVATE, 443).startswith("ConnectionRefusedError")
    assert alone.connects(OUTSIDE, 443).startswith("hello")
    for one in (alone, second):
        house.run(house.sandboxes.stop(one.running, 0))


def test_nobody_can_fill_the_machines_table_of_connections(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "CONNECTIONS", 5)
    house.run(house.sandboxes.prepare())
    crowd = house.start("crowd")
    answers = crowd(
        "import socket\nkept, result = [], []\nfor _ in range(12):\n"
        f"    s = socket.socket()\n    result.append(s.connect_ex(('{OUTSIDE}', 443)))\n    kept.append(s)"
    )
    monkeypatch.undo()
    house.run(house.sandboxes.prepare())
    house.run(house.sandboxes.stop(crowd.running, 0))
    assert answers == [0] * 5 + [errno.ECONNREFUSED] * 7


def test_connections_that_come_and_go_are_paced_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed ones stay in the machine's table for minutes, and so do those to the hub."""
    monkeypatch.setattr(firewall, "PACE", 1)
    monkeypatch.setattr(firewall, "BURST", 10)
    house.run(house.sandboxes.prepare())
    gateway = house.sandboxes.hub_address
    hasty = house.start("hasty")
    with listener(gateway, HUB_PORT):
        answers = hasty(
            "import socket, errno\nresult = []\nfor _ in range(60):\n    s = socket.socket()\n"
            f"    result.append(s.connect_ex(('{gateway}', {HUB_PORT})))\n    s.close()"
        )
    monkeypatch.undo()
    house.run(house.sandboxes.prepare())
    house.run(house.sandboxes.stop(hasty.running, 0))
    assert answers[:10] == [0] * 10
    assert answers.count(errno.ECONNREFUSED) >= 30


def test_forwarding_serves_runtimes_alone(house: House) -> None:
    """Turned on for them, it does not make the machine a router between the networks it was on before."""
    rules = subprocess.run(
        ["nft", "list", "table", "inet", f"mutirao_{house.sandboxes.instance}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if Path("/run/mutirao/ip_forward").exists():
        assert "iifname @outside oifname @outside drop" in rules
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    assert POLICY.dns


async def test_names_on_both_sides_tell_whose_a_packet_is(house: House) -> None:
    await asyncio.sleep(0)
    names = [place.name for place in Path("/sys/class/net").iterdir() if place.name.startswith("mut")]
    ours = [name for name in names if name.startswith(f"mut{house.sandboxes.instance}")]
    until(lambda: bool(ours), "veths stand")
    assert all(len(name) <= 15 for name in ours)
