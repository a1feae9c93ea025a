"""The API says what the pages say, and describes itself."""

import pytest

from mutirao.policy.category import Category
from mutirao.web.app import PREFIX
from tests.web.twin import House


async def test_the_policy_in_force_is_public(house: House) -> None:
    async with house.browser() as browser:
        policy = (await browser.get(f"{PREFIX}api/policy", params={"lang": "pt-BR"})).json()
        versions = (await browser.get(f"{PREFIX}api/policy/versions")).json()
        older = (await browser.get(f"{PREFIX}api/policy/1")).json()
    assert (policy["version"], policy["standing"], policy["lang"]) == (2, "in-force", "pt-BR")
    assert [clause["category"] for clause in policy["clauses"]] == list(Category)
    assert [(view["version"], view["standing"]) for view in versions] == [(1, "past"), (2, "in-force")]
    assert (older["standing"], len(older["clauses"])) == ("past", 8)


async def test_a_case_is_told_with_its_evidence(house: House) -> None:
    number = await house.case()
    async with house.browser(authorization="token ana-token") as browser:
        case = (await browser.get(f"{PREFIX}api/cases/{number}")).json()
    assert case["number"] == number
    assert case["runs_anyway"] is True
    assert case["permit"] is None
    assert case["observations"][0]["excerpt"] == "!start-a-tunnel --port 22"
    assert case["decisions"][0]["machine"] is True


@pytest.mark.parametrize("path", ["me", "me/record", "cases/M-2026-000001"])
async def test_private_answers_need_a_token(house: House, path: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}api/{path}")
    assert (answer.status_code, answer.json()) == (401, {"detail": "log in, or send a token"})


@pytest.mark.parametrize("path", ["policy/9", "policy/x", "nothing", "cases/M-2026-999999"])
async def test_what_is_not_there_is_json_too(house: House, path: str) -> None:
    async with house.browser(authorization="token ana-token") as browser:
        answer = await browser.get(f"{PREFIX}api/{path}")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "not-found"}


async def test_the_description_lists_every_route_of_the_api(house: House) -> None:
    async with house.browser() as browser:
        described = (await browser.get(f"{PREFIX}api/openapi.json")).json()
    assert set(described["paths"]) == {
        f"{PREFIX}api/{path}"
        for path in (
            "policy",
            "policy/versions",
            "policy/{number}",
            "me",
            "me/record",
            "me/account",
            "me/purposes",
            "cases/{number}",
            "cases/{number}/appeal",
            "review/queue",
            "review/appeals/{id}",
            "review/cases/{number}/restrict",
            "review/cases/{number}/close",
            "review/restrictions/{id}/lift",
            "review/purposes/{id}",
            "review/reports/{id}/link",
            "review/reports/{id}/close",
            "review/incidents/{number}",
        )  # fmt: skip
    }


async def test_it_is_healthy_while_it_can_read_the_store(house: House) -> None:
    async with house.browser() as browser:
        assert (await browser.get(f"{PREFIX}healthz")).json() == {"status": "ok", "store": "ok", "hub": "ok"}
