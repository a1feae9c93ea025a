"""A court on each database that is supported."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mutirao.fairness import Cases
from mutirao.store.store import Store
from tests.cases.court import Court, with_rules
from tests.store.postgres import url_of


@pytest.fixture(params=["sqlite", "postgresql"])
def open_court(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Cases], Court]]:
    stores: list[Store] = []

    def open_it(rules: Cases) -> Court:
        url = f"sqlite:///{tmp_path / 'court.sqlite'}" if request.param == "sqlite" else url_of(request)
        stores.append(Store(url))
        return Court(stores[-1], rules)

    yield open_it
    for store in stores:
        store.close()


@pytest.fixture
def court(open_court: Callable[[Cases], Court]) -> Iterator[Court]:
    made = open_court(with_rules())
    yield made
    made.desk.attendance.settle()
    assert made.audit_holds()
