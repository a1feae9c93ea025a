"""A case: who sees it, what it says, and how a held cell is permitted."""

import re
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select

from mutirao.cases.action import Action
from mutirao.detect.finding import Level
from mutirao.policy.category import Category
from mutirao.store.models import Permit
from mutirao.web.app import PREFIX
from tests.web.twin import House, finding

REASON = "I show my own students how tunnels work."
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\x07\x00\u202e\u2066\u200b{{7*7}}{% raw %}"


def form_key(page: httpx.Response) -> str:
    found = re.search(r'name="form_key" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


async def send(browser: httpx.AsyncClient, number: str, reason: str, **headers: str) -> httpx.Response:
    page = await browser.get(f"{PREFIX}case/{number}")
    data = {"reason": reason, "form_key": form_key(page)}
    return await browser.post(f"{PREFIX}case/{number}", data=data, headers=headers)


def permits(house: House) -> list[Permit]:
    with house.store.read() as session:
        return list(session.scalars(select(Permit)))


async def test_the_owner_reads_what_happened_in_both_languages(house: House) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        english = (await browser.get(f"{PREFIX}case/{number}", params={"lang": "en"})).text
        portuguese = (await browser.get(f"{PREFIX}case/{number}", params={"lang": "pt-BR"})).text
    for text in (number, "!start-a-tunnel --port 22", "remote-access/example", f"{PREFIX}policy/2#remote-access"):
        assert text in english
        assert text in portuguese
    assert "The cell opens a way in from outside." in english
    assert "A célula abre uma entrada vinda de fora." in portuguese
    assert "a machine, by the published table" in english
    assert "uma máquina, segundo a tabela publicada" in portuguese
    assert "Only this cell is held back." in english
    assert "help@house.test" in english


async def test_a_stranger_cannot_tell_a_case_from_none(house: House) -> None:
    number = await house.case()
    async with house.browser("bia") as browser:
        theirs = await browser.get(f"{PREFIX}case/{number}")
        nobodys = await browser.get(f"{PREFIX}case/M-2026-999999")
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.text.replace(number, "") == nobodys.text.replace("M-2026-999999", "")
        assert (await browser.get(f"{PREFIX}api/cases/{number}")).status_code == 404


async def test_a_stranger_cannot_get_a_permit(house: House) -> None:
    number = await house.case()
    mine = await house.case(member="bia", owner="bia")
    async with house.browser("bia") as browser:
        key = form_key(await browser.get(f"{PREFIX}case/{mine}"))
        answer = await browser.post(f"{PREFIX}case/{number}", data={"reason": REASON, "form_key": key})
    assert answer.status_code == 404
    assert permits(house) == []


async def test_nobody_is_sent_to_log_in(house: House) -> None:
    number = await house.case()
    async with house.browser() as browser:
        assert (await browser.get(f"{PREFIX}case/{number}")).status_code == 302
        assert (await browser.get(f"{PREFIX}api/cases/{number}")).status_code == 401
        assert (await browser.post(f"{PREFIX}case/{number}", data={"reason": REASON})).status_code == 403


async def test_an_operator_reads_it_but_gets_no_form(house: House) -> None:
    number = await house.case()
    async with house.browser("olga") as browser:
        answer = await browser.get(f"{PREFIX}case/{number}")
    assert answer.status_code == 200
    assert "You see this case as an operator" in answer.text
    assert "<form" not in answer.text


async def test_where_no_member_is_known_the_runtimes_owner_reads_it(house: House) -> None:
    number = await house.case(member=None, owner="ana")
    async with house.browser("ana") as browser:
        answer = await browser.get(f"{PREFIX}case/{number}")
        assert answer.status_code == 200
        assert "<form" not in answer.text
    async with house.browser("bia") as browser:
        assert (await browser.get(f"{PREFIX}case/{number}")).status_code == 404


async def test_the_owner_of_a_shared_runtime_does_not_read_a_guests_case(house: House) -> None:
    number = await house.case(member="bia", owner="ana")
    async with house.browser("ana") as browser:
        assert (await browser.get(f"{PREFIX}case/{number}")).status_code == 404
    async with house.browser("bia") as browser:
        assert (await browser.get(f"{PREFIX}case/{number}")).status_code == 200


@pytest.mark.parametrize(
    "number",
    ["M-2025-000001", "M-2026-1", "M-2026-00000١", "000001", "1", "M-2026-000001'--", "%00", "M-2026-" + "9" * 30],
)
async def test_a_number_that_is_none_is_not_found(house: House, number: str) -> None:
    await house.case()
    async with house.browser("olga") as browser:
        assert (await browser.get(f"{PREFIX}case/{number}")).status_code == 404


async def test_a_reason_brings_a_permit_for_ten_minutes(house: House) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        answer = await send(browser, number, REASON)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"{PREFIX}case/{number}?cell={permits(house)[0].digest[:12]}#permit",
        )
        page = (await browser.get(f"{PREFIX}case/{number}", params={"lang": "en"})).text
        assert "Go back to your notebook and press Run again" in page
        assert REASON in page
        assert ">10</strong>" in page
        assert "/user/ana/lab" in page
        assert 'id="anyway"' not in page
        (given,) = permits(house)
        assert (given.member, given.kernel, given.reason) == ("ana", "k1", REASON)
        assert given.expires_at - given.granted_at == timedelta(minutes=10)
        assert (await house.judge()).action is Action.ALLOW

        house.now += timedelta(minutes=10)
        assert (await house.judge()).action is Action.HOLD
        assert 'id="anyway"' in (await browser.get(f"{PREFIX}case/{number}")).text


