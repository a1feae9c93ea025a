"""The table of level × maturity × category → action, every cell of it."""

import itertools

import pytest

from mutirao.cases.action import Action
from mutirao.cases.decide import NEVER_HELD, Decided, Standing, decide
from mutirao.detect.finding import Level, Maturity
from mutirao.policy.category import Category

STOP_BY_CATEGORY = {
    Category.MINING: Action.STOP,
    Category.DOS: Action.STOP,
    Category.PASSWORD_CRACKING: Action.STOP,
    Category.P2P: Action.STOP,
    Category.PROXY: Action.STOP,
    Category.DEEPFAKE: Action.STOP,
    Category.MULTI_ACCOUNT: Action.STOP,
    Category.REMOTE_ACCESS: Action.HOLD,
    Category.FILE_HOSTING: Action.HOLD,
}


@pytest.mark.parametrize("category", Category)
def test_a_stop_of_a_stable_rule_stops_or_holds_by_category(category: Category) -> None:
    assert decide(Level.STOP, Maturity.STABLE, category) == Decided(STOP_BY_CATEGORY[category], recorded=True)


@pytest.mark.parametrize(("maturity", "category"), list(itertools.product(Maturity, Category)))
def test_a_note_is_only_counted(maturity: Maturity, category: Category) -> None:
    assert decide(Level.NOTE, maturity, category) == Decided(Action.ALLOW, recorded=False)


@pytest.mark.parametrize(("level", "category"), list(itertools.product(Level, Category)))
def test_a_shadow_rule_is_only_counted(level: Level, category: Category) -> None:
    assert decide(level, Maturity.SHADOW, category) == Decided(Action.ALLOW, recorded=False)


@pytest.mark.parametrize("category", Category)
def test_a_rule_that_may_only_warn_never_stops(category: Category) -> None:
    assert decide(Level.STOP, Maturity.WARN, category).action is Action.WARN
    assert decide(Level.WARN, Maturity.STABLE, category).action is Action.WARN
    assert decide(Level.WARN, Maturity.WARN, category).action is Action.WARN


@pytest.mark.parametrize(("level", "category"), list(itertools.product((Level.WARN, Level.STOP), Category)))
def test_an_exemption_allows_and_is_recorded(level: Level, category: Category) -> None:
    assert decide(level, Maturity.STABLE, category, Standing.EXEMPT) == Decided(Action.ALLOW, recorded=True)


@pytest.mark.parametrize("category", Category)
def test_a_purpose_under_review_holds_deepfakes_and_cracking_only(category: Category) -> None:
    held = {Category.DEEPFAKE, Category.PASSWORD_CRACKING, Category.REMOTE_ACCESS, Category.FILE_HOSTING}

    action = decide(Level.STOP, Maturity.STABLE, category, Standing.UNDER_REVIEW).action

    assert action is (Action.HOLD if category in held else Action.STOP)


def test_harm_in_progress_is_never_held() -> None:
    for standing, category in itertools.product((Standing.PLAIN, Standing.UNDER_REVIEW), NEVER_HELD):
        assert decide(Level.STOP, Maturity.STABLE, category, standing).action is Action.STOP
