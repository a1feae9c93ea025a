"""The ladder: from live strikes to a restriction, by published numbers. Pure: no clock, no file, no person.

A stop counts as a strike where it is the second matter within a strike's life, or harm in progress (mining, dos).
The first matter of any other kind brings its notice and nothing else: that notice is the warning.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mutirao.fairness import Cases


class Scope(StrEnum):
    """What is restricted: GPUs, running code (files and notebooks stay), or the account."""

    GPU = "gpu"
    COMPUTE = "compute"
    ACCOUNT = "account"


SCOPES = tuple(Scope)


@dataclass(frozen=True, slots=True)
class Consequence:
    """A restriction that follows: of what, for how long."""

    scope: Scope
    days: float

    @property
    def life(self) -> timedelta:
        """How long it holds."""
        return timedelta(days=self.days)


@dataclass(frozen=True, slots=True)
class History:
    """What decides about an account: its live strikes before this, other stopped matters, and the state of the cause.

    `stopped` counts other matters that were stopped within a strike's life; `struck` holds where this case, cell
    or day has its strike already; `paused` where an incident is open for the cause; `known` where we know
    who ran the cell.
    """

    strikes: int = 0
    stopped: int = 0
    struck: bool = False
    paused: bool = False
    known: bool = True


def climb(strikes: int, rules: Cases) -> Consequence | None:
    """What so many live strikes lead to; more never lead to less, and a machine's longest days bound it."""
    if strikes >= rules.compute_strikes:
        doubled = rules.compute_days * 2 ** min(strikes - rules.compute_strikes, 16)
        return Consequence(Scope.COMPUTE, min(doubled, rules.longest_days))
    if strikes >= rules.gpu_strikes:
        return Consequence(Scope.GPU, min(rules.gpu_days, rules.longest_days))
    return None


def founded(scope: Scope, strikes: int, rules: Cases) -> bool:
    """True while a machine's restriction of this scope still has the strikes under it."""
    needed = {Scope.GPU: rules.gpu_strikes, Scope.COMPUTE: rules.compute_strikes}
    return scope in needed and strikes >= needed[scope]
