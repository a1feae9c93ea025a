"""Room for large messages in one worker, so that its memory is bounded however many connections it has.

A message above 1 MiB needs room before it is received, and gives it back when the other side has taken it. Who finds
none waits, first come first served, with the connection's reading paused; one member gets half of the room at most.
One who has room, hardly moves while others wait, is cut off.
"""

import ctypes
from collections import Counter
from collections.abc import Callable
from time import monotonic

LARGE_BYTES = 1 << 20
ROOM_BYTES = 256 << 20
PATIENCE_S = 30.0
SLOWEST_BYTES_S = 64 << 10


class Cargo:
    """One direction of one connection: at most one large message at a time; the calls are plain, never awaited."""

    def __init__(self, hold: "Hold", member: str, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.hold = hold
        self.member = member
        self.pause = pause
        self.resume = resume
        self.size = 0
        self.held = 0
        self.inside = False
        self.since = 0.0
        self.moved_bytes = 0
        self._next = 0
        self._closed = False

    def begins(self, size: int) -> None:
        """A large message of so many bytes begins to arrive."""
        if self._closed:
            return
        if self.size:
            # The one before it is still under way to the other side.
            self._next = max(size, self._next)
            self.pause()
            return
        self.size = size
        self.hold.enter(self)

    def moved(self, size: int) -> None:
        """So many bytes were received or sent."""
        self.moved_bytes += size

    def landed(self) -> None:
        """The other side has taken the message."""
        self.hold.leave(self)
        following, self._next = self._next, 0
        self.size = 0
        if following:
            self.resume()
            self.begins(following)

    def close(self) -> None:
        """The connection ends, wherever the message is."""
        self._closed, self._next, self.size = True, 0, 0
        self.hold.leave(self)

    @property
    def stalls(self) -> bool:
        """True where this message keeps others waiting and hardly moves."""
        return self.hold.stalls(self)


class Hold:
    """`room_bytes` for all large messages together; never less than two of the largest."""

    def __init__(
        self,
        room_bytes: int = ROOM_BYTES,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.room_bytes = room_bytes
        self.patience_s = patience_s
        self.used_bytes = 0
        self.waiting: list[Cargo] = []
        self._clock = clock
        self._untidy = False
        self._used_by: Counter[str] = Counter()

    def enter(self, cargo: Cargo) -> None:
        """Give room now, or pause the cargo until there is some."""
        if not self.waiting and self._fits(cargo):
            self._admit(cargo)
            return
        cargo.pause()
        self.waiting.append(cargo)
        self._admit_waiting()

    def leave(self, cargo: Cargo) -> None:
        """Take the cargo's room back, and give it to those who wait."""
        if cargo in self.waiting:
            self.waiting.remove(cargo)
            cargo.resume()
        if not cargo.inside:
            return
        cargo.inside = False
        self.used_bytes -= cargo.held
        self._used_by[cargo.member] -= cargo.held
        if not self._used_by[cargo.member]:
            del self._used_by[cargo.member]
        self._admit_waiting()

    def tidy(self) -> None:
        """Give the memory of large messages back to the system, once none is here any more.

        glibc keeps what was freed below the top of its heap, and would for ever.
        """
        if self._untidy and not self.used_bytes:
            self._untidy = False
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)

    def stalls(self, cargo: Cargo) -> bool:
        """True where the cargo has had room for a while, others wait, and it moves slower than 64 KiB/s."""
        age_s = self._clock() - cargo.since
        return bool(
            cargo.inside and self.waiting and age_s > self.patience_s and cargo.moved_bytes < SLOWEST_BYTES_S * age_s
        )

    def _fits(self, cargo: Cargo) -> bool:
        mine = self._used_by.get(cargo.member, 0)
        if mine and mine + cargo.size > self.room_bytes // 2:
            return False
        return not self.used_bytes or self.used_bytes + cargo.size <= self.room_bytes

    def _admit_waiting(self) -> None:
        for cargo in list(self.waiting):
            if self._fits(cargo):
                self.waiting.remove(cargo)
                self._admit(cargo)
                cargo.resume()
            elif cargo.member not in self._used_by:
                # Blocked by others, not by itself: those behind it must not overtake it for ever.
                return

    def _admit(self, cargo: Cargo) -> None:
        cargo.inside = self._untidy = True
        cargo.held = cargo.size
        cargo.since = self._clock()
        cargo.moved_bytes = 0
        self.used_bytes += cargo.held
        self._used_by[cargo.member] += cargo.held
