"""A court on each database that is supported."""

from collections.abc import Callable, Iterator

import pytest

from mutirao.fairness import Cases
from mutirao.store.store import Store
from tests.cases.court import Court, with_rules


@pytest.fixture
def open_court(store: Store) -> Callable[[Cases], Court]:
    return lambda rules: Court(store, rules)


@pytest.fixture
def court(open_court: Callable[[Cases], Court]) -> Iterator[Court]:
    made = open_court(with_rules())
    yield made
    made.desk.attendance.settle()
    assert made.audit_holds()
