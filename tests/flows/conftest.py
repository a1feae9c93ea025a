"""One service and one browser for the end-to-end tests of a session."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.flows import certificates
from tests.flows.browser import CHROMIUM, chromium
from tests.flows.service import Service, free_port, running

HOST = "mutirao.localhost"
"""Chromium takes every *.localhost for this machine."""


@dataclass(frozen=True)
class Apart:
    """A service by https on hosts of its own, and its certificate."""

    service: Service
    cert: Path
    key: Path


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


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """A service as an operator should run it: by https, hub and pages and members each on a host of their own."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = certificates.make(folder, HOST, f"*.{HOST}")
    extra = f'[tls]\ncert = "{cert}"\nkey = "{key}"\nredirect_port = {free_port()}\n[login]\noperators = ["olga"]\n'
    with running("10.152.0.0/16", extra, host=HOST, scheme="https") as started:
        yield Apart(started, cert, key)


@pytest.fixture(scope="module")
def trusting(apart: Apart) -> Iterator[Browser]:
    """Chromium that takes the service's certificate for a good one."""
    with chromium(f"--ignore-certificate-errors-spki-list={certificates.fingerprint(apart.cert)}") as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; closed with its module, because Playwright's event loop would keep later async tests from running."""
    with chromium() as started:
        yield started
