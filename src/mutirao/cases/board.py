"""The board: who is restricted and whom a letter waits for, held in memory so that a clean cell asks no database."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime

from mutirao.cases import delivery, letter, sanction
from mutirao.cases.action import Action
from mutirao.cases.ladder import Scope
from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice
from mutirao.cases.sanction import Restriction
from mutirao.cases.wording import Pages
from mutirao.errors import StoreError
from mutirao.store.store import Store

log = logging.getLogger(__name__)

FRESH_S = 1.0
STALE_S = 2.0
"""A look older than this is waited for; between the two it is renewed meanwhile."""

PATIENCE_S = 1.0
"""So long a cell waits for a database that hangs; then what was last known holds, each restriction until its end."""


@dataclass(frozen=True, slots=True)
class Look:
    """One moment: restrictions by member, and letters that wait for a member's next cell."""

    restricted: dict[str, Restriction] = field(default_factory=dict)
    letters: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def refusal(self, actor: str | None, owner: str, halted: Halted, pages: Pages, now: datetime) -> Notice | None:
        """What is said where the actor, or the server's owner, may not run code now; None where both may."""
        for who in dict.fromkeys((actor or owner, owner)):
            restriction = self.restricted.get(who)
            held = restriction.on(Scope.COMPUTE, now) if restriction else None
            if held is None:
                continue
            own = who == (actor or owner)
            notice = letter.compose(
                halted.own if own else halted.others,
                Action.STOP,
                held.case,
                pages,
                clause=None,
                version=0,
                facts=(halted.fact,) if own else (),
                follows=letter.RESTRICTED[held.scope] if own else letter.OTHERS,
                next_step=letter.APPEAL if own else letter.GO_ON,
                begins=letter.moment(held.begins_at),
                ends=letter.moment(held.ends_at),
                told=held.case,
            )
            if not own:  # another's case is nobody else's to read
                texts = {lang: replace(text, links=()) for lang, text in notice.texts.items()}
                notice = replace(notice, case=None, texts=texts)
            return notice
        return None


class Board:
    """Keeps a look that is at most two seconds old while cells come; `tick` is a steady clock in seconds."""

    def __init__(self, store: Store, clock: Callable[[], datetime], tick: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.clock = clock
        self.tick = tick
        self.last = Look()
        self._taken: float | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="mutirao-board")
        self._reading: Future[None] | None = None

    async def look(self) -> Look:
        """What holds now, from memory wherever it is fresh."""
        age = None if self._taken is None else self.tick() - self._taken
        if age is not None and age < FRESH_S:
            return self.last
        if self._reading is None or self._reading.done():
            self._reading = self._reader.submit(self.refresh)
        if age is None or age >= STALE_S:
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._reading)), PATIENCE_S)
            except TimeoutError:
                log.warning("The database does not answer: restrictions hold as they were last known.")
        return self.last

    def refresh(self) -> None:
        """Read what holds; where the database is away, what was last known stays."""
        try:
            with self.store.read() as session:
                self.last = Look(sanction.active(session, self.clock()), delivery.waiting_in_notebooks(session))
        except StoreError as error:
            log.warning("Restrictions hold as they were last known: %s", error)
        self._taken = self.tick()

    def soon(self) -> None:
        """Something changed here: the next cell waits for a new look."""
        self._taken = None

    def handed_over(self, member: str, number: int) -> None:
        """A letter of this look has been taken, here or elsewhere: it is not asked for again."""
        left = tuple(one for one in self.last.letters.get(member, ()) if one != number)
        self.last = replace(self.last, letters={**self.last.letters, member: left})
