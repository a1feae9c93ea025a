"""Login with the hub: the way there, the way back, and nobody else's way."""

from urllib.parse import parse_qs, urlsplit

import pytest

from mutirao.web.app import PREFIX
from mutirao.web.login import SESSION_COOKIE, local_path
from tests.web.twin import House

ABROAD = (
    "https://evil.test/", "//evil.test/", "///evil.test/", "/\\evil.test/", "\\\\evil.test", "http:evil.test",
    "javascript:alert(1)", "/services/mutirao/../../evil", "/services/mutirao/..", "/hub/home", "evil", "",
    "/services/mutirao/\n", "/services/mutirao/\r\nSet-Cookie: a=b", "/\t/evil.test", "https:///services/mutirao/",
    "/services/mutirao\\@evil.test", "http://[", "/%5cevil.test",
)  # fmt: skip


@pytest.mark.parametrize("path", ABROAD)
def test_no_redirect_leaves_the_house(path: str) -> None:
    assert local_path(path, PREFIX, "/fallback") == "/fallback"


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}case/M-2026-000001?lang=en#permit", f"{PREFIX}me?a=//b"])
def test_paths_of_ours_are_kept(path: str) -> None:
    assert local_path(path, PREFIX, "/fallback") == path


async def test_a_page_that_needs_login_comes_back_to_itself(house: House) -> None:
    async with house.browser() as browser:
        away = await browser.get(f"{PREFIX}me?lang=en")
        assert away.status_code == 302
        state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
        back = await browser.get(f"{PREFIX}oauth_callback", params={"state": state, "code": "ana-code"})
        assert (back.status_code, back.headers["location"]) == (303, f"{PREFIX}me?lang=en")
        assert "Hello, ana" in (await browser.get(f"{PREFIX}me")).text


@pytest.mark.parametrize("path", ABROAD)
async def test_login_with_a_foreign_next_ends_at_the_start_page(house: House, path: str) -> None:
    async with house.browser() as browser:
        await browser.get(f"{PREFIX}login", params={"next": path})
        state = house.hub.asked[-1][0]
        back = await browser.get(f"{PREFIX}oauth_callback", params={"state": state, "code": "ana-code"})
    assert back.headers["location"] == PREFIX


@pytest.mark.parametrize("path", [each for each in ABROAD if each != "/hub/home"])
async def test_the_language_switch_stays_on_this_host(house: House, path: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}language/pt-BR", params={"next": path})
    assert answer.headers["location"] == (path if path == "/%5cevil.test" else PREFIX)


async def test_the_language_switch_returns_to_the_hubs_page(house: House) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}language/pt-BR", params={"next": "/hub/spawn?next=%2Fa"})
        assert answer.headers["location"] == "/hub/spawn?next=%2Fa"
        assert '<html lang="pt-BR">' in (await browser.get(PREFIX)).text


@pytest.mark.parametrize("state", ["", "other", "x" * 32])
async def test_a_state_that_this_browser_did_not_leave_with_is_refused(house: House, state: str) -> None:
    async with house.browser() as browser:
        await browser.get(f"{PREFIX}me")
        answer = await browser.get(f"{PREFIX}oauth_callback", params={"state": state, "code": "ana-code"})
    assert answer.status_code == 403
    assert "The login did not work" in answer.text
    assert SESSION_COOKIE not in answer.headers.get("set-cookie", "")


async def test_another_browsers_state_is_refused(house: House) -> None:
    """Else a link could log somebody in as its sender."""
    async with house.browser() as attacker:
        await attacker.get(f"{PREFIX}me")
    async with house.browser() as victim:
        params = {"state": house.hub.asked[-1][0], "code": "bia-code"}
        assert (await victim.get(f"{PREFIX}oauth_callback", params=params)).status_code == 403


async def test_a_state_serves_once(house: House) -> None:
    async with house.browser("ana") as browser:
        params = {"state": house.hub.asked[-1][0], "code": "ana-code"}
        assert (await browser.get(f"{PREFIX}oauth_callback", params=params)).status_code == 403


async def test_a_code_that_the_hub_refuses_logs_nobody_in(house: House) -> None:
    async with house.browser() as browser:
        await browser.get(f"{PREFIX}me")
        params = {"state": house.hub.asked[-1][0], "code": "stolen"}
        assert (await browser.get(f"{PREFIX}oauth_callback", params=params)).status_code == 403


async def test_two_tabs_may_log_in_at_once(house: House) -> None:
    async with house.browser() as browser:
        for _ in range(2):
            await browser.get(f"{PREFIX}me")
        for state, _ in house.hub.asked:
            params = {"state": state, "code": "ana-code"}
            assert (await browser.get(f"{PREFIX}oauth_callback", params=params)).status_code == 303


async def test_each_login_proves_possession_with_its_own_verifier(house: House) -> None:
    async with house.browser("ana"), house.browser("bia"):
        pass
    assert len({challenge for _, challenge in house.hub.asked}) == 2
    assert len(set(house.hub.verifiers)) == 2
    assert all(len(verifier) >= 43 for verifier in house.hub.verifiers)


async def test_the_session_cookie_is_signed_and_kept_from_scripts(house: House) -> None:
    async with house.browser() as browser:
        await browser.get(f"{PREFIX}me")
        params = {"state": house.hub.asked[-1][0], "code": "ana-code"}
        back = await browser.get(f"{PREFIX}oauth_callback", params=params)
        (cookie,) = [each for each in back.headers.get_list("set-cookie") if each.startswith(SESSION_COOKIE)]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert f"Path={PREFIX}" in cookie
        value = browser.cookies[SESSION_COOKIE]
        for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "ana-token", "", "é", "2|1:0|"):
            browser.cookies.clear()
            answer = await browser.get(f"{PREFIX}me", headers={b"cookie": f"{SESSION_COOKIE}={forged}".encode()})
            assert answer.status_code == 302


@pytest.mark.parametrize(
    ("origin", "forwarded", "secure"),
    [
        ("https://house.test", "", True),
        ("http://house.test", "https", True),
        ("http://house.test", "https,http", True),
        ("http://house.test", "http", False),
        ("http://house.test", "", False),
    ],
)
@pytest.mark.parametrize("path", ["me", "policy?lang=pt-BR", "language/pt-BR"])
async def test_over_tls_the_cookies_are_secure(
    house: House, path: str, origin: str, forwarded: str, secure: bool
) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{origin}{PREFIX}{path}", headers={"x-forwarded-proto": forwarded})
    assert ("Secure" in answer.headers["set-cookie"]) is secure


async def test_logging_out_forgets_the_session_and_goes_on_to_the_hub(house: House) -> None:
    async with house.browser("ana") as browser:
        answer = await browser.get(f"{PREFIX}logout")
        assert answer.headers["location"] == "/hub/logout"
        assert (await browser.get(f"{PREFIX}me")).status_code == 302


@pytest.mark.parametrize("header", ["token ana-token", "Bearer ana-token", "TOKEN  ana-token"])
async def test_a_token_in_the_header_serves_scripts(house: House, header: str) -> None:
    async with house.browser(authorization=header) as browser:
        assert (await browser.get(f"{PREFIX}api/me")).json()["name"] == "ana"


@pytest.mark.parametrize("header", ["token ", "Basic ana-token", "ana-token", "token nobody", ""])
async def test_a_wrong_token_serves_nobody(house: House, header: str) -> None:
    async with house.browser(authorization=header) as browser:
        assert (await browser.get(f"{PREFIX}api/me")).status_code == 401
