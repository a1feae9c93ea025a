"""The desk: an appeal goes round, the author can't answer it, reading is recorded, the reporter stays unknown."""

import re

import httpx
import pytest
from sqlalchemy import func, select

from mutirao.cases import sanction
from mutirao.cases.ladder import Scope
from mutirao.store.models import Audit
from mutirao.web.app import PREFIX
from tests.web.access import REASON, a_report, a_restriction
from tests.web.twin import House


async def send(browser: httpx.AsyncClient, page: str, action: str, **data: str) -> httpx.Response:
    """Fill in the form of a page that goes to `action`."""
    form = rf'<form[^>]*action="{re.escape(PREFIX + action)}".*?name="form_key" value="([^"]+)"'
    found = re.search(form, (await browser.get(PREFIX + page)).text, re.DOTALL)
    assert found, action
    return await browser.post(PREFIX + action, data={**data, "form_key": found[1]})


def restricted(house: House) -> bool:
    with house.store.read() as session:
        return sanction.restrictions(session, "ana", house.now).on(Scope.GPU, house.now) is not None


async def test_another_reviewer_reverses_and_the_author_is_told_why_not(house: House) -> None:
    given = await a_restriction(house)
    page, action = f"review/case/{given['number']}", f"review/appeal/{given['id']}"
    async with house.browser("ana") as ana:
        mine = (await ana.get(f"{PREFIX}me", params={"lang": "en"})).text
        assert 'data-restriction="gpu"' in mine
        assert "You can run code on processors" in mine
    async with house.browser("rosa") as rosa:
        text = (await rosa.get(PREFIX + page, params={"lang": "en"})).text
        assert "You made this decision: another reviewer answers the appeal." in text
        assert PREFIX + action not in text
    async with house.browser("rui") as rui:
        assert "due" in (await rui.get(f"{PREFIX}review", params={"lang": "en"})).text
        short = await send(rui, page, action, outcome="reversed", why="")
        assert short.status_code == 422
        assert restricted(house)
        answer = await send(rui, page, action, outcome="reversed", why=REASON)
        assert answer.status_code == 303
    assert not restricted(house)
    async with house.browser("ana") as ana:
        assert 'data-restriction="gpu"' not in (await ana.get(f"{PREFIX}me")).text
        case = (await ana.get(f"{PREFIX}case/{given['number']}", params={"lang": "en"})).text
    assert "the decision was wrong" in case
    assert REASON in case


async def test_the_author_can_not_answer_by_the_api_either(house: House) -> None:
    given = await a_restriction(house)
    async with house.browser(authorization="token rosa-token") as rosa:
        body = {"outcome": "upheld", "why": REASON}
        answer = await rosa.post(f"{PREFIX}api/review/appeals/{given['id']}", json=body)
    assert (answer.status_code, answer.json()) == (409, {"detail": "author"})


async def test_reading_anothers_case_is_recorded_and_reading_ones_own_is_not(house: House) -> None:
    number = await house.case()

    def looks() -> int:
        with house.store.read() as session:
            wanted = select(func.count()).select_from(Audit).where(Audit.act == "case.read")
            return session.scalar(wanted) or 0

    for name, path, more in (("ana", "case", 0), ("rui", "review/case", 1), ("olga", "api/cases", 1)):
        async with house.browser(name) as browser:
            before = looks()
            assert (await browser.get(f"{PREFIX}{path}/{number}")).status_code == 200
            assert looks() == before + more, name


async def test_the_member_never_learns_who_reported(house: House) -> None:
    given = await a_report(house)
    page = f"review/case/{given['number']}"
    async with house.browser("rui") as rui:
        assert "victim@mail.test" in (await rui.get(PREFIX + page)).text
        assert (await send(rui, page, f"review/report/{given['id']}/link", member="ana", why=REASON)).status_code == 303
    async with house.browser("ana") as ana:
        pages = [(await ana.get(PREFIX + path)).text for path in (f"case/{given['number']}", "me", "me/record.json")]
        pages.append((await ana.get(f"{PREFIX}api/cases/{given['number']}")).text)
    for text in pages:
        assert given["number"] in text
        assert "victim@mail.test" not in text
        assert "film of me" not in text


@pytest.mark.parametrize("days", ["", "x", "0", "-1", "nan", "inf", "1e9", "5e-324", "0,0000000000001"])
async def test_a_time_that_no_clock_can_keep_restricts_nobody(house: House, days: str) -> None:
    """A restriction shorter than a clock's tick would end before it began."""
    number = await house.case()
    async with house.browser("rui") as rui:
        action = f"review/case/{number}/restrict"
        answer = await send(rui, f"review/case/{number}", action, scope="gpu", days=days, why=REASON)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert not restricted(house)
