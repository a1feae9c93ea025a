"""A part is kept alive, given up when it can't live, and stopped with everything it started."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mutirao import part
from mutirao.accounts import Account
from mutirao.part import RESTARTS, Keeper, Part, PartError

SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"


class Room:
    """Where one part runs, and what became of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.log = tmp_path / "part.log"
        self.cwd = tmp_path
        self.given_up: list[str] = []

    def keeper(self, code: str, **settings: float) -> Keeper:
        made = Part("test", (sys.executable, "-c", code), {"PATH": os.environ["PATH"]}, self.log, self.cwd, **settings)  # type: ignore[arg-type]
        return Keeper(made, lambda _, said: self.given_up.append(said))

    async def pids(self, count: int) -> list[int]:
        """The pids that were printed, once there are so many."""
        async with asyncio.timeout(15):
            while len(found := self.log.read_text().split() if self.log.exists() else []) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return [int(pid) for pid in found]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def alive(pid: int) -> bool:
    """A zombie is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_part_that_dies_is_started_again_and_told_of(room: Room) -> None:
    restarts = []
    keeper = room.keeper(SLEEPER)

    async def restarted() -> None:
        restarts.append(1)

    keeper.restarted = restarted
    await keeper.start()
    (first,) = await room.pids(1)
    os.kill(first, signal.SIGKILL)
    _, second = await room.pids(2)
    await asyncio.sleep(0.05)
    assert alive(second)
    assert restarts == [1]
    await keeper.stop()
    assert not alive(second)
    assert room.given_up == []


async def test_a_part_that_can_not_live_is_given_up_with_its_last_words(room: Room) -> None:
    keeper = room.keeper("raise SystemExit('the disk is on fire')")
    await keeper.start()
    async with asyncio.timeout(20):
        while not room.given_up:  # noqa: ASYNC110 - the caller has no event either
            await asyncio.sleep(0.02)
    assert room.log.read_text().count("the disk is on fire") == RESTARTS
    assert "the disk is on fire" in room.given_up[0]
    await keeper.stop()


async def test_deaths_long_ago_are_forgiven(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "RESTART_WINDOW_S", 0.0)
    keeper = room.keeper("import os; print(os.getpid())")
    await keeper.start()
    await room.pids(RESTARTS + 1)
    await keeper.stop()
    assert room.given_up == []


async def test_a_patient_keeper_never_gives_up_and_waits_longer_each_time(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "LONGEST_WAIT_S", 0.01)
    keeper = room.keeper("import os; print(os.getpid()); raise SystemExit(78)")
    keeper.patient = True
    await keeper.start()
    await room.pids(2 * RESTARTS)
    await keeper.stop()
    assert room.given_up == []


async def test_a_part_that_says_that_trying_again_is_no_use_is_not_tried_again(room: Room) -> None:
    keeper = room.keeper("import sys; print('this machine is too small'); sys.exit(78)")
    await keeper.start()
    async with asyncio.timeout(10):
        while not room.given_up:  # noqa: ASYNC110 - the caller has no event either
            await asyncio.sleep(0.02)
    assert room.given_up == ["this machine is too small"]
    await keeper.stop()


STATUS = "print(open('/proc/self/status').read(), flush=True); import time; time.sleep(1000)"


@pytest.mark.root
@pytest.mark.parametrize(("given", "held"), [((), 0), (("net_bind_service",), 1 << 10)])
async def test_a_part_with_an_account_has_no_rights_but_those_named(
    room: Room, given: tuple[str, ...], held: int
) -> None:
    if os.geteuid() != 0:
        pytest.skip("another uid needs root")
    made = Part(
        "test", ("/usr/bin/python3", "-c", STATUS), {}, room.log, Path("/"), Account(65534, 65533, 0o027), given
    )
    keeper = Keeper(made, lambda *_: None)
    await keeper.start()
    async with asyncio.timeout(10):
        while "nonvoluntary" not in (room.log.read_text() if room.log.exists() else ""):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await keeper.stop()

    said = dict(line.split(":\t", 1) for line in room.log.read_text().splitlines() if ":\t" in line)
    assert said["Uid"].split() == ["65534"] * 4
    assert said["Gid"].split() == ["65533"] * 4
    assert said["Groups"].strip() == ""
    assert said["NoNewPrivs"] == "1"
    assert said["Umask"] == "0027"
    assert {int(said[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {held}


async def test_stopping_ends_the_whole_process_group(room: Room) -> None:
    keeper = room.keeper(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); {SLEEPER}")
    await keeper.start()
    pids = await room.pids(2)
    assert all(alive(pid) for pid in pids)
    await keeper.stop()
    await asyncio.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


async def test_a_part_that_will_not_stop_is_killed(room: Room) -> None:
    keeper = room.keeper(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}", stop_timeout_s=0.3)
    await keeper.start()
    (pid,) = await room.pids(1)
    began = time.monotonic()
    await keeper.stop()
    assert not alive(pid)
    assert time.monotonic() - began < 5


async def test_a_part_that_dies_while_it_is_stopped_is_not_started_again(room: Room) -> None:
    keeper = room.keeper("import os; print(os.getpid())")
    await keeper.start()
    await room.pids(1)
    await keeper.stop()
    count = len(room.log.read_text().split())
    await asyncio.sleep(0.6)
    assert len(room.log.read_text().split()) == count


async def test_stopping_before_the_start_and_twice_is_fine(room: Room) -> None:
    keeper = room.keeper(SLEEPER)
    await keeper.stop()
    await keeper.start()
    await keeper.stop()
    await keeper.stop()


async def test_a_program_that_is_not_there_is_named(room: Room) -> None:
    made = Part("proxy", ("/nonexistent/node",), {}, room.log, room.cwd)
    with pytest.raises(PartError, match=r"The proxy can't be started: .*/nonexistent/node"):
        await Keeper(made, lambda *_: None).start()


async def test_a_program_that_went_away_is_given_up(room: Room) -> None:
    program = room.cwd / "program"
    program.write_text("#!/bin/sh\nsleep 1000\n")
    program.chmod(0o755)
    keeper = Keeper(
        Part("test", (str(program),), {"PATH": os.environ["PATH"]}, room.log, room.cwd),
        lambda _, said: room.given_up.append(said),
    )
    await keeper.start()
    assert keeper.process
    program.unlink()
    keeper.process.kill()
    async with asyncio.timeout(5):
        while not room.given_up:  # noqa: ASYNC110 - the caller has no event either
            await asyncio.sleep(0.02)
    assert "can't be started" in room.given_up[0]
    await keeper.stop()


async def test_the_tail_of_a_log_that_is_no_text_can_be_read(room: Room) -> None:
    keeper = room.keeper(SLEEPER)
    assert keeper.tail() == ""
    room.log.write_bytes(b"\xff\xfe\n" * 100)
    assert len(keeper.tail(3).splitlines()) == 3


@pytest.mark.parametrize("uid", [None, pytest.param(65534, marks=pytest.mark.root)])
def test_a_part_dies_with_its_parent_however_that_dies(tmp_path: Path, uid: int | None) -> None:
    if uid is not None and os.geteuid() != 0:
        pytest.skip("another uid needs root")
    account = "None" if uid is None else f"Account({uid}, {uid})"
    code = f"""
import asyncio, sys
from pathlib import Path
from mutirao.accounts import Account
from mutirao.part import Keeper, Part
async def main():
    part = Part("test", ("/bin/sleep", "1000"), {{}}, Path({str(tmp_path / "log")!r}), Path("/"), {account})
    keeper = Keeper(part, lambda *_: None)
    await keeper.start()
    print(keeper.process.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(part.__file__).parents[1])},
    )
    assert parent.stdout
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
