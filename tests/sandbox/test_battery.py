"""The battery against a real runtime: no attempt gets past the walls, and nobody else notices."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.battery.attempt import Attempt, Control
from tests.sandbox.battery.stage import Stage, root_stage
from tests.sandbox.battery.table import ATTEMPTS


@pytest.fixture(scope="module")
def stage(outside: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with root_stage(tmp_path_factory.mktemp("data")) as made:
        yield made


@pytest.mark.root
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.id)
def test_the_walls_hold(attempt: Attempt, stage: Stage) -> None:
    row = stage.perform(attempt)
    assert row.held, f"{attempt.name}: {row.inside}; {'; '.join(row.notes)}"


def test_the_threat_model_names_tests_that_are_there() -> None:
    text = Path("docs/why/threat-model.md").read_text()
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) > 10
    assert [name for name in named if not Path(name).exists()] == []
    assert {attempt.category for attempt in ATTEMPTS} <= set(re.findall(r"\w+", text))


def test_the_battery_is_whole() -> None:
    """At least fifty attempts, no two of one name, and most of them with a control that shows they are real."""
    assert len(ATTEMPTS) >= 50
    assert [name for name, count in Counter(attempt.id for attempt in ATTEMPTS).items() if count > 1] == []
    assert sum(attempt.control is Control.OUTSIDE for attempt in ATTEMPTS) > len(ATTEMPTS) / 2
    assert {bool(attempt.rootless) for attempt in ATTEMPTS if attempt.rootless_why} == {True}
