"""Reading in turn: one member's huge cells wait for each other, and nobody else waits for them.

A small cell is read at once. A long cell, and any cell of a member whose reading has used up its budget, goes to the
reader processes: one of a member's at a time, so that two readers always leave one for the others. A member over
budget waits until some is left; one who would wait longer than `patience_s` is told so.
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

from mutirao.cases.cell import Cell
from mutirao.cases.scan import SMALL_CHARACTERS
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding
from mutirao.detect.memory import Memory
from mutirao.detect.source.reader import LONGEST
from mutirao.errors import OverBudgetError, TooLongError
from mutirao.gate.budget import Budget
from mutirao.gate.reader import findings
from mutirao.gate.readers import ReaderGone, Readers
from mutirao.gate.wire import Frame, Wire

MOST_KERNELS, MOST_OF_ONE = 256, 16
"""So many kernels' stories, and so many of one owner's, are kept; the one that was quiet longest goes first."""
PATIENCE_SHARE = 0.8
"""This share of the judge's time may be waited; the rest is for reading."""


class FairReading:
    """Reads cells (a Scanner) and large frames, fairly among members."""

    def __init__(self, engine: Engine, readers: Readers, budget: Budget, patience_s: float) -> None:
        self._engine = engine
        self._readers = readers
        self._budget = budget
        self._patience_s = patience_s
        self._memories: OrderedDict[tuple[str, str, str], Memory] = OrderedDict()
        self._stories: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._reading: set[asyncio.Task[dict[str, Any]]] = set()

    def warm(self) -> None:
        """Have a reader ready before the first long cell comes."""
        self._readers.warm()

    async def close(self) -> None:
        """End what is being read, and the reader processes."""
        for reading in list(self._reading):
            reading.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await self._readers.close()

    async def scan(self, cell: Cell) -> tuple[Finding, ...]:
        """The findings; OverBudgetError for a member whose cells take more reading than their share."""
        member = cell.actor or cell.owner
        if len(cell.code) > LONGEST:
            raise TooLongError(f"A cell of {len(cell.code)} characters can't be judged: {LONGEST} is the most.")
        # One after the other: what a long cell prepares must not be lost to a short one that is read meanwhile.
        async with self._stories.setdefault(_kernel(cell), asyncio.Lock()):
            return await self._in_story(cell, member, self._memory(cell))

    async def _in_story(self, cell: Cell, member: str, memory: Memory) -> tuple[Finding, ...]:
        small = len(cell.code) <= SMALL_CHARACTERS and (
            memory.waiting <= SMALL_CHARACTERS or not self._engine.reads(cell.code, memory)
        )
        if small and self._budget.left_s(member) > 0:
            began = perf_counter()
            found = self._engine.scan(cell.code, cell.language, memory)
            self._budget.spend(member, perf_counter() - began)
            return found
        head = {"do": "scan", "language": cell.language, "memory": memory.document()}
        body = cell.code.encode("utf-8", "surrogatepass")
        answer = await self._read(member, head, body, self._patience_s)
        found = findings(answer)
        if self._memories.get(_kernel(cell)) is memory:  # else it was restarted, or pushed out
            self._memories[_kernel(cell)] = Memory.from_document(answer["memory"])
        return found

    def _memory(self, cell: Cell) -> Memory:
        """What the cell's kernel has done so far."""
        key = _kernel(cell)
        if key not in self._memories:
            own = [one for one in self._memories if one[0] == cell.owner]
            for oldest in own[: max(0, len(own) + 1 - MOST_OF_ONE)]:
                del self._memories[oldest]
            if len(self._memories) >= MOST_KERNELS:
                self._memories.popitem(last=False)
            self._memories[key] = Memory()
        self._memories.move_to_end(key)
        return self._memories[key]

    def restarted(self, owner: str, server: str, kernel: str) -> None:
        """That kernel began anew, and its story with it."""
        key = (owner, server, kernel)
        if key in self._memories:
            self._memories[key] = replace(self._memories[key])
            self._memories[key].restarted()

    async def inspect(self, member: str, frame: Frame, wire: Wire) -> dict[str, Any]:
        """The outline of a large frame and the code in it, as a reader answers; waits as long as it must."""
        return await self._read(member, {"do": "inspect", "wire": wire.value, "text": frame.text}, frame.data, None)

    async def _read(self, member: str, head: dict[str, Any], body: bytes, patience_s: float | None) -> dict[str, Any]:
        turn = self._turns.setdefault(member, asyncio.Lock())
        try:
            async with asyncio.timeout(patience_s):
                await turn.acquire()
                try:
                    await asyncio.sleep(self._budget.wait_s(member))
                except BaseException:
                    turn.release()
                    raise
        except TimeoutError:
            raise OverBudgetError(
                f"Cells of {member} have taken more reading than one member's share of this minute."
            ) from None
        # A task of its own: one that nobody waits for any more still counts, and holds its member's turn.
        reading = asyncio.create_task(self._held(turn, member, head, body))
        self._reading.add(reading)
        reading.add_done_callback(self._done)
        return await asyncio.shield(reading)

    async def _held(self, turn: asyncio.Lock, member: str, head: dict[str, Any], body: bytes) -> dict[str, Any]:
        try:
            answer = await self._readers.ask(head, body)
            self._budget.spend(member, answer["seconds"])
        except ReaderGone as gone:
            self._budget.spend(member, gone.seconds)
            raise
        finally:
            turn.release()
        return answer

    def _done(self, ended: asyncio.Task[dict[str, Any]]) -> None:
        self._reading.discard(ended)
        if not ended.cancelled():
            ended.exception()  # whoever waited has it; nobody else need hear of it


def _kernel(cell: Cell) -> tuple[str, str, str]:
    return cell.owner, cell.server, cell.kernel
