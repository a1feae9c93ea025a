"""Every route of the pages, and who may ask it: a route without a row here fails the tests.

Whoever adds a route adds a row. `mine` fills the path with something of Ana's; a form's fields come from `form`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from mutirao.cases import appeal, exemption, report, review
from mutirao.cases.ladder import Scope
from mutirao.cases.record import find_case
from mutirao.policy.category import Category
from mutirao.store.consequence import Appeal, Incident, Sanction
from mutirao.store.models import Case, Decision, Exemption
from mutirao.web.app import PREFIX
from tests.web.twin import OFFICE, House

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
    READERS = auto()
    """Reviewers, operators and auditors; for everybody else it does not exist."""
    REVIEWERS = auto()
    """Reviewers; for everybody else it does not exist."""
    BOTH = auto()
    """Reviewers and operators."""
    WAY = auto()
    """A step of logging in or out: redirects or a refusal, never content."""


@dataclass(frozen=True)
class Row:
    """What a route is for; `operators` says that they see it too, `json` is the body of an act by token.

    `by` sends the form or the act, "" for somebody who is not logged in.
    """

    who: Who
    mine: Fill | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    operators: bool = True
    json: Mapping[str, Any] | None = None
    by: str = "ana"


async def no_values(house: House) -> dict[str, str]:
    return {}


async def a_case(house: House) -> dict[str, str]:
    return {"number": await house.case()}


async def a_restriction(house: House) -> dict[str, str]:
    """A case of Ana's with a restriction by Rosa, and an appeal against it."""
    number = await house.case()
    with house.store.write() as session:
        case = find_case(session, number)
        assert case is not None
        made = review.restrict(session, OFFICE, case, Scope.GPU, 7, "rosa", "It ran all night long.", house.now)
        assert isinstance(made, Sanction)
        decided = session.get_one(Decision, made.decision_id)
        opened = appeal.open_appeal(session, OFFICE, decided, "ana", "It was my course.", house.now)
        assert isinstance(opened, Appeal)
        return {"number": number, "restriction": str(made.id), "id": str(opened.id)}


async def the_restriction(house: House) -> dict[str, str]:
    given = await a_restriction(house)
    return {"number": given["number"], "id": given["restriction"]}


async def a_purpose(house: House) -> dict[str, str]:
    with house.store.write() as session:
        made = exemption.request(session, OFFICE, "ana", Category.DEEPFAKE, "I study how to detect them.", house.now)
        assert isinstance(made, Exemption)
        return {"number": session.get_one(Case, made.case_id).number, "id": str(made.id)}


async def a_report(house: House) -> dict[str, str]:
    text = "Somebody here makes a film of me that I never made."
    source, contact, category = "192.0.2.1", "victim@mail.test", Category.DEEPFAKE
    with house.store.write() as session:
        taken = report.take(
            session, OFFICE, source=source, contact=contact, category=category, text=text, now=house.now
        )
        assert isinstance(taken, report.Taken)
        return {"number": taken.number, "id": str(taken.report.id), "token": taken.token}


async def an_incident(house: House) -> dict[str, str]:
    with house.store.write() as session:
        made = Incident(cause=f"c {house.now}", category="mining", opened_at=house.now, people=5)
        session.add(made)
        session.flush()
        return {"number": made.number}


PURPOSE = {"category": "deepfake", "kind": "may-i", "purpose": "I study how to detect them."}
REPORT = {"category": "deepfake", "contact": "victim@mail.test", "text": "Somebody makes a film of me here."}


def desk(who: Who, mine: Fill, page: str = "review/case/{number}", **form: str) -> Row:
    """A form of the desk, with a reason."""
    return Row(who, mine, {"why": REASON, **form}, page, by="rui")


