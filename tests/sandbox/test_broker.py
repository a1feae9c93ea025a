"""The broker does what its socket asks and its askers may, survives its askers and itself, and writes it all down."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import ask, broker
from mutirao.sandbox.ask import AskError, Start, line, parse
from mutirao.sandbox.broker import Broker
from mutirao.sandbox.client import BrokerAway, Client
from mutirao.sandbox.journal import Journal, Peer
from mutirao.sandbox.spec import Events, Limits, Running, RuntimeSpec, Walls

ALL = frozenset(ask.KINDS.values())
ENV = {"JUPYTERHUB_API_TOKEN": "s3cret"}


@dataclass
class House:
    """A twin in memory of what builds walls; `slow` holds starts back, `ended` maps runtimes to exit statuses."""

    standing: dict[str, Running] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    slow: asyncio.Event | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    broken: str = ""
    _count: int = 0

    async def recover(self) -> tuple[Running, ...]:
        return tuple(one for one in self.standing.values() if one.id not in self.ended)

    async def prepare(self) -> None:
        if self.broken:
            raise SandboxError(self.broken)

    async def mend(self) -> bool:
        return False

    async def start(self, spec: RuntimeSpec) -> Running:
        self.begun.set()
        if self.slow:
            await self.slow.wait()
        self._count += 1
        walls = Walls(
            f"{self._count:08x}", spec.member, spec.server, 7, f"10.0.0.{self._count}", spec.port, "i", "n", "h", ()
        )
        self.standing[walls.id] = Running(walls, 1, 1, 2, 2, 3, 4)
        return self.standing[walls.id]

    async def poll(self, running: Running) -> int | None:
        return self.ended.get(running.id)

    async def stop(self, running: Running, grace_s: float = 5.0) -> None:
        self.standing.pop(running.id, None)

    def events(self, running: Running) -> Events:
        return Events(oom_kills=self.kills)

    def log(self, running: Running, size: int = 65536) -> str:
        return "its last words"[-size:]


def recipe(asked: Start) -> RuntimeSpec:
    if asked.size != "small":
        raise AskError("size is not offered")
    return RuntimeSpec(asked.member, asked.server, Path("/usr"), ("/bin/true",), asked.env, Limits(64, 1, 8, 64, 8), 80)


@asynccontextmanager
async def serving(
    folder: Path, house: House, rights: dict[int, Any] | None = None
) -> AsyncIterator[tuple[Client, Broker]]:
    """A broker over `house`, and a client of it."""
    made = Broker(
        house,
        recipe,
        {os.geteuid(): ALL} if rights is None else rights,
        Journal(folder / "audit.jsonl"),
        lambda name: name == "ana",
    )
    await made.open()
    server = await made.listen(folder / "sock")
    try:
        yield Client(folder / "sock", patience_s=5), made
    finally:
        server.close()


def journal(folder: Path) -> list[dict[str, Any]]:
    path = folder / "audit.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


async def start(client: Client, member: str = "ana", server: str = "") -> ask.Seat:
    return await client.start(member, server, environment="base", size="small", language="en", env=ENV)


async def raw(path: Path, text: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(text)
    if not text.endswith(b"\n"):
        writer.write_eof()
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return answer


async def test_a_runtime_is_started_polled_and_stopped(tmp_path: Path) -> None:
    house = House()
    async with serving(tmp_path, house) as (client, _):
        seat = await start(client)

        assert seat == ask.Seat("00000001", "10.0.0.1", 80)
        assert await client.poll(seat.id) is None
        assert await client.log(seat.id, 5) == "words"
        assert await client.who("10.0.0.1") == ("ana", "")
        house.ended[seat.id] = 3
        assert await client.poll(seat.id) == 3
        await client.stop(seat.id)
        await client.stop(seat.id)
        assert house.standing == {}
        assert await client.who("10.0.0.1") is None
        assert await client.poll(seat.id) == 0


async def test_each_change_is_written_down_without_what_is_secret(tmp_path: Path) -> None:
    async with serving(tmp_path, House()) as (client, _):
        seat = await start(client)
        await client.poll(seat.id)
        await client.stop(seat.id)

    told = journal(tmp_path)
    assert [(entry["act"], entry["outcome"]) for entry in told] == [
        ("Start", 'done: "00000001"'),
        ("Stop", "done: null"),
    ]
    assert told[0]["uid"] == os.geteuid()
    assert told[0]["pid"] == os.getpid()
    assert told[0]["member"] == "ana"
    assert "s3cret" not in (tmp_path / "audit.jsonl").read_text()
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_somebody_without_rights_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, House(), {os.geteuid() + 1: ALL}) as (client, _):
        with pytest.raises(AskError, match="may ask for nothing"):
            await start(client)

    assert [entry["outcome"] for entry in journal(tmp_path)] == ["refused: this user may ask for nothing here."]


async def test_each_asker_gets_what_is_its_own_alone(tmp_path: Path) -> None:
    house = House()
    async with serving(tmp_path, house, {os.geteuid(): frozenset({ask.Who})}) as (client, _):
        assert await client.who("10.0.0.1") is None
        with pytest.raises(AskError, match="may not ask for Start"):
            await start(client)
    assert house.standing == {}


def start_line(**changes: Any) -> bytes:
    plain = {
        "ask": "Start",
        "member": "ana",
        "server": "",
        "environment": "base",
        "size": "small",
        "language": "en",
        "env": ENV,
    }
    return json.dumps(plain | changes).encode() + b"\n"


BAD = {
    "no JSON": b"hello\n",
    "no object": b"[]\n",
    "nothing": b"\n",
    "half a line": b'{"ask": "Poll"',
    "binary": bytes(range(256)) + b"\n",
    "deep": b"[" * 30_000 + b"\n",
    "too long": b"x" * 100_000 + b"\n",
    "unknown": b'{"ask": "Mount", "source": "/etc/shadow"}\n',
    "a private name": b'{"ask": "__class__"}\n',
    "ask is no text": b'{"ask": {"Start": 1}}\n',
    "a path": start_line(read_only=["/etc/shadow"]),
    "a uid": start_line(uid=0),
    "an argv": start_line(argv=["/bin/sh"]),
    "limits": start_line(limits={"memory_mb": 10**6}),
    "a field is missing": b'{"ask": "Start", "member": "ana"}\n',
    "member is no text": start_line(member=["ana"]),
    "member is empty": start_line(member=""),
    "member with a line break": start_line(member="ana\nroot"),
    "member with a NUL": start_line(member="ana\0"),
    "half a surrogate": start_line(member="\ud800"),
    "a long member": start_line(member="a" * 256),
    "another variable": start_line(env={"LD_PRELOAD": "/home/member/x.so"}),
    "a variable in disguise": start_line(env={"JUPYTERHUB_X\nLD_PRELOAD": "x"}),
    "a value with a NUL": start_line(env={"JUPYTERHUB_X": "a\0b"}),
    "a value that is none": start_line(env={"JUPYTERHUB_X": {"a": 1}}),
    "a long value": start_line(env={"JUPYTERHUB_X": "a" * 5000}),
    "many variables": start_line(env={f"JUPYTERHUB_{'A' * n}": "" for n in range(1, 63)} | {f"JUPYTERHUB_B{'B' * n}": "" for n in range(60)}),
    "a size not offered": start_line(size="huge"),
    "a path as id": b'{"ask": "Stop", "id": "../../etc", "grace_s": 0}\n',
    "a negative grace": b'{"ask": "Stop", "id": "a", "grace_s": -1}\n',
    "an endless grace": b'{"ask": "Stop", "id": "a", "grace_s": 1e9}\n',
    "no number": b'{"ask": "Stop", "id": "a", "grace_s": NaN}\n',
    "a truth for a number": b'{"ask": "Kills", "id": "a", "seen": true, "wait_s": 0}\n',
    "an endless wait": b'{"ask": "Kills", "id": "a", "seen": 0, "wait_s": Infinity}\n',
    "a huge log": b'{"ask": "Log", "id": "a", "size": 1000000000}\n',
    "ids that are none": b'{"ask": "Keep", "ids": ["a/b"]}\n',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_request_is_refused_and_written_down(tmp_path: Path, name: str) -> None:
    house = House()
    async with serving(tmp_path, house) as (client, _):
        answer = await raw(tmp_path / "sock", BAD[name])
        assert set(answer) == {"refused"}, answer
        assert len(answer["refused"]) < 400
        assert await client.who("x") is None

    assert house.standing == {}
    assert [entry["outcome"].split(":")[0] for entry in journal(tmp_path)] == ["refused"]


@pytest.mark.parametrize("asked", [Start("ana", "b", "base", "small", "pt-BR", ENV), ask.Keep(("a", "b")), ask.Stop("a", 1.0)])  # fmt: skip
def test_what_is_asked_arrives(asked: ask.Ask) -> None:
    assert parse(line(asked)) == asked


async def test_a_start_whose_asker_goes_away_is_undone(tmp_path: Path) -> None:
    house = House(slow=asyncio.Event())
    async with serving(tmp_path, house) as (client, _):
        asking = asyncio.create_task(start(client))
        await house.begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            while not journal(tmp_path):  # noqa: ASYNC110 - the journal is the only sign
                await asyncio.sleep(0.01)
        assert house.slow
        house.slow.set()
        assert await client.keep(()) == ()

    assert house.standing == {}
    assert "went away" in journal(tmp_path)[0]["outcome"]


async def test_a_second_start_of_the_same_server_replaces_the_first(tmp_path: Path) -> None:
    """The hub that asks again has not had the answer: what it got no word of must not stay."""
    house = House()
    async with serving(tmp_path, house) as (client, _):
        await start(client)
        other = await start(client, "ana", "gpu")
        again = await start(client)

    assert set(house.standing) == {other.id, again.id}


async def test_what_a_dead_hub_started_and_the_next_does_not_know_is_stopped(tmp_path: Path) -> None:
    house = House()
    async with serving(tmp_path, house) as (client, _):
        kept, orphan = await start(client, "ana"), await start(client, "bia")

        assert await client.keep((kept.id, "gone")) == (orphan.id,)
        assert await client.poll(kept.id) is None
    assert set(house.standing) == {kept.id}


async def test_a_runtime_outlives_the_broker_and_the_next_one_knows_it(tmp_path: Path) -> None:
    house = House()
    async with serving(tmp_path, house) as (client, _):
        alive, dead = await start(client, "ana"), await start(client, "bia")
    house.ended[dead.id] = 137

    async with serving(tmp_path, house) as (client, _):
        assert await client.poll(alive.id) is None
        assert await client.who(alive.address) == ("ana", "")
        assert await client.poll(dead.id) is not None
        await client.stop(alive.id)
    assert alive.id not in house.standing


async def test_a_client_waits_for_a_broker_that_restarts(tmp_path: Path) -> None:
    house = House()
    asking = asyncio.create_task(start(Client(tmp_path / "sock", patience_s=20)))
    await asyncio.sleep(0.2)
    assert not asking.done()
    async with serving(tmp_path, house):
        assert (await asking).id in house.standing


async def test_a_broker_that_died_before_its_answer_is_asked_again(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()
        asked.set()

    dying = await asyncio.start_unix_server(dies, tmp_path / "sock")
    asking = asyncio.create_task(start(Client(tmp_path / "sock", patience_s=20)))
    await asked.wait()
    dying.close()
    async with serving(tmp_path, House()):
        assert (await asking).address == "10.0.0.1"


async def test_a_broker_that_stays_away_is_an_error_that_says_so(tmp_path: Path) -> None:
    client = Client(tmp_path / "sock", patience_s=0.1)
    with pytest.raises(BrokerAway, match="did not answer"):
        await client.poll("a")
    with pytest.raises(BrokerAway, match="did not answer"):
        client.had_a_home("ana")


async def test_memory_kills_are_told_when_they_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "OOM_POLL_S", 0.01)
    house = House()
    async with serving(tmp_path, house) as (client, _):
        seat = await start(client)
        assert await client.kills(seat.id) == 0
        assert await client.kills(seat.id, 0, 0.05) == 0
        waiting = asyncio.create_task(client.kills(seat.id, 0, 30))
        house.kills = 2
        assert await waiting == 2


async def test_whether_a_name_had_a_home_can_be_asked_without_a_loop(tmp_path: Path) -> None:
    async with serving(tmp_path, House()) as (client, _):
        assert await asyncio.to_thread(client.had_a_home, "ana")
        assert not await asyncio.to_thread(client.had_a_home, "bia")


async def test_a_failure_is_a_sentence_for_the_asker_and_a_line_in_the_journal(tmp_path: Path) -> None:
    house = House()

    async def fails(spec: RuntimeSpec) -> Running:
        raise SandboxError("the disk is full")

    house.start = fails  # type: ignore[method-assign]
    async with serving(tmp_path, house) as (client, _):
        with pytest.raises(SandboxError, match="the disk is full"):
            await start(client)
    assert journal(tmp_path)[0]["outcome"] == "failed: the disk is full"


async def test_a_fault_in_the_broker_does_not_end_it(tmp_path: Path) -> None:
    house = House()

    async def fails(spec: RuntimeSpec) -> Running:
        raise RuntimeError("a secret detail")

    house.start = fails  # type: ignore[method-assign]
    async with serving(tmp_path, house) as (client, _):
        with pytest.raises(SandboxError, match="the broker failed") as failed:
            await start(client)
        assert "secret" not in str(failed.value)
        assert await client.who("x") is None


async def test_a_silent_asker_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "READ_S", 0.05)
    async with serving(tmp_path, House()):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "sock")
        assert await reader.read() == b""
        writer.close()
    assert journal(tmp_path) == []


def test_a_journal_that_can_not_be_written_stops_nobody(tmp_path: Path) -> None:
    Journal(tmp_path / "absent" / "audit.jsonl").write(Peer(1, 1), "Stop", {}, "done")


@pytest.mark.root
async def test_the_kernel_says_who_asks() -> None:
    """Not the asker: another uid is refused whatever it sends."""
    if os.geteuid() != 0:
        pytest.skip("another uid needs root")
    folder = Path(tempfile.mkdtemp(prefix="mutirao-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        async with serving(folder, House()):
            said = await asyncio.to_thread(_as_nobody, folder / "sock")
        assert "may ask for nothing" in said
        assert journal(folder)[0]["uid"] == 65534
    finally:
        shutil.rmtree(folder)


def _as_nobody(path: Path) -> str:
    code = f"""
import contextlib, socket
s = socket.socket(socket.AF_UNIX)
s.connect({str(path)!r})
with contextlib.suppress(BrokenPipeError):  # the refusal may be there before the request
    s.sendall({start_line()!r})
print(s.recv(1000).decode())
"""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
