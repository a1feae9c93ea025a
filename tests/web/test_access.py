"""Who may ask what, for every route that there is: generated from the route table."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from mutirao.store.models import Base
from mutirao.web.app import PREFIX
from mutirao.web.guard import HEADERS
from mutirao.web.limit import Limits
from tests.web import twin
from tests.web.access import ROWS, Row, Who, a_restriction, filled, no_values, routes
from tests.web.twin import House

EVIDENCE = "!start-a-tunnel --port 22"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
OWNED = [key for key, row in ROWS.items() if row.who is Who.OWNER]
FORMS = [key for key, row in ROWS.items() if row.page]
READ_BY_MEMBERS = [key for key, row in ROWS.items() if row.who is Who.MEMBERS and key[0] == "GET"]
ACTS = [key for key, row in ROWS.items() if row.json is not None]
DESK = [key for key, row in ROWS.items() if row.who in (Who.READERS, Who.REVIEWERS, Who.BOTH)]
ALLOWED = {
    Who.READERS: {"rui", "rosa", "olga", "aldo"},
    Who.REVIEWERS: {"rui", "rosa"},
    Who.BOTH: {"rui", "rosa", "olga"},
}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Limits, Path, bytes]]:
    """A service and its database as it began."""
    folder = tmp_path_factory.mktemp("access")
    limits = Limits()
    with twin.house(folder, limits=limits) as built:
        built.store.engine.dispose()
        place = folder / "mutirao.sqlite"
        yield built, limits, place, place.read_bytes()


@pytest.fixture
def house(standing: tuple[House, Limits, Path, bytes]) -> House:
    """The service as if it were fresh for each test: building the pages anew takes longer than most tests here."""
    house, limits, place, began = standing
    house.store.engine.dispose()
    place.write_bytes(began)
    house.hub.__init__()  # type: ignore[misc]
    limits.__init__()  # type: ignore[misc]
    house.now = twin.START
    return house


def counts(house: House) -> dict[str, int]:
    """How much every table holds: what did nothing changed none of it."""
    with house.store.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


@dataclass
class Asked:
    """One route with a path of Ana's."""

    method: str
    path: str
    row: Row
    page: str

    async def by(
        self, browser: httpx.AsyncClient, data: Mapping[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        if self.row.json is not None:
            return await browser.request(self.method, self.path, json=self.row.json, headers=headers)
        form = None if self.method == "GET" else {**self.row.form, **(data or {})}
        return await browser.request(self.method, self.path, data=form, headers=headers)

    async def key(self, browser: httpx.AsyncClient) -> str:
        """The form's key, from the page that carries it."""
        form = rf'<form[^>]*action="{re.escape(self.path)}".*?name="form_key" value="([^"]+)"'
        found = re.search(form, (await browser.get(self.page)).text, re.DOTALL)
        assert found, self.page
        return found[1]


async def asked(house: House, key: tuple[str, str]) -> Asked:
    row = ROWS[key]
    values = await (row.mine or no_values)(house)
    return Asked(key[0], filled(key[1], values), row, filled(row.page, values))


def test_every_route_says_who_may_ask_it(house: House) -> None:
    assert set(routes(house.app)) == set(ROWS), "a new route needs a row in tests/web/access.py"


@pytest.mark.parametrize("key", ROWS, ids=" ".join)
async def test_anonymous_gets_what_is_for_all_and_nothing_else(house: House, key: tuple[str, str]) -> None:
    one = await asked(house, key)
    async with house.browser() as browser:
        answer = await one.by(browser)
    expected = {Who.ALL: {200}, Who.WAY: {302, 303, 403}, Who.HUB: {404}}
    assert answer.status_code in ({403} if one.row.page else expected.get(one.row.who, {302, 401}))
    if one.row.who is not Who.ALL:
        assert EVIDENCE not in answer.text


@pytest.mark.parametrize("key", OWNED, ids=" ".join)
@pytest.mark.parametrize("by_token", [False, True])
async def test_what_is_anas_does_not_exist_for_bia(house: House, key: tuple[str, str], by_token: bool) -> None:
    one = await asked(house, key)
    before = counts(house)
    headers = {"authorization": "token bia-token"} if by_token else {}
    async with house.browser(None if by_token else "bia", **headers) as browser:
        answer = await one.by(browser)
        nothing = await browser.request(
            one.method,
            re.sub(r"M-\d{4}-\d{6}", "M-2026-999999", one.path),
            data={"reason": "x"} if one.row.page else None,
            json=one.row.json,
        )
    assert answer.status_code == nothing.status_code == (403 if one.row.json and not by_token else 404)
    assert EVIDENCE not in answer.text
    blank = [re.sub(r"M-\d{4}-\d{6}", "", each.text) for each in (answer, nothing)]
    assert blank[0] == blank[1]
    assert counts(house) == before


@pytest.mark.parametrize("key", OWNED, ids=" ".join)
async def test_what_is_anas_is_there_for_ana(house: House, key: tuple[str, str]) -> None:
    """The control: the same requests work for whom they are for."""
    one = await asked(house, key)
    token = {"authorization": "token ana-token"} if one.row.json else {}
    async with house.browser(None if token else "ana", **token) as browser:
        data = {"form_key": await one.key(browser)} if one.row.page else None
        answer = await one.by(browser, data)
    assert answer.status_code in (200, 303)
    async with house.browser("olga") as browser:
        seen = await one.by(browser)
    assert seen.status_code == (200 if one.row.operators else 403)


@pytest.mark.parametrize("key", DESK, ids=" ".join)
async def test_the_desk_exists_for_those_alone_whose_role_allows_it(house: House, key: tuple[str, str]) -> None:
    """With a right key or token each time, so that nothing but the role decides."""
    one = await asked(house, key)
    for name in {"ana", "bia", "aldo", "olga"} - ALLOWED[one.row.who]:
        token = {"authorization": f"token {'operator' if name == 'olga' else name}-token"} if one.row.json else {}
        async with house.browser(None if token else name, **token) as browser:
            readable = one.row.page and name in ALLOWED[Who.READERS]
            shown = (await browser.get(one.page)).text if readable else ""
            assert f'action="{one.path}"' not in shown
            found = re.search(r'name="form_key" value="([^"]+)"', shown)
            before = counts(house)
            answer = await one.by(browser, {"form_key": found[1] if found else ""} if one.row.page else None)
            assert answer.status_code in ((403, 404) if readable and not found else (404,)), name
            assert counts(house) == before
            assert EVIDENCE not in answer.text
    token = {"authorization": "token rui-token"} if one.row.json else {}
    async with house.browser(None if token else "rui", **token) as browser:
        data = {"form_key": await one.key(browser)} if one.row.page else None
        assert (await one.by(browser, data)).status_code in (200, 303)


@pytest.mark.parametrize("key", ACTS, ids=" ".join)
async def test_an_act_of_the_api_needs_a_token_and_takes_no_cookie(house: House, key: tuple[str, str]) -> None:
    one = await asked(house, key)
    async with house.browser(one.row.by) as browser:
        before = counts(house)
        assert (await one.by(browser)).status_code == 403
        assert counts(house) == before
    async with house.browser(authorization=f"token {one.row.by}-token") as browser:
        assert (await one.by(browser)).status_code == 200
    assert counts(house) != before


@pytest.mark.parametrize("key", READ_BY_MEMBERS, ids=" ".join)
async def test_a_member_reads_about_themselves_alone(house: House, key: tuple[str, str]) -> None:
    number = (await a_restriction(house))["number"]
    one = await asked(house, key)
    async with house.browser("ana") as browser:
        mine = await one.by(browser)
    async with house.browser("bia") as browser:
        theirs = await one.by(browser)
    assert number in mine.text
    assert theirs.status_code == 200
    assert number not in theirs.text


@pytest.mark.parametrize("key", FORMS, ids=" ".join)
@pytest.mark.parametrize(
    ("how", "headers"),
    [
        ("no key", {}),
        ("a forged key", {}),
        ("key", {"sec-fetch-site": "cross-site"}),
        ("key", {"sec-fetch-site": "same-site"}),
        ("key", {"origin": "https://evil.test"}),
        ("key", {"origin": "null"}),
        ("key", {"origin": "http://bia.house.test"}),
    ],
)
async def test_a_change_needs_a_form_of_ours(
    house: House, key: tuple[str, str], how: str, headers: dict[str, str]
) -> None:
    one = await asked(house, key)
    async with house.browser(one.row.by or None) as browser:
        right = await one.key(browser)
        keys = {"no key": "", "a forged key": right[:-1] + ("0" if right[-1] != "0" else "1"), "key": right}
        before = counts(house)
        answer = await one.by(browser, {"form_key": keys[how]}, **headers)
        assert answer.status_code == 403
        assert counts(house) == before


@pytest.mark.parametrize("key", FORMS, ids=" ".join)
async def test_the_browsers_own_form_passes(house: House, key: tuple[str, str]) -> None:
    """The control of the test above."""
    one = await asked(house, key)
    async with house.browser(one.row.by or None) as browser:
        before = counts(house)
        headers = {"origin": "http://house.test", "sec-fetch-site": "same-origin"}
        answer = await one.by(browser, {"form_key": await one.key(browser)}, **headers)
    assert answer.status_code == 303
    assert counts(house) != before


@pytest.mark.parametrize("key", ROWS, ids=" ".join)
async def test_other_methods_do_nothing(house: House, key: tuple[str, str]) -> None:
    one = await asked(house, key)
    known = {method for method, path in ROWS if path == key[1]} | {"HEAD"}
    async with house.browser("ana") as browser:
        before = counts(house)
        for method in METHODS:
            if method not in known:
                answer = await browser.request(method, one.path, data={"reason": "x" * 40})
                assert answer.status_code in (404, 405), (method, answer.status_code)
        for header in ("x-http-method-override", "x-http-method", "x-method-override"):
            await browser.get(one.path, headers={header: "POST"}, params={"_method": "POST"})
        assert counts(house) == before


@pytest.mark.parametrize("key", ROWS, ids=" ".join)
async def test_every_answer_carries_the_headers_and_no_foreign_host(house: House, key: tuple[str, str]) -> None:
    one = await asked(house, key)
    evil = {
        "x-forwarded-host": "evil.test",
        "forwarded": "host=evil.test",
        "x-original-url": "/evil.test",
        "x-host": "evil.test",
    }
    for name in (None, "ana"):
        async with house.browser(name) as browser:
            answer = await one.by(browser, None, host="evil.test", **evil)
            plain = await one.by(browser)
        for header, value in HEADERS.items():
            assert plain.headers[header] == value, header
            assert answer.headers[header] == value, header
        assert "evil.test" not in answer.text
        assert "evil.test" not in str(answer.headers)


SPLITTING = ("%0d%0aX-Evil:%20yes", "%0aX-Evil:%20yes", "%E5%98%8A%E5%98%8DX-Evil:%20yes", "a%00b", "%c0%ae%c0%ae/")


@pytest.mark.parametrize("text", SPLITTING)
@pytest.mark.parametrize("path", ["case/{}", "language/{}", "language/en?next={}", "login?next={}", "policy?lang={}", "oauth_callback?state={}&code=x", "me/{}", "api/cases/{}", "static/{}"])  # fmt: skip
async def test_no_text_of_a_visitors_becomes_a_header(house: House, path: str, text: str) -> None:
    async with house.browser("ana") as browser:
        answer = await browser.get(PREFIX + path.format(text))
    assert answer.status_code < 500
    assert "x-evil" not in answer.headers
    assert all("\r" not in value and "\n" not in value for value in answer.headers.values())
