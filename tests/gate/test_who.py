"""Who sits before a kernel, and in which language they are told."""

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.gate.actor import NoActors
from mutirao.gate.app import Gate
from mutirao.gate.seat import ActorOnce


class Lenient:
    """A judge who lets everything run."""

    async def judge(self, cell: Cell) -> Verdict:
        return Verdict(Action.ALLOW)


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ({}, "pt-BR"),
        ({"Accept-Language": "en-GB,en;q=0.8"}, "en"),
        ({"Accept-Language": "de"}, "pt-BR"),
        ({"Accept-Language": "pt", "Cookie": "mutirao-lang=en"}, "en"),
        ({"Accept-Language": "en", "Cookie": "x=1; mutirao-lang=xx"}, "en"),
    ],
)
async def test_the_language_is_the_pages_then_the_browsers_then_the_services(
    headers: dict[str, str], language: str
) -> None:
    gate = Gate("secret", Lenient(), NoActors(), language="pt-BR")

    assert gate._language(make_mocked_request("GET", "/", headers=headers)) == language


async def test_a_known_actor_is_asked_for_once() -> None:
    asked = []

    async def ask() -> str | None:
        asked.append(1)
        return "ana"

    actor = ActorOnce(ask)

    assert await asyncio.gather(actor.name(), actor.name()) == ["ana", "ana"]
    assert await actor.name() == "ana"
    assert len(asked) == 1


async def test_an_unknown_actor_is_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that was away at the handshake must not make somebody nobody for days."""
    answers = [None, "ana"]

    async def ask() -> str | None:
        return answers.pop(0)

    actor = ActorOnce(ask)
    assert await actor.name() is None
    assert await actor.name() is None

    monkeypatch.setattr("mutirao.gate.seat._ASK_AGAIN_S", -1.0)

    assert await actor.name() == "ana"
    assert await actor.name() == "ana"


async def test_a_hub_that_fails_makes_the_actor_unknown() -> None:
    async def ask() -> str | None:
        raise OSError("away")

    assert await ActorOnce(ask).name() is None
