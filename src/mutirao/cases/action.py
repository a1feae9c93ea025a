"""What may be done about a finding, from least to most, and what people do afterwards."""

from enum import StrEnum


class Action(StrEnum):
    """What was done. Machines take those up to restrict, and lift; everything else is a named person's."""

    ALLOW = "allow"
    WARN = "warn"
    HOLD = "hold"
    FREEZE = "freeze"
    STOP = "stop"
    RESTRICT = "restrict"
    SUSPEND = "suspend"
    LIFT = "lift"
    UPHOLD = "uphold"
    LESSEN = "lessen"
    REVERSE = "reverse"
    GRANT = "grant"
    REFUSE = "refuse"
    CLOSE = "close"
    INFORM = "inform"

    @property
    def runs(self) -> bool:
        """True where the cell reaches the kernel."""
        return self in (Action.ALLOW, Action.WARN)


GRAVITY = (Action.ALLOW, Action.WARN, Action.HOLD, Action.FREEZE, Action.STOP, Action.RESTRICT, Action.SUSPEND)
"""What is done about somebody's work, from least to most."""

APPEALABLE = frozenset({*GRAVITY[1:], Action.REFUSE})
"""What a member may appeal against."""
