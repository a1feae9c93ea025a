"""Work in threads ends, is undone when nobody waits for it, and can be waited for as a whole."""

import asyncio
import threading
import time

import pytest

from mutirao.sandbox.threads import Threads


async def test_a_result_and_an_error_come_back() -> None:
    threads = Threads(2)
    assert await threads.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def cancelled(threads: Threads, gate: threading.Event, undone: list[int]) -> None:
    def work() -> int:
        gate.wait(5)
        return 7

    task = asyncio.create_task(threads.run(work, undo=undone.append))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_nobody_waits_for_is_undone_when_it_ends() -> None:
    threads, gate = Threads(2), threading.Event()
    undone: list[int] = []
    await cancelled(threads, gate, undone)
    assert undone == []
    gate.set()
    await threads.settle()
    assert undone == [7]


async def test_work_that_ended_just_before_the_cancelling_is_undone_too() -> None:
    threads = Threads(2)
    undone: list[int] = []
    task = asyncio.create_task(threads.run(lambda: 7, undo=undone.append))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251  (the loop must not learn of the result before the task is cancelled)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await threads.settle()
    assert undone == [7]


async def test_work_that_never_began_is_not_undone() -> None:
    threads, gate = Threads(1), threading.Event()
    undone: list[int] = []
    first = asyncio.create_task(threads.run(lambda: gate.wait(5)))
    await cancelled(threads, gate, undone)
    gate.set()
    await first
    await threads.settle()
    assert undone == []


async def test_settling_with_nothing_under_way_is_at_once() -> None:
    await Threads(1).settle()
