"""What every way of building walls shares; here a process stands for a runtime, and there are no walls."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import processes
from mutirao.sandbox.records import Record
from mutirao.sandbox.runtimes import Runtimes
from mutirao.sandbox.spec import Events, Limits, Running, RuntimeSpec, Walls

SPEC = RuntimeSpec("ada", "", Path("/usr"), ("sleep", "60"), {}, Limits(64, 1, 64, 64, 64), 8888)


class Bare(Runtimes):
    """Runtimes without any wall."""

    hub_address = "127.0.0.1"
    process: subprocess.Popen[bytes]

    def __init__(self, run: Path) -> None:
        super().__init__(run, run, "bare", "127.9.0.0/24", ())
        self.cleared: list[str] = []

    def knows(self, _member: str) -> bool:
        return False

    def events(self, _running: Running) -> Events:
        return Events()

    def pids(self, running: Running) -> frozenset[int]:
        return frozenset({running.pid})

    def _prepare(self) -> None: ...

    def _mend(self) -> bool:
        return False

    def _take_up(self, _running: Running, _limits: Limits) -> bool:
        return True

    def _sweep(self) -> None: ...

    def _plan(self, spec: RuntimeSpec, name: str) -> Walls:
        return self._reserve(spec, name, 0)

    def _put_up(self, walls: Walls, _spec: RuntimeSpec) -> Walls:
        return walls

    def _enter(self, walls: Walls, spec: RuntimeSpec) -> tuple[Running, subprocess.Popen[bytes]]:
        self.process = subprocess.Popen(spec.argv)
        found = processes.stat(self.process.pid)
        assert found
        pid = self.process.pid
        return Running(walls, pid, found.start_time, pid, found.start_time, 0, 0), self.process

    def _kill_rest(self, _walls: Walls, _running: Running | None) -> None: ...

    def _clear(self, walls: Walls) -> None:
        self.cleared.append(walls.id)
        self._records.drop(walls.id)


def test_a_server_that_can_not_be_written_down_does_not_go_on_running(tmp_path: Path) -> None:
    """The disk may be full by then: whoever comes back would never find it."""
    runtimes = Bare(tmp_path / "run")
    (tmp_path / "run").mkdir()

    async def build_and_launch() -> None:
        walls = await runtimes.build(SPEC)
        shutil.rmtree(tmp_path / "run")
        await runtimes.launch(walls, SPEC)

    with pytest.raises(SandboxError, match="the server of 'ada' can't be started"):
        asyncio.run(build_and_launch())

    assert runtimes.process.poll() is not None
    assert len(runtimes.cleared) == 1


def test_who_comes_back_finds_what_lives_and_clears_the_rest(tmp_path: Path) -> None:
    first = Bare(tmp_path)

    async def come_back() -> None:
        living, dead = await first.start(SPEC), await first.start(SPEC)
        first.process.kill()
        first.process.wait()
        second = Bare(tmp_path)
        try:
            assert await second.recover() == (living,)
            assert second.cleared == [dead.id]
            assert second._records.all() == (Record(living.walls, SPEC, living),)
        finally:
            await first.stop(living, 0)

    asyncio.run(come_back())