@pytest.mark.parametrize("reason", ["", "too short", " " * 50, "x" * 2001, "\n" * 2000])
async def test_a_reason_of_wrong_length_is_kept_and_explained(house: House, reason: str) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        answer = await send(browser, number, reason)
    assert answer.status_code == 422
    assert "between 10 and 2000 characters" in answer.text
    assert "<form" in answer.text
    assert permits(house) == []


async def test_line_ends_of_browsers_count_once(house: House) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        answer = await send(browser, number, "x" + "\r\n" * 1998 + "x")
    assert answer.status_code == 303


@pytest.mark.parametrize("category", [Category.MINING, Category.DOS])
async def test_mining_and_attacks_are_never_permitted(house: House, category: Category) -> None:
    number = await house.case(finding(category))
    held = await house.case()
    async with house.browser("ana") as browser:
        assert 'id="anyway"' not in (await browser.get(f"{PREFIX}case/{number}")).text
        key = form_key(await browser.get(f"{PREFIX}case/{held}"))
        answer = await browser.post(f"{PREFIX}case/{number}", data={"reason": REASON, "form_key": key})
        assert answer.status_code == 403
    assert permits(house) == []


async def test_a_warned_or_stopped_cell_has_no_form(house: House) -> None:
    warned = await house.case(finding(Category.REMOTE_ACCESS, Level.WARN))
    stopped = await house.case(finding(Category.DEEPFAKE))
    async with house.browser("ana") as browser:
        for number in (warned, stopped):
            assert 'id="anyway"' not in (await browser.get(f"{PREFIX}case/{number}")).text


@pytest.mark.parametrize("key", [None, "", "wrong", "2|1:0|10:1|4:form|4:abcd|0", "é"])
async def test_a_form_without_our_key_is_refused(house: House, key: str | None) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        data = {"reason": REASON} if key is None else {"reason": REASON, "form_key": key}
        answer = await browser.post(f"{PREFIX}case/{number}", data=data)
    assert answer.status_code == 403
    assert "reload the page and send it again" in answer.text
    assert permits(house) == []


async def test_a_key_serves_its_own_case_and_session_only(house: House) -> None:
    first = await house.case()
    second = await house.case(finding(Category.FILE_HOSTING))
    async with house.browser("ana") as browser, house.browser("olga") as other:
        key = form_key(await browser.get(f"{PREFIX}case/{first}"))
        data = {"reason": REASON, "form_key": key}
        assert (await browser.post(f"{PREFIX}case/{second}", data=data)).status_code == 403
        assert (await other.post(f"{PREFIX}case/{first}", data=data)).status_code == 403
    assert permits(house) == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_form_sent_from_another_site_is_refused(house: House, site: str) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        answer = await send(browser, number, REASON, **{"sec-fetch-site": site})
    assert answer.status_code == 403
    assert permits(house) == []


async def test_hostile_text_is_shown_as_text(house: House) -> None:
    hostile = finding(excerpt=HOSTILE, rule=HOSTILE, why={"en": HOSTILE, "pt-BR": HOSTILE})
    number = await house.case(hostile, owner=HOSTILE)
    async with house.browser("ana") as browser:
        await send(browser, number, HOSTILE + REASON)
        for path in (f"case/{number}", "me"):
            text = (await browser.get(PREFIX + path)).text
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "{{7*7}}" in text
            for sign in "\x1b\x07\x00\u202e\u2066\u200b":
                assert sign not in text


async def test_hostile_text_in_a_refused_form_is_shown_as_text(house: House) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        answer = await send(browser, number, "</textarea><script>alert(1)</script>" + "x" * 2000)
    assert answer.status_code == 422
    assert "<script>alert" not in answer.text
    assert "&lt;/textarea&gt;" in answer.text


async def test_the_timeline_tells_decisions_and_permits_in_order(house: House) -> None:
    number = await house.case()
    async with house.browser("ana") as browser:
        house.now += timedelta(minutes=1)
        await send(browser, number, REASON)
        house.now += timedelta(minutes=20)
        await house.judge()
        text = (await browser.get(f"{PREFIX}case/{number}", params={"lang": "en"})).text
    timeline = text[text.index("mu-timeline") :]
    opened, given, again = timeline.index("the case was opened"), timeline.index("permit given until"), 0
    again = timeline.rindex("held back until there is a reason")
    assert opened < given < again
