"""Schemathesis over the API's own description, and over one of the forms too: whatever comes, no 5xx."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from starlette.testclient import TestClient

from mutirao.web.app import PREFIX
from mutirao.web.limit import Limits
from tests.web import twin

QUICK, DEEP = 8, 500
TOKENS = ("", "token ana-token", "token bia-token", "token operator-token", "Bearer ana-token", "token nobody")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A service with a case, whose description has the pages and forms in it too."""
    with twin.house(tmp_path_factory.mktemp("schema")) as house:
        asyncio.run(house.case())
        app = house.app
        yield app


def operations(app: FastAPI) -> Any:
    return schemathesis.openapi.from_dict(app.openapi())
