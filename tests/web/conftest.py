"""A fresh service for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web import twin


@pytest.fixture
def house(tmp_path: Path) -> Iterator[twin.House]:
    with twin.house(tmp_path) as fresh:
        yield fresh
