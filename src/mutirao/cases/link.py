"""Links: when two accounts may be taken for one person's. Pure.

An address proves nothing: a class of thirty shares one. Neither does anything alone that honest people share.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Strength(IntEnum):
    """How much a shared key says; ordered."""

    WEAK = 1
    MEDIUM = 2
    STRONG = 3


class Key(StrEnum):
    """What two accounts can have in common."""

    ADDRESS = "address"
    BROWSER = "browser"
    TIMES = "times"
    DEVICE = "device"
    CODE = "code"
    DESTINATION = "destination"
    WALLET = "wallet"
    SSH_KEY = "ssh-key"
    LOGIN = "login"


STRENGTH = {
    Key.ADDRESS: Strength.WEAK,
    Key.BROWSER: Strength.WEAK,
    Key.TIMES: Strength.WEAK,
    Key.DEVICE: Strength.MEDIUM,  # one long-lived cookie; machines in a library have many users
    Key.CODE: Strength.MEDIUM,  # a rare cell, to the letter
    Key.DESTINATION: Strength.MEDIUM,  # a host that nobody else here connects to
    Key.WALLET: Strength.STRONG,
    Key.SSH_KEY: Strength.STRONG,
    Key.LOGIN: Strength.STRONG,  # one identity at the login's provider
}


@dataclass(frozen=True, slots=True)
class Linked:
    """They are one person's, by these keys."""

    keys: frozenset[Key]


@dataclass(frozen=True, slots=True)
class NotLinked:
    """They are not; `why` is no-verdict or too-little."""

    why: str


def link(shared: Iterable[Key], *, verdict: bool) -> Linked | NotLinked:
    """One strong key or two medium ones link, where one of the accounts has a verdict that stands."""
    keys = frozenset(shared)
    if not verdict:
        return NotLinked("no-verdict")
    telling = frozenset(key for key in keys if STRENGTH[key] is not Strength.WEAK)
    if any(STRENGTH[key] is Strength.STRONG for key in telling) or len(telling) >= 2:
        return Linked(telling)
    return NotLinked("too-little")
