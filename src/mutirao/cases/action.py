"""What may be done about a finding, from least to most."""

from enum import StrEnum


class Action(StrEnum):
    """What was done with a cell; machines may take every one of these."""

    ALLOW = "allow"
    WARN = "warn"
    HOLD = "hold"
    STOP = "stop"

    @property
    def runs(self) -> bool:
        """True where the cell reaches the kernel."""
        return self in (Action.ALLOW, Action.WARN)
