"""The battery against a real runtime: no attempt gets past the walls, and nobody else notices."""

from collections import Counter
from collections.abc import Iterator

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


def test_the_battery_is_whole() -> None:
    """At least fifty attempts, no two of one name, and most of them with a control that shows they are real."""
    assert len(ATTEMPTS) >= 50
    assert [name for name, count in Counter(attempt.id for attempt in ATTEMPTS).items() if count > 1] == []
    assert sum(attempt.control is Control.OUTSIDE for attempt in ATTEMPTS) > len(ATTEMPTS) / 2
    assert {bool(attempt.rootless) for attempt in ATTEMPTS if attempt.rootless_why} == {True}
