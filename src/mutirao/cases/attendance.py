"""Attendance: that a member ran something today, written once a day and not while their cell waits."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime

from mutirao.cases import member
from mutirao.errors import StoreError
from mutirao.store.store import Store

log = logging.getLogger(__name__)


class Attendance:
    """Collects names and writes them together; only the day is kept, never what was run."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.clock = clock
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._day: date | None = None
        self._new: set[str] = set()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mutirao-attendance")
        self._writing: Future[None] | None = None

    def note(self, name: str) -> None:
        """The member ran something now; free of cost from the second time of a day on."""
        today = self.clock().date()
        with self._lock:
            if today != self._day:
                self._day, self._known = today, set()
            if name in self._known:
                return
            self._known.add(name)
            self._new.add(name)
            if self._writing is None or self._writing.done():
                self._writing = self._writer.submit(self._write)

    def settle(self) -> None:
        """Wait until all that was noted is written."""
        with self._lock:
            writing = self._writing
        if writing is not None:
            writing.result()
        self._write()

    def _write(self) -> None:
        while True:
            with self._lock:
                names, self._new = sorted(self._new), set()
            if not names:
                return
            try:
                with self.store.write() as session:
                    for name in names:
                        member.seen(session, name, self.clock())
            except StoreError as error:
                log.warning("Attendance was not written: %s", error)
                with self._lock:
                    self._known -= set(names)
                return