def act(who: Who, mine: Fill, **body: Any) -> Row:
    """An act of a reviewer by the API, with a reason."""
    return Row(who, mine, json={"why": REASON, **body}, by="rui")


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
    ("POST", "case/{number}/appeal"): Row(
        Who.OWNER, a_case, {"decision": "1", "text": ""}, page="case/{number}", operators=False
    ),
    ("POST", "me/purpose"): Row(Who.MEMBERS, form=PURPOSE, page="me"),
    ("POST", "me/reach"): Row(Who.MEMBERS, form={"mail": "ana@mail.test", "lang": "pt-BR"}, page="me"),
    ("GET", "review"): Row(Who.READERS),
    ("GET", "review/case/{number}"): Row(Who.READERS, a_case),
    ("GET", "review/incident/{number}"): Row(Who.READERS, an_incident),
    ("POST", "review/appeal/{id}"): desk(Who.REVIEWERS, a_restriction, outcome="reversed"),
    ("POST", "review/case/{number}/restrict"): desk(Who.REVIEWERS, a_case, scope="gpu", days="3"),
    ("POST", "review/case/{number}/close"): desk(Who.REVIEWERS, a_case),
    ("POST", "review/restriction/{id}/lift"): desk(Who.REVIEWERS, the_restriction, give_back="yes"),
    ("POST", "review/purpose/{id}"): desk(Who.REVIEWERS, a_purpose, answer="grant"),
    ("POST", "review/report/{id}/link"): desk(Who.REVIEWERS, a_report, member="ana"),
    ("POST", "review/report/{id}/close"): desk(Who.REVIEWERS, a_report),
    ("POST", "review/incident/{number}"): desk(Who.BOTH, an_incident, "review/incident/{number}", outcome="reverse"),
    ("GET", "report"): Row(Who.ALL),
    ("POST", "report"): Row(Who.ALL, form=REPORT, page="report", by=""),
    ("GET", "report/{token}"): Row(Who.ALL, a_report),
    ("GET", "language/{lang}"): Row(Who.WAY, fixed(lang="pt-BR")),
    ("GET", "login"): Row(Who.WAY),
    ("GET", "oauth_callback"): Row(Who.WAY),
    ("GET", "logout"): Row(Who.WAY),
    ("GET", "healthz"): Row(Who.ALL),
    # For whoever asks on this machine, as these tests do; who asks through the proxy is test_metrics.py's.
    ("GET", "metrics"): Row(Who.ALL),
    ("GET", "internal/standing"): Row(Who.HUB),
    ("GET", "api/openapi.json"): Row(Who.ALL),
    ("GET", "api/policy"): Row(Who.ALL),
    ("GET", "api/policy/versions"): Row(Who.ALL),
    ("GET", "api/policy/{number}"): Row(Who.ALL, fixed(number="2")),
    ("GET", "api/me"): Row(Who.MEMBERS),
    ("GET", "api/me/record"): Row(Who.MEMBERS),
    ("GET", "api/cases/{number}"): Row(Who.OWNER, a_case),
    ("GET", "api/me/account"): Row(Who.MEMBERS),
    ("POST", "api/me/purposes"): Row(Who.MEMBERS, json=PURPOSE),
    ("POST", "api/cases/{number}/appeal"): Row(Who.OWNER, a_case, json={"decision": 1}, operators=False),
    ("GET", "api/review/queue"): Row(Who.READERS),
    ("POST", "api/review/appeals/{id}"): act(Who.REVIEWERS, a_restriction, outcome="upheld"),
    ("POST", "api/review/cases/{number}/restrict"): act(Who.REVIEWERS, a_case, scope="account", days=3),
    ("POST", "api/review/cases/{number}/close"): act(Who.REVIEWERS, a_case),
    ("POST", "api/review/restrictions/{id}/lift"): act(Who.REVIEWERS, the_restriction, give_back=True),
    ("POST", "api/review/purposes/{id}"): act(Who.REVIEWERS, a_purpose, grant=False),
    ("POST", "api/review/reports/{id}/link"): act(Who.REVIEWERS, a_report, member="ana"),
    ("POST", "api/review/reports/{id}/close"): act(Who.REVIEWERS, a_report),
    ("POST", "api/review/incidents/{number}"): act(Who.BOTH, an_incident, outcome="confirm"),
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
