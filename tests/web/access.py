"""Every route of the pages, and who may ask it: a route without a row here fails the tests.

Whoever adds a route adds a row. `mine` fills the path with something of Ana's; a form's fields come from `form`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from mutirao.web.app import PREFIX
from tests.web.twin import House

Fill = Callable[[House], Awaitable[dict[str, str]]]
REASON = "I show my own students how tunnels work."


class Who(Enum):
    """Who gets something from a route."""

    ALL = auto()
    """Anybody, logged in or not."""
    MEMBERS = auto()
    """Whoever is logged in, about themselves alone."""
    OWNER = auto()
    """The member whose it is; for others it does not exist."""
    HUB = auto()
    """The hub alone, by the service's own token; for everybody else it does not exist."""
    WAY = auto()
    """A step of logging in or out: redirects or a refusal, never content."""


@dataclass(frozen=True)
class Row:
    """What a route is for; `operators` says that they see it too."""

    who: Who
    mine: Fill | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    operators: bool = True


async def no_values(house: House) -> dict[str, str]:
    return {}


async def a_case(house: House) -> dict[str, str]:
    return {"number": await house.case()}


def fixed(**values: str) -> Fill:
    async def fill(house: House) -> dict[str, str]:
        return values

    return fill


ROWS: dict[tuple[str, str], Row] = {
    ("GET", ""): Row(Who.ALL),
    ("GET", "policy"): Row(Who.ALL),
    ("GET", "policy/{number:int}"): Row(Who.ALL, fixed(number="2")),
    ("GET", "policy/{older:int}/diff/{newer:int}"): Row(Who.ALL, fixed(older="1", newer="2")),
    ("GET", "me"): Row(Who.MEMBERS),
    ("GET", "me/record.json"): Row(Who.MEMBERS),
    ("GET", "case/{number}"): Row(Who.OWNER, a_case),
    ("POST", "case/{number}"): Row(Who.OWNER, a_case, form={"reason": REASON}, page="case/{number}", operators=False),
    ("GET", "language/{lang}"): Row(Who.WAY, fixed(lang="pt-BR")),
    ("GET", "login"): Row(Who.WAY),
    ("GET", "oauth_callback"): Row(Who.WAY),
    ("GET", "logout"): Row(Who.WAY),
    ("GET", "healthz"): Row(Who.ALL),
    ("GET", "internal/standing"): Row(Who.HUB),
    ("GET", "api/openapi.json"): Row(Who.ALL),
    ("GET", "api/policy"): Row(Who.ALL),
    ("GET", "api/policy/versions"): Row(Who.ALL),
    ("GET", "api/policy/{number}"): Row(Who.ALL, fixed(number="2")),
    ("GET", "api/me"): Row(Who.MEMBERS),
    ("GET", "api/me/record"): Row(Who.MEMBERS),
    ("GET", "api/cases/{number}"): Row(Who.OWNER, a_case),
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path below the prefix) of everything that the app answers; HEAD goes with GET."""
    for found in iter_route_contexts(app.routes):
        path = getattr(found, "path", "")
        for method in sorted(getattr(found, "methods", None) or ()):
            if method != "HEAD":
                yield method, path.removeprefix(PREFIX)


def filled(path: str, values: Mapping[str, str]) -> str:
    """The path with its parameters."""
    for name, value in values.items():
        path = path.replace(f"{{{name}:int}}", value).replace(f"{{{name}}}", value)
    assert "{" not in path, path
    return PREFIX + path
