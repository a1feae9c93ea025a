"""Promotion: what a rule has earned by its result on a labelled corpus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mutirao.detect.finding import Level, Maturity
from mutirao.errors import RuleError

NEEDED = {Level.NOTE: (0, 0), Level.WARN: (1, 1), Level.STOP: (3, 2)}
"""Hits, and repositories that they come from, before a rule of this level is stable."""


@dataclass(frozen=True, slots=True)
class Result:
    """Files that a rule fired on: `hits` carry its category, `other` another one, `benign` none."""

    hits: int = 0
    repositories: int = 0
    other: int = 0
    benign: int = 0

    @property
    def precision(self) -> float | None:
        """The share of its files that carry its category; None where it fired on none."""
        fired = self.hits + self.other + self.benign
        return self.hits / fired if fired else None

    def earns(self, level: Level) -> Maturity:
        """The most that a rule of this level may be."""
        if self.benign:
            return Maturity.SHADOW
        hits, repositories = NEEDED[level]
        return Maturity.STABLE if self.hits >= hits and self.repositories >= repositories else Maturity.WARN


def results(document: Any) -> Mapping[str, Result]:
    """Each rule's result from what `./run bench detect` wrote. Raises RuleError for something else."""
    try:
        rows = document["rules"].items()
        return {rule: Result(*(int(row[k]) for k in Result.__slots__)) for rule, row in rows}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RuleError(f"This is no result of ./run bench detect: {error!r} is missing or odd.") from None
