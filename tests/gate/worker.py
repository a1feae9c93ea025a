"""A gate as a process of its own, as `mutirao up` starts it, with a judge that allows all, or judges by its marks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gate.house import SECRET, free_port, wait_for_http

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from mutirao.gate.actor import NoActors
from mutirao.gate.app import Gate, main
from tests.gate.worker import Allows

if sys.argv[4] == "marker":
    from tests.gate.house import MarkerJudge as Allows

main(Gate(sys.argv[1], Allows(), NoActors(), max_message_bytes=int(sys.argv[3]) << 20), "127.0.0.1", int(sys.argv[2]))
"""


class Allows:
    """A judge without objections."""

    async def judge(self, cell: object) -> object:
        from mutirao.cases.action import Action
        from mutirao.cases.cell import Verdict

        return Verdict(Action.ALLOW)

    async def standing(self, actor: object, owner: object, halted: object) -> None:
        return None


@dataclass(frozen=True)
class Worker:
    """Where it listens, and its process."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def peak_mb(self) -> float:
        """The most memory it ever had, MiB, its readers not counted."""
        return self._status("VmHWM") / 1024

    @property
    def now_mb(self) -> float:
        """The memory it has now, MiB."""
        return self._status("VmRSS") / 1024

    @property
    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


@contextmanager
def running_worker(max_message_mb: int = 110, judge: str = "allows") -> Iterator[Worker]:
    """A worker on a free port; it must end by itself when told to."""
    port = free_port()
    source = os.environ.get("PYTHONPATH", str(ROOT / "src"))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, SECRET, str(port), str(max_message_mb), judge],
        env=os.environ | {"PYTHONPATH": f"{source}:{ROOT}"},
    )
    try:
        wait_for_http(f"http://127.0.0.1:{port}/healthz")
        yield Worker(f"http://127.0.0.1:{port}", process)
        assert process.poll() is None, "the gate's worker died"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
