"""The pages on a host of their own: links lead to the hub's, and cookies are this host's alone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.web import create_signed_value

from mutirao.language import LANGUAGE_COOKIE
from mutirao.origins import origins
from mutirao.web.app import PREFIX
from mutirao.web.login import SESSION_COOKIE
from tests.web import twin
from tests.web.access import REASON

HUB = "https://house.test"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[twin.House]:
    with twin.house(tmp_path, origins=origins(HUB), hsts_s=60) as fresh:
        yield fresh


async def test_links_to_the_hub_name_its_host(house: twin.House) -> None:
    number = await house.case()
    async with house.browser() as browser:
        start = (await browser.get(PREFIX)).text
    assert f'href="{HUB}/hub/home"' in start
    assert 'href="/hub/' not in start
    async with house.browser(authorization="token ana-token") as ana:
        page = await ana.get(f"{PREFIX}case/{number}")
    assert f'action="{PREFIX}case/{number}"' in page.text


async def test_the_way_back_to_a_notebook_leads_by_the_hub_which_knows_every_host(house: twin.House) -> None:
    number = await house.case()
    async with house.browser(authorization="token ana-token") as ana:
        key = re.search(r'name="form_key" value="([^"]+)"', (await ana.get(f"{PREFIX}case/{number}")).text)
        assert key
        await ana.post(f"{PREFIX}case/{number}", data={"reason": REASON, "form_key": key[1]})
        page = await ana.get(f"{PREFIX}case/{number}")
    assert f'href="{HUB}/hub/user/ana/lab"' in page.text


@pytest.mark.parametrize(
    ("wanted", "back"),
    [
        (f"{PREFIX}me", f"{PREFIX}me"),
        ("/hub/home", f"{HUB}/hub/home"),
        ("/hub/spawn?next=%2Fx", f"{HUB}/hub/spawn?next=%2Fx"),
        ("//evil.test", PREFIX),
        ("https://evil.test", PREFIX),
        ("", PREFIX),
        (f"{HUB}.evil.test/", PREFIX),
    ],
)
async def test_a_switch_of_language_goes_back_where_it_came_from(house: twin.House, wanted: str, back: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}language/pt-BR", params={"next": wanted})
    assert answer.headers["location"] == back
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith(f"{LANGUAGE_COOKIE}=pt-BR; Domain=house.test;")
    assert "Secure" in cookie


async def test_logins_are_cookies_that_no_other_host_can_plant(house: twin.House) -> None:
    async with house.browser() as browser:
        away = await browser.get(f"{PREFIX}me")
        state = house.hub.asked[-1][0]
        held = away.headers["set-cookie"].partition(";")[0]
        back = await browser.get(
            f"{PREFIX}oauth_callback", params={"state": state, "code": "ana-code"}, headers={"cookie": held}
        )
        assert back.status_code == 303
        out = await browser.get(f"{PREFIX}logout")
    for answer in (away, back, out):
        for cookie in answer.headers.get_list("set-cookie"):
            assert cookie.startswith("__Host-mutirao-"), cookie
            assert "; Path=/;" in cookie, cookie
            assert "Secure" in cookie, cookie
            assert "Domain" not in cookie, cookie
    assert any(cookie.startswith(f"__Host-{SESSION_COOKIE}=") for cookie in back.headers.get_list("set-cookie"))
    assert out.headers["location"] == f"{HUB}/hub/logout"


async def test_a_plain_cookie_of_that_name_is_nobodys(house: twin.House, tmp_path: Path) -> None:
    """What a member's page could plant for all hosts."""
    (tmp_path / "shared").mkdir()
    sealed = create_signed_value(twin.SECRET, SESSION_COOKIE, "ana-token").decode()
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}me", headers={"cookie": f"{SESSION_COOKIE}={sealed}"})
    with twin.house(tmp_path / "shared") as shared:
        async with shared.browser() as browser:
            control = await browser.get(f"{PREFIX}me", headers={"cookie": f"{SESSION_COOKIE}={sealed}"})
    assert control.status_code == 200
    assert answer.status_code == 302


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_another_hosts_page_logs_nobody_out(house: twin.House, site: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}logout", headers={"sec-fetch-site": site})
    assert answer.headers["location"] == PREFIX
    assert "set-cookie" not in answer.headers


async def test_https_is_promised(house: twin.House) -> None:
    async with house.browser() as browser:
        answer = await browser.get(PREFIX)
    assert answer.headers["strict-transport-security"] == "max-age=60; includeSubDomains"
