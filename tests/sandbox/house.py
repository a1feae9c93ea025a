"""A real house for the tests: sandboxes that stand, and a probe that runs inside them."""

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mutirao.sandbox.sandboxes import Sandboxes
from mutirao.sandbox.spec import HOME, Limits, NetworkPolicy, Running, RuntimeSpec

SUBNET = "172.29.0.0/16"
HUB_PORT = 18081
OUTSIDE = "203.0.113.2"
RESOLVER = "203.0.113.53"
PRIVATE = "10.99.7.2"
METADATA = "169.254.169.254"
PORT = 8888

ENV = {"HOME": HOME, "PATH": "/usr/bin:/bin", "TOKEN": "s3cret value", "LANG": "C.UTF-8"}
LIMITS = Limits(memory_mb=256, cpus=1.0, processes=60, open_files=512, disk_mb=40)
POLICY = NetworkPolicy(tcp_ports=(80, 443), dns_servers=(RESOLVER,))

# Runs the code that it is sent, each piece in a thread, and answers with `result` or the error, as JSON.
PROBE = """
import json, signal, socket, sys, threading
def serve(c):
    code = b""
    while chunk := c.recv(65536):
        code += chunk
    names = {}
    try:
        exec(code.decode(), names)
        answer = {"result": names.get("result")}
    except BaseException as error:
        answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "text": str(error)}
    c.sendall(json.dumps(answer).encode())
    c.close()
s = socket.create_server(("0.0.0.0", %d))
print("listening", flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"""


class Refused(Exception):
    """What the probe's code raised inside."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['text']}")
        self.kind: str = answer["error"]
        self.errno: int | None = answer["errno"]


@dataclass
class House:
    """Sandboxes on a loop of their own, for tests that are not coroutines themselves."""

    sandboxes: Sandboxes
    runner: asyncio.Runner

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def start(self, member: str, **changes: Any) -> "Guest":
        running = self.run(self.sandboxes.start(spec(member, **changes)))
        guest = Guest(running, self)
        guest.wait()
        return guest


@dataclass
class Guest:
    """A runtime with the probe inside."""

    running: Running
    house: House

    def __call__(self, code: str, timeout_s: float = 20) -> Any:
        """Run `code` inside and give its `result`; Refused if it raised."""
        with socket.create_connection((self.running.address, self.running.port), timeout_s) as connection:
            connection.sendall(code.encode())
            connection.shutdown(socket.SHUT_WR)
            text = b""
            while chunk := connection.recv(65536):
                text += chunk
        answer = json.loads(text)
        if "error" in answer:
            raise Refused(answer)
        return answer["result"]

    def shell(self, command: str) -> tuple[int, str]:
        """Run a shell command inside: its status and all it printed."""
        status, text = self(
            "import subprocess\n"
            f"d = subprocess.run(['/bin/sh', '-c', {command!r}], capture_output=True, text=True)\n"
            "result = [d.returncode, d.stdout + d.stderr]"
        )
        return status, text

    def connects(self, address: str, port: int, timeout_s: float = 3) -> str:
        """What comes of a TCP connection from inside: the peer's greeting, or the error's name."""
        return str(
            self(
                "import socket\n"
                "try:\n"
                f"    s = socket.create_connection(({address!r}, {port}), {timeout_s})\n"
                "    result = s.recv(100).decode()\n"
                "    s.close()\n"
                "except OSError as error:\n"
                "    result = type(error).__name__ + ' ' + str(error)\n"
            )
        )

    def wait(self) -> None:
        until(lambda: self.answers(), f"the probe listens; log: {self.house.sandboxes.log(self.running)}")

    def answers(self) -> bool:
        try:
            return bool(self("result = 1", 1) == 1)
        except OSError:
            return False


def spec(member: str, **changes: Any) -> RuntimeSpec:
    """A runtime that runs the probe with the system's Python."""
    plain = RuntimeSpec(
        member=member,
        server="",
        environment=Path("/usr"),
        argv=("/usr/bin/python3", "-c", PROBE % PORT),
        env=ENV,
        limits=LIMITS,
        port=PORT,
        network=POLICY,
    )
    return replace(plain, **changes)


def until(true: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


LISTENER = """
import selectors, socket, sys
chosen = selectors.DefaultSelector()
for word in sys.argv[1:]:
    kind, address, port = word.split(",")
    if kind == "tcp":
        s = socket.create_server((address, int(port)))
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the address comes a moment later
        s.bind((address, int(port)))
    chosen.register(s, selectors.EVENT_READ, kind)
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        if key.data == "tcp":
            c, peer = key.fileobj.accept()
            c.sendall(f"hello {peer[0]}".encode())
            c.close()
        else:
            data, peer = key.fileobj.recvfrom(1000)
            key.fileobj.sendto(b"answer " + data, peer)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
