"""How often the pages may be asked: by one address, by one member, and for changes by one member."""

import math
from collections.abc import Callable, Collection
from time import monotonic

from starlette.datastructures import Headers
from starlette.types import Scope

from mutirao.bucket import Buckets, client_address

SAFE = ("GET", "HEAD", "OPTIONS")


class TooMany(Exception):
    """Somebody asks too often; `wait_s` are whole seconds until the next try."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"wait {wait_s} s")
        self.wait_s = math.ceil(wait_s)


class Limits:
    """Buckets for addresses (a class of thirty shares one), for members, and for what changes something.

    `trusted` are proxies in front of ours, `clock` gives seconds.
    """

    def __init__(self, trusted: Collection[str] = (), clock: Callable[[], float] = monotonic) -> None:
        self._trusted = tuple(trusted)
        self._addresses = Buckets(1500, 0.02, clock)
        self._people = Buckets(300, 0.2, clock)
        self._changes = Buckets(30, 10, clock)

    def address(self, scope: Scope) -> None:
        """Count one request of the address behind it; TooMany."""
        _wait(self._addresses.take(self.source(scope)))

    def source(self, scope: Scope) -> str:
        """The address that asks, as far as it can be known."""
        peer = (scope.get("client") or ("", 0))[0]
        return client_address(peer, ",".join(Headers(scope=scope).getlist("x-forwarded-for")), self._trusted)

    def stranger(self, scope: Scope) -> None:
        """Count one change by somebody who is not logged in; TooMany."""
        _wait(self._changes.take(f"address {self.source(scope)}"))

    def person(self, name: str, method: str) -> None:
        """Count one request of a member, and one change where it is one; TooMany."""
        _wait(self._people.take(name))
        if method not in SAFE:
            _wait(self._changes.take(name))


def _wait(seconds: float) -> None:
    if seconds:
        raise TooMany(seconds)
