"""Token buckets: how often one person, or one address, may do something; in memory, one process."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from time import monotonic

MOST_KEYS = 10_000


class Buckets:
    """A bucket for each key: `capacity` at once, then one more every `refill_s`; `clock` gives seconds."""

    def __init__(self, capacity: int, refill_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._capacity = capacity
        self._refill_s = refill_s
        self._clock = clock
        # When a bucket will be full again, oldest use first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until `take` would succeed; 0 where it would now."""
        full_in = self._full_at.get(key, 0.0) - self._clock()
        wait = full_in - (self._capacity - 1) * self._refill_s
        # Sums of floats are a hair off.
        return wait if wait > 1e-6 else 0.0

    def take(self, key: str) -> float:
        """Take one and give 0, or take none and give the seconds to wait."""
        wait = self.wait_s(key)
        if wait:
            return wait
        now = self._clock()
        self._full_at[key] = max(now, self._full_at.get(key, now)) + self._refill_s
        self._full_at.move_to_end(key)
        while len(self._full_at) > MOST_KEYS:
            self._full_at.popitem(last=False)
        return 0.0


def client_address(peer: str, forwarded_for: str, trusted: Collection[str] = ()) -> str:
    """Who asks, by the X-Forwarded-For that our own proxy, `peer`, has appended to.

    Each proxy appends the address that it saw; what stands left of one that is not trusted is anybody's claim.
    """
    for address in (part.strip() for part in reversed(forwarded_for.split(","))):
        if not address:
            break
        peer = address.removeprefix("::ffff:")
        if peer not in trusted:
            break
    return peer
