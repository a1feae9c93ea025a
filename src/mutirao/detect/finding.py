"""A finding: one rule's reading of one cell, with its evidence."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from mutirao.policy.category import Category


class Level(IntEnum):
    """How grave a finding is; ordered."""

    NOTE = 1
    WARN = 2
    STOP = 3

    @property
    def key(self) -> str:
        """The stored word: note, warn or stop."""
        return self.name.lower()


class Maturity(StrEnum):
    """What a rule may do: shadow only counts, warn may warn, stable may stop."""

    SHADOW = "shadow"
    WARN = "warn"
    STABLE = "stable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's reading of a cell.

    `line` counts from 1; `excerpt` is the shortest evidence, at most 200 characters.
    `why` maps a language tag (en, pt-BR) to one sentence that a person who did nothing wrong can follow.
    """

    rule: str
    rule_version: str
    category: Category
    level: Level
    maturity: Maturity
    line: int
    excerpt: str
    why: dict[str, str]
