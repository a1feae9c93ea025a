"""The table of DESIGN.md: a finding's level, its rule's maturity and its category give an action. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from mutirao.cases.action import Action
from mutirao.detect.finding import Level, Maturity
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
    """An action, and whether it is recorded with a person attached or only counted."""

    action: Action
    recorded: bool


COUNTED = Decided(Action.ALLOW, recorded=False)


def decide(level: Level, maturity: Maturity, category: Category, standing: Standing = Standing.PLAIN) -> Decided:
    """What to do about one finding; nothing here looks at a clock, a file or a person."""
    if maturity is Maturity.SHADOW or level is Level.NOTE:
        return COUNTED
    if standing is Standing.EXEMPT:
        return Decided(Action.ALLOW, recorded=True)
    if level is Level.WARN or maturity is Maturity.WARN:
        return Decided(Action.WARN, recorded=True)
    if category in HOLDABLE or (category in HOLDABLE_UNDER_REVIEW and standing is Standing.UNDER_REVIEW):
        return Decided(Action.HOLD, recorded=True)
    return Decided(Action.STOP, recorded=True)
