"""Rootless mode: the same walls, put up by an ordinary user; and the battery with its stated exceptions."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mutirao.sandbox import processes
from tests.sandbox.battery.attempt import Attempt
from tests.sandbox.battery.stage import Stage, rootless_stage
from tests.sandbox.battery.table import ATTEMPTS
from tests.sandbox.house import HUB_PORT, LIMITS, OUTSIDE, Guest, House, until
from tests.sandbox.rootless_house import UID, asked, passable

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("outside")]


@pytest.fixture(scope="module")
def rootless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    data = tmp_path_factory.mktemp("rootless")
    passable(data)
    with asked(data / "data", HUB_PORT) as sandboxes, asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        try:
            yield House(sandboxes, runner)  # type: ignore[arg-type]
        finally:
            runner.run(sandboxes.teardown(grace_s=0))


@pytest.fixture(scope="module")
def ada(rootless: House) -> Guest:
    return rootless.start("ada")


def test_everything_belongs_to_the_ordinary_user(ada: Guest, rootless: House) -> None:
    for pid in rootless.sandboxes.pids(ada.running):
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status
    assert ada("import os; result = [os.getuid(), os.getgid(), os.getgroups()]") == [1000, 1000, []]


def test_the_outside_can_be_reached_where_it_may(ada: Guest) -> None:
    assert ada.connects(OUTSIDE, 443).startswith("hello")
    assert ada.connects(OUTSIDE, 22).startswith("ConnectionRefusedError")


def test_the_hub_hears_whose_runtime_asks(ada: Guest, rootless: House) -> None:
    """Each comes from its own address, as with root."""
    other = rootless.start("gil")
    with socket.create_server(("127.0.0.1", HUB_PORT)) as hub:
        hub.settimeout(5)
        for guest in (ada, other):
            guest(
                f"import socket; s = socket.create_connection(('127.0.0.1', {HUB_PORT}), 3); s.sendall(b'question'); "
                "__builtins__['asked'] = s"
            )
            connection, peer = hub.accept()
            with connection:
                assert peer[0] == guest.running.address
                assert connection.recv(100) == b"question"
                connection.sendall(b"answer")
            assert guest("result = asked.recv(100).decode(); asked.close()") == "answer"
    rootless.run(rootless.sandboxes.stop(other.running, 0))


def test_stopping_leaves_nothing(rootless: House) -> None:
    guest = rootless.start("bia")
    pids = rootless.sandboxes.pids(guest.running)
    assert pids
    rootless.run(rootless.sandboxes.stop(guest.running, 1))
    # A zombie has ended and waits for init, however slow that is.
    assert not [pid for pid in pids if (seen := processes.stat(pid)) and seen.state not in "ZX"]
    with pytest.raises(OSError):
        socket.create_connection((guest.running.address, guest.running.port), 1)


def test_files_outlive_the_runtime(rootless: House) -> None:
    first = rootless.start("caio")
    first("open('/home/member/kept', 'w').write('here')")
    rootless.run(rootless.sandboxes.stop(first.running, 0))
    second = rootless.start("caio")
    assert second("result = open('/home/member/kept').read()") == "here"
    rootless.run(rootless.sandboxes.stop(second.running, 0))


def test_a_runtime_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    """Another process finds it, watches it and stops it."""
    passable(tmp_path)
    with asyncio.Runner() as runner:
        with asked(tmp_path / "data", HUB_PORT) as before:
            runner.run(before.prepare())
            guest = House(before, runner).start("dora")  # type: ignore[arg-type]
        with asked(tmp_path / "data", HUB_PORT) as after:
            assert runner.run(after.recover()) == (guest.running,)
            runner.run(after.prepare())
            assert guest.answers()
            with socket.create_server(("127.0.0.1", HUB_PORT)) as hub:
                hub.settimeout(5)
                guest(f"import socket; socket.create_connection(('127.0.0.1', {HUB_PORT}), 3).close()")
                hub.accept()[0].close()
            eater = "b = []\nwhile True: b.append(bytearray(b'x' * (1 << 20)))"
            found = guest(
                f"import subprocess, sys; result = subprocess.run([sys.executable, '-c', {eater!r}], stderr=-3).returncode"
            )
            assert found in (-9, 1)
            assert runner.run(after.mend()) is False
            runner.run(after.teardown(grace_s=0))
            assert not guest.answers()


def test_a_home_above_its_limit_stops_the_runtime_and_can_be_tidied(rootless: House) -> None:
    guest = rootless.start("elza", limits=replace(LIMITS, disk_mb=10))
    guest(
        "import os\nos.mkdir('/home/member/d')\nfor n in range(4): open(f'/home/member/d/{n}', 'wb').write(bytes(5 << 20))\nos.chmod('/home/member/d', 0)"
    )
    until(lambda: rootless.run(rootless.sandboxes.poll(guest.running)) is not None, "the look finds it", 60)
    assert "The home holds" in rootless.sandboxes.log(guest.running)
    rootless.run(rootless.sandboxes.stop(guest.running, 0))
    again = rootless.start("elza", limits=replace(LIMITS, disk_mb=10))
    again("import os, shutil\nos.chmod('/home/member/d', 0o700)\nshutil.rmtree('/home/member/d')")
    rootless.run(rootless.sandboxes.stop(again.running, 0))


def test_a_dead_pasta_is_started_again(rootless: House, ada: Guest) -> None:
    pasta = json.loads((Path(ada.running.cgroup) / "pasta").read_text())
    os.kill(pasta["pid"], signal.SIGKILL)
    until(lambda: not ada.answers(), "pasta is gone")
    assert rootless.run(rootless.sandboxes.mend()) is True
    assert ada.answers()
    assert rootless.run(rootless.sandboxes.mend()) is False


def test_a_runtime_without_its_keeper_is_stopped(rootless: House) -> None:
    """Its limits could not be looked at any more."""
    guest = rootless.start("hugo")
    holder = json.loads((Path(guest.running.cgroup) / "holder").read_text())
    os.kill(holder["pid"], signal.SIGKILL)
    until(lambda: rootless.run(rootless.sandboxes.poll(guest.running)) is not None, "the look finds it", 60)
    assert "What keeps its network" in rootless.sandboxes.log(guest.running)
    rootless.run(rootless.sandboxes.stop(guest.running, 0))


@pytest.fixture(scope="module")
def stage(outside: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with rootless_stage(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.id)
def test_the_walls_hold_without_root(attempt: Attempt, stage: Stage) -> None:
    row = stage.perform(attempt)
    assert row.held, f"{attempt.name}: {row.inside}; {'; '.join(row.notes)}"
