"""Rootless sandboxes for tests that run as root: they live in a process of an ordinary user, which is asked by lines.

Run as a program, this file is that process: `rootless_house.py DATA HUB_PORT`, one JSON object a line, in and out.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

UID = 64_123
"""An ordinary user of nobody's, with no group and no entry in /etc/passwd."""


@dataclass
class Asked:
    """`RootlessSandboxes` by another process; the methods that the tests use."""

    process: "subprocess.Popen[str]"
    hub_address: str = "127.0.0.1"

    async def prepare(self) -> None:
        self._ask("prepare")

    async def start(self, spec: Any) -> Any:
        return self._running(self._ask("start", spec=_json(spec)))

    async def poll(self, running: Any) -> int | None:
        return self._ask("poll", running=_json(running))

    async def stop(self, running: Any, grace_s: float = 5.0) -> None:
        self._ask("stop", running=_json(running), grace_s=grace_s)

    async def mend(self) -> bool:
        return bool(self._ask("mend"))

    async def recover(self) -> tuple[Any, ...]:
        return tuple(self._running(one) for one in self._ask("recover"))

    async def teardown(self, grace_s: float = 5.0) -> None:
        self._ask("teardown", grace_s=grace_s)

    def log(self, running: Any, size: int = 65536) -> str:
        return str(self._ask("log", running=_json(running), size=size))

    def pids(self, running: Any) -> frozenset[int]:
        return frozenset(self._ask("pids", running=_json(running)))

    def events(self, running: Any) -> Any:
        from mutirao.sandbox.spec import Events

        return Events(**self._ask("events", running=_json(running)))

    def _ask(self, what: str, **words: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"what": what, **words}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the rootless process ended at {what}"
        answer = json.loads(line)
        if "error" in answer:
            from mutirao.errors import SandboxError

            raise SandboxError(answer["error"])
        return answer["result"]

    def _running(self, text: str) -> Any:
        from mutirao.sandbox.spec import Running, from_json

        return from_json(Running, text)


def _json(value: Any) -> str:
    from mutirao.sandbox.spec import to_json

    return to_json(value)


def passable(folder: Path) -> None:
    """Let the ordinary user get through to `folder`, a temporary one of root's."""
    for place in (folder, *folder.parents):
        if place == Path(tempfile.gettempdir()) or place.parent == place:
            return
        place.chmod(place.stat().st_mode | 0o011)


@contextlib.contextmanager
def asked(data: Path, hub_port: int) -> Iterator[Asked]:
    """A process of an ordinary user with rootless sandboxes in `data`; /dev/net/tun is everybody's meanwhile."""
    data.mkdir(parents=True, exist_ok=True)
    os.chown(data, UID, UID)
    with everybodys_tun():
        process = subprocess.Popen(
            [sys.executable, __file__, str(data), str(hub_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=UID,
            group=UID,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            yield Asked(process)
        finally:
            assert process.stdin and process.stdout
            process.stdin.close()
            process.wait(30)
            process.stdout.close()


@contextlib.contextmanager
def everybodys_tun() -> Iterator[None]:
    """What udev does on a Debian and `./run prepare` where it has not."""
    tun = Path("/dev/net/tun")
    if not tun.exists():
        pytest.skip("rootless mode needs /dev/net/tun, which this machine lacks")
    mode = tun.stat().st_mode & 0o777
    tun.chmod(0o666)
    try:
        yield
    finally:
        tun.chmod(mode)


async def _answer(sandboxes: Any, question: dict[str, Any]) -> Any:
    from mutirao.sandbox.spec import Running, RuntimeSpec, from_json, to_json

    match question.pop("what"):
        case "start":
            return to_json(await sandboxes.start(from_json(RuntimeSpec, question["spec"])))
        case "recover":
            return [to_json(one) for one in await sandboxes.recover()]
        case "poll" | "stop" as name:
            running = from_json(Running, question.pop("running"))
            return await getattr(sandboxes, name)(running, **question)
        case "log" | "pids" | "events" as name:
            running = from_json(Running, question.pop("running"))
            found = getattr(sandboxes, name)(running, **question)
            if name == "events":
                return json.loads(to_json(found))
            return sorted(found) if name == "pids" else found
        case name:
            return await getattr(sandboxes, name)(**question)


async def _serve(data: Path, hub_port: int) -> None:
    from mutirao.sandbox.rootless import RootlessSandboxes

    sandboxes = RootlessSandboxes(data, hub_ports=(hub_port,))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = {"result": await _answer(sandboxes, json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
