"""Schemathesis over the API's own description, and over pages and forms described the same way: no 5xx, ever."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from mutirao.web.app import PREFIX
from mutirao.web.limit import Limits
from tests.web import twin
from tests.web.serve import serving

QUICK, DEEP = 15, 400
TOKENS = (
    "",
    "token ana-token",
    "token bia-token",
    "token operator-token",
    "Bearer ana-token",
    "token nobody",
    "Basic x",
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[twin.House]:
    """A service with a case of Ana's, and a clock for limits that lets everybody ask again at once."""
    ticks = itertools.count(step=1_000_000)
    limits = Limits(clock=lambda: float(next(ticks)))
    with twin.house(tmp_path_factory.mktemp("schema"), limits=limits) as fresh:
        asyncio.run(fresh.case())
        yield fresh


def with_pages(app: FastAPI) -> dict[str, Any]:
    """The description of every route, those that the published one leaves out too."""
    every = [
        APIRoute(found.path, found.original_route.endpoint, methods=sorted(found.methods))
        for found in iter_route_contexts(app.routes)
        if isinstance(found.original_route, APIRoute)
    ]
    return get_openapi(title="everything", version="1", routes=every)


def fuzz(app: FastAPI, description: dict[str, Any], examples: int, checks: list[Any]) -> set[str]:
    """Ask every operation with data that fits its description and data that does not; what was asked."""
    asked: set[str] = set()
    with serving(app) as origin:
        asked |= _fuzz(origin, description, examples, checks)
    return asked


def _fuzz(origin: str, description: dict[str, Any], examples: int, checks: list[Any]) -> set[str]:
    asked: set[str] = set()
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        operation = result.ok()
        asked.add(f"{operation.method.upper()} {operation.path}")
        fuzz_one(origin, operation, examples, checks)
    return asked


def fuzz_one(origin: str, operation: Any, examples: int, checks: list[Any]) -> None:
    @seed(7)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), token=st.sampled_from(TOKENS), known=st.booleans())
    def ask(case: Any, token: str, known: bool) -> None:
        if known and "case" in operation.path:
            case.path_parameters["number"] = "M-2026-000001"
        headers = {"authorization": token} if token else {}
        response = case.call(base_url=origin, headers=headers, allow_redirects=False)
        case.validate_response(response, checks=checks)

    ask()


def test_the_api_never_breaks_and_answers_as_it_says(house: twin.House) -> None:
    asked = fuzz(house.app, house.app.openapi(), QUICK, [not_a_server_error, response_schema_conformance])
    assert f"GET {PREFIX}api/cases/{{number}}" in asked


def test_no_page_or_form_breaks(house: twin.House) -> None:
    asked = fuzz(house.app, with_pages(house.app), QUICK, [not_a_server_error])
    assert f"POST {PREFIX}case/{{number}}" in asked


@pytest.mark.campaign
def test_nothing_breaks_in_a_long_campaign(house: twin.House) -> None:
    fuzz(house.app, with_pages(house.app), DEEP, [not_a_server_error])
