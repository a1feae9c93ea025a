"""What the tests of the sandbox stand on: a house with two guests, and an outside made of namespaces."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutirao.sandbox.sandboxes import Sandboxes
from tests.sandbox.house import (
    HUB_PORT,
    LISTENER,
    METADATA,
    OUTSIDE,
    PRIVATE,
    RESOLVER,
    SUBNET,
    Guest,
    House,
    ip,
    need_root,
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        need_root()


@pytest.fixture(scope="session", autouse=True)
def alone() -> Iterator[None]:
    """One run of these tests at a time: they share addresses and interface names."""
    if os.geteuid() != 0:
        yield
        return
    with Path(tempfile.gettempdir(), "mutirao-sandbox-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Sandboxes that are prepared, and torn down after the module's tests."""
    need_root()
    sandboxes = Sandboxes(tmp_path_factory.mktemp("data"), subnet=SUBNET, hub_ports=(HUB_PORT,))
    with asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        try:
            yield House(sandboxes, runner)
        finally:
            runner.run(sandboxes.teardown(grace_s=0))


@pytest.fixture(scope="module")
def guest(house: House) -> Guest:
    return house.start("ada")


@pytest.fixture(scope="module")
def neighbour(house: House) -> Guest:
    return house.start("bob")


@pytest.fixture(scope="module")
def outside() -> Iterator[None]:
    """The outside as a fixture."""
    need_root()
    with outside_stands():
        yield


@contextlib.contextmanager
def outside_stands() -> Iterator[None]:
    """A neighbour of this machine in a namespace of its own, with a public, a private and a link-local address.

    It greets on TCP 22, 80, 443 and 5432 and answers UDP 53; no packet leaves the machine.
    """
    ports = ("22", "80", "443", "5432")
    words = [f"tcp,0.0.0.0,{port}" for port in ports] + [
        f"udp,{RESOLVER},53",
        f"udp,{RESOLVER},123",
        f"udp,{OUTSIDE},53",
    ]
    # Loopback up first: without any local route the kernel would forget which address a socket was bound to.
    enter = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "listener")
    listener = subprocess.Popen([*enter, "/usr/bin/python3", "-c", LISTENER, *words], stdout=subprocess.PIPE)
    try:
        assert listener.stdout and listener.stdout.readline() == b"ready\n"
        inside = ["nsenter", f"--net=/proc/{listener.pid}/ns/net", "ip"]
        ip("link", "add", "tpeer0", "type", "veth", "peer", "name", "tpeer1", "netns", str(listener.pid))
        for address in (f"{OUTSIDE}/24", f"{RESOLVER}/24", f"{PRIVATE}/24", f"{METADATA}/32", "168.63.129.16/32"):
            subprocess.run([*inside, "addr", "add", address, "dev", "tpeer1"], check=True)
        subprocess.run([*inside, "link", "set", "tpeer1", "up"], check=True)
        subprocess.run([*inside, "route", "add", "default", "via", "203.0.113.1"], check=True)
        ip("addr", "add", "203.0.113.1/24", "dev", "tpeer0")
        ip("addr", "add", "10.99.7.1/24", "dev", "tpeer0")
        ip("link", "set", "tpeer0", "up")
        for address in (METADATA, "168.63.129.16"):
            ip("route", "add", f"{address}/32", "dev", "tpeer0")
        if not subprocess.run(["ip", "route", "show", "default"], capture_output=True, check=True).stdout:
            # A machine without a way out would refuse for want of a route, which proves nothing.
            ip("route", "add", "default", "via", OUTSIDE, "dev", "tpeer0")
        yield
    finally:
        listener.kill()
        listener.wait()
        if listener.stdout:
            listener.stdout.close()
        subprocess.run(["ip", "link", "del", "tpeer0"], check=False, capture_output=True)
