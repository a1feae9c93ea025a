"""The proxy may listen on 443 and 80 and has no other right of root's."""

import os
import subprocess

import pytest

from mutirao.lowport import with_low_ports

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
UID = 1_999_999
PYTHON = "/usr/bin/python3"


def run(code: str, argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*argv, "-c", code], capture_output=True, text=True, cwd="/", check=False)


def test_it_listens_below_1024_as_nobody_in_particular() -> None:
    code = "import os, socket; s = socket.socket(); s.bind(('127.0.0.1', 613)); print(os.getresuid(), os.getgroups())"
    done = run(code, with_low_ports([PYTHON], UID))
    assert done.stdout.strip() == f"({UID}, {UID}, {UID}) []", done.stderr


def test_it_has_that_one_capability() -> None:
    code = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')])"
    done = run(code, with_low_ports([PYTHON], UID))
    assert done.stdout.strip() == str(["0000000000000400"] * 5), done.stderr
    assert run("open('/etc/shadow')", with_low_ports([PYTHON], UID)).returncode != 0


def test_it_dies_with_its_parent() -> None:
    code = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"  # PR_GET_PDEATHSIG
    assert run(code, with_low_ports([PYTHON], UID)).stdout.strip() == "9"


def test_without_it_the_port_is_refused() -> None:
    """The control, where the machine keeps the usual limit."""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:  # noqa: PTH123
        if int(file.read()) <= 613:
            pytest.skip("this machine lets everybody listen below 1024")
    done = subprocess.run(
        [PYTHON, "-c", "import socket; socket.socket().bind(('127.0.0.1', 613))"],
        user=UID,
        group=UID,
        extra_groups=[],
        capture_output=True,
        cwd="/",
        check=False,
    )
    assert done.returncode != 0
