"""How much reading each member may ask for: seconds in a bucket that refills evenly."""

from collections.abc import Callable
from time import monotonic

_MOST_KEPT = 10_000


class Budget:
    """`per_minute_s` seconds of reading a minute for each member; as much is saved up at most. `clock` in seconds."""

    def __init__(self, per_minute_s: float, clock: Callable[[], float] = monotonic) -> None:
        self.per_minute_s = per_minute_s
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def left_s(self, member: str) -> float:
        """What the member has left now; below zero where the last cell took more than there was."""
        missing, at = self._spent.get(member, (0.0, 0.0))
        refilled = (self._clock() - at) * self.per_minute_s / 60
        return self.per_minute_s - max(0.0, missing - refilled)

    def wait_s(self, member: str) -> float:
        """How long until the member has something left; 0 where there is something now."""
        return max(0.0, -self.left_s(member)) * 60 / self.per_minute_s

    def spend(self, member: str, seconds: float) -> None:
        """Take what reading a cell took."""
        self._spent[member] = (self.per_minute_s - self.left_s(member) + seconds, self._clock())
        if len(self._spent) > _MOST_KEPT:
            self._spent = {name: kept for name, kept in self._spent.items() if self.left_s(name) < self.per_minute_s}
