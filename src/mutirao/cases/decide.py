"""The table of DESIGN.md: a finding's level, its rule's maturity and its category give an action. Pure.

The action is about the process; what follows for the account (a strike, a restriction) comes beside it.
"""

from dataclasses import dataclass
from enum import StrEnum

from mutirao.cases.action import Action
from mutirao.cases.ladder import Consequence, History, climb
from mutirao.detect.finding import Level, Maturity
from mutirao.fairness import Cases
from mutirao.policy.category import Category

HOLDABLE = frozenset({Category.REMOTE_ACCESS, Category.FILE_HOSTING})
"""A stop becomes a hold for everybody: the member may give a reason and run it."""

HOLDABLE_UNDER_REVIEW = frozenset({Category.DEEPFAKE, Category.PASSWORD_CRACKING})
"""A stop becomes a hold for members with a declared purpose under review."""

NEVER_HELD = frozenset({Category.MINING, Category.DOS})
"""Harm in progress: no reason makes it run."""


class Standing(StrEnum):
    """What a member has declared about one category, under the policy version in force."""

    PLAIN = "plain"
    UNDER_REVIEW = "under-review"
    EXEMPT = "exempt"


@dataclass(frozen=True, slots=True)
class Decided:
    """An action, whether it is recorded with a person attached or only counted, and what follows for the account."""

    action: Action
    recorded: bool
    strike: bool = False
    consequence: Consequence | None = None


COUNTED = Decided(Action.ALLOW, recorded=False)
UNKNOWN = History(known=False)
"""Nobody knows who ran it, or nobody asked: nothing can follow for an account."""


def decide(
    level: Level,
    maturity: Maturity,
    category: Category,
    standing: Standing = Standing.PLAIN,
    history: History = UNKNOWN,
    rules: Cases = Cases(),  # noqa: B008 - frozen
) -> Decided:
    """What to do about one finding; nothing here looks at a clock, a file or a person."""
    if maturity is Maturity.SHADOW or level is Level.NOTE:
        return COUNTED
    if standing is Standing.EXEMPT:
        return Decided(Action.ALLOW, recorded=True)
    if level is Level.WARN or maturity is Maturity.WARN:
        return Decided(Action.WARN, recorded=True)
    if category in HOLDABLE or (category in HOLDABLE_UNDER_REVIEW and standing is Standing.UNDER_REVIEW):
        return Decided(Action.HOLD, recorded=True)
    return _stop(category, history, rules)


def _stop(category: Category, history: History, rules: Cases) -> Decided:
    """The process is stopped in any case; the account is touched by a new strike alone, and by no paused cause."""
    warned = history.stopped > 0 or history.strikes > 0
    strike = history.known and not history.struck and not history.paused and (category in NEVER_HELD or warned)
    consequence = climb(history.strikes + 1, rules) if strike else None
    return Decided(Action.STOP, recorded=True, strike=strike, consequence=consequence)
