"""Blocking work in threads, for coroutines: what a cancelled caller never learns of is undone."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """A few threads, and an account of the work that is under way in them."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="mutirao-sandbox")
        self._under_way: set[Future[Any]] = set()

    async def run(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """The result of `work`; of a caller cancelled meanwhile the work still ends, and `undo` gets its result."""
        lock = threading.Lock()
        results: list[T] = []
        abandoned = False

        def body() -> T:
            result = work()
            with lock:
                results.append(result)
                late = abandoned
            if late and undo:
                undo(result)
            return result

        future = self._submit(body)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            with lock:
                abandoned = True
                ready = bool(results)
            if ready and undo:
                self._submit(lambda: undo(results[0]))
            raise

    async def settle(self) -> None:
        """Return when all work that is under way has ended, undoing included."""
        while left := [future for future in self._under_way if not future.done()]:
            await asyncio.get_running_loop().run_in_executor(None, wait, left)

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        future = self._pool.submit(work)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future
