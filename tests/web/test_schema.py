"""Schemathesis over the API's own description, and over pages and forms described the same way: no 5xx, ever."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
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
from tests.web.access import ROWS, Who, filled
from tests.web.serve import serving

QUICK, DEEP = 15, 400
TOKENS = (
    "",
    "token ana-token",
    "token bia-token",
    "token operator-token",
    "token rui-token",
    "token aldo-token",
    "Bearer ana-token",
    "token nobody",
    "Basic x",
)

DESCRIBED = {f"{method} {PREFIX}{path.replace(':int', '')}": row for (method, path), row in ROWS.items()}
"""The table of access by the names that a description has for its operations."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[twin.House]:
    """A service with a clock for limits that lets everybody ask again at once."""
    ticks = itertools.count(step=1_000_000)
    limits = Limits(clock=lambda: float(next(ticks)))
    with twin.house(tmp_path_factory.mktemp("schema"), limits=limits) as fresh:
        yield fresh


def with_pages(app: FastAPI) -> dict[str, Any]:
    """The description of every route, those that the published one leaves out too."""
    every = [
        APIRoute(found.path, found.original_route.endpoint, methods=sorted(found.methods))
        for found in iter_route_contexts(app.routes)
        if isinstance(found.original_route, APIRoute)
    ]
    return get_openapi(title="everything", version="1", routes=every)


def fuzz(house: twin.House, description: dict[str, Any], examples: int, checks: list[Any]) -> Counter[tuple[str, int]]:
    """Ask every operation with data that fits its description and data that does not; how often what was answered."""
    answers: Counter[tuple[str, int]] = Counter()
    with serving(house.app) as origin:
        for result in schemathesis.openapi.from_dict(description).get_all_operations():
            fuzz_one(house, origin, result.ok(), examples, checks, answers)
    return answers


def fuzz_one(
    house: twin.House, origin: str, operation: Any, examples: int, checks: list[Any], answers: Counter[tuple[str, int]]
) -> None:
    """Where `known`, the path names something that is there and, until it is answered, waits: chance never finds it.

    An act then comes from somebody who may do it, by our own form, and the fields of `kept` are as they should be.
    """
    name = f"{operation.method.upper()} {operation.path}"
    row = DESCRIBED[name]
    fields = {**row.form, **(row.json or {})}
    there: dict[str, str] = {}
    turn = itertools.count()

    @seed(7)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        case=operation.as_strategy(),
        token=st.sampled_from(TOKENS),
        known=st.booleans(),
        kept=st.sets(st.sampled_from([*fields, ""])),
    )
    def ask(case: Any, token: str, known: bool, kept: set[str]) -> None:
        if known and row.mine:
            if next(turn) % 10 == 0:
                house.now += timedelta(days=1)  # a new day brings a new case
                there.update(asyncio.run(row.mine(house)))
            case.path_parameters |= {key: there[key] for key in case.path_parameters}
        if known and fields:
            token = f"token {row.by}-token" if row.by else ""
            if isinstance(case.body, dict):
                case.body |= {key: fields[key] for key in kept if key}
                if row.page:
                    page = f"{origin}{filled(row.page, there)}"
                    case.body["form_key"] = form_key(page, token, case.formatted_path)
        headers = {"authorization": token} if token else {}
        response = case.call(base_url=origin, headers=headers, allow_redirects=False)
        answers[name, response.status_code] += 1
        case.validate_response(response, checks=checks)

    ask()


def form_key(page: str, token: str, action: str) -> str:
    """The key that our page gives to the form for `action`, "" where it has none."""
    text = requests.get(page, headers={"authorization": token} if token else {}, timeout=60).text
    form = rf'<form[^>]*action="{re.escape(action)}".*?name="form_key" value="([^"]+)"'
    found = re.search(form, text, re.DOTALL)
    return found[1] if found else ""


def test_the_api_never_breaks_and_answers_as_it_says(house: twin.House) -> None:
    answers = fuzz(house, house.app.openapi(), QUICK, [not_a_server_error, response_schema_conformance])
    assert answers[f"GET {PREFIX}api/cases/{{number}}", 200]


def test_no_page_or_form_breaks(house: twin.House) -> None:
    description = with_pages(house.app)
    description["paths"] = {path: found for path, found in description["paths"].items() if "/api/" not in path}
    answers = fuzz(house, description, QUICK, [not_a_server_error])
    assert answers[f"GET {PREFIX}review/case/{{number}}", 200]
    assert answers[f"POST {PREFIX}review/report/{{id}}/close", 303]


@pytest.mark.campaign
def test_nothing_breaks_in_a_long_campaign(house: twin.House) -> None:
    answers = fuzz(house, with_pages(house.app), DEEP, [not_a_server_error])
    acts = {name for name, row in DESCRIBED.items() if name.startswith("POST") and row.who is not Who.WAY}
    # Done, or refused for what it is about: each got past login, key and form.
    assert {name for name in acts if not any(answers[name, status] for status in (200, 303, 409))} == set()
