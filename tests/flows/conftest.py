"""One service and one browser for the end-to-end tests of a session."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.flows.browser import CHROMIUM, chromium
from tests.flows.service import Service, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is a flow; without root or Chromium it is skipped, and says so."""
    for item in items:
        if "/flows/" not in str(item.path):
            continue
        item.add_marker(pytest.mark.flow)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="a real service needs root: sudo ./run test"))
        elif not os.path.exists(CHROMIUM):  # noqa: PTH110
            item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is missing: apt-get install chromium"))


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service with the shipped defaults, in demo mode."""
    with running("10.138.0.0/16") as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; closed with its module, because Playwright's event loop would keep later async tests from running."""
    with chromium() as started:
        yield started
