"""Public pages, languages, errors and headers."""

from datetime import timedelta

import pytest

from mutirao.language import LANGUAGES
from mutirao.web.app import PREFIX
from mutirao.web.guard import BODY_BYTES, HEADERS
from tests.web.twin import START, House

PUBLIC = ("", "policy", "policy/1", "policy/2", "policy/1/diff/2", "policy/2/diff/1", "policy/2/diff/2")
UNKNOWN = (
    "nothing", "policy/0", "policy/3", "policy/-1", "policy/two", "policy/1/diff/9", "policy/99999999999999999999",
    "case", "me/", "static/../app.py", "static/nothing.css", "language/fr",
)  # fmt: skip


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("lang", LANGUAGES)
async def test_public_pages_speak_every_language(house: House, path: str, lang: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(PREFIX + path, params={"lang": lang})
    assert answer.status_code == 200
    assert f'<html lang="{lang}">' in answer.text
    assert answer.headers["content-language"] == lang
    assert ("O que não é permitido" in answer.text) is (lang == "pt-BR")


async def test_the_language_is_asked_for_then_remembered_then_the_browsers(house: House) -> None:
    async with house.browser(**{"accept-language": "de, pt;q=0.5"}) as browser:
        assert '<html lang="pt-BR">' in (await browser.get(PREFIX)).text
        asked = await browser.get(PREFIX, params={"lang": "en"})
        assert '<html lang="en">' in asked.text
        assert "mutirao-lang=en" in asked.headers["set-cookie"]
        assert '<html lang="en">' in (await browser.get(PREFIX)).text
        assert "set-cookie" not in (await browser.get(PREFIX, params={"lang": "xx"})).headers


async def test_the_switch_keeps_the_page_and_its_query(house: House) -> None:
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}policy", params={"lang": "en", "a": '"><b>'})
    assert 'href="?a=%22%3E%3Cb%3E&amp;lang=pt-BR" lang="pt-BR"' in answer.text


@pytest.mark.parametrize("path", [*PUBLIC, "api/policy", "me", "healthz", "static/mutirao.css", *UNKNOWN])
async def test_every_answer_carries_the_strict_headers(house: House, path: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(PREFIX + path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", PUBLIC)
async def test_pages_hold_no_inline_script_style_or_foreign_address(house: House, path: str) -> None:
    async with house.browser() as browser:
        text = (await browser.get(PREFIX + path)).text
    assert text.count("<script") == text.count('<script src="/services/mutirao/static/mutirao.js?v=') == 1
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick=" not in text
    assert "https://" not in text


async def test_policy_1_is_shown_as_past_and_policy_2_in_force(house: House) -> None:
    async with house.browser() as browser:
        current = (await browser.get(f"{PREFIX}policy")).text
        older = (await browser.get(f"{PREFIX}policy/1")).text
    assert "Creating deepfakes" in current
    assert "This is not the version in force." not in current
    assert "olga" in current
    assert "Creating deepfakes" not in older
    assert "This is not the version in force." in older
    assert "no longer in force" in older


async def test_a_coming_policy_is_announced_on_the_one_in_force(house: House) -> None:
    house.now = START - timedelta(hours=1)
    async with house.browser() as browser:
        text = (await browser.get(f"{PREFIX}policy")).text
    assert "Policy 2 is coming:" in text
    assert f"{PREFIX}policy/1/diff/2" in text
    assert "Creating deepfakes" not in text


async def test_the_diff_shows_the_line_that_was_added_and_since_when(house: House) -> None:
    async with house.browser() as browser:
        text = (await browser.get(f"{PREFIX}policy/1/diff/2", params={"lang": "pt-BR"})).text
        back = (await browser.get(f"{PREFIX}policy/2/diff/1", params={"lang": "en"})).text
        same = (await browser.get(f"{PREFIX}policy/2/diff/2")).text
    assert "<ins>Criar deepfakes: treinar ou executar troca de rosto" in text
    assert "+ incluída" in text
    assert "em vigor desde" in text
    assert "1 de nov. de 2026, 12:00 UTC" in text
    assert "<del>Creating deepfakes" in back
    assert "Every clause says the same in both." in same


@pytest.mark.parametrize("path", UNKNOWN)
async def test_unknown_addresses_get_a_friendly_404(house: House, path: str) -> None:
    async with house.browser() as browser:
        answer = await browser.get(PREFIX + path)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text or path.startswith("static")


async def test_a_wrong_method_is_told_so(house: House) -> None:
    async with house.browser() as browser:
        answer = await browser.post(f"{PREFIX}policy")
    assert answer.status_code == 405
    assert "can be read, not written to" in answer.text.replace("&#39;", "'")


async def test_a_huge_body_is_refused(house: House) -> None:
    async with house.browser("ana") as browser:
        number = await house.case()
        answer = await browser.post(f"{PREFIX}case/{number}", data={"reason": "x" * BODY_BYTES})
    assert answer.status_code == 413
    assert "too much at once" in answer.text


async def test_public_pages_stay_readable_while_the_hub_is_away(house: House) -> None:
    async with house.browser("ana") as browser:
        house.hub.away = True
        assert (await browser.get(f"{PREFIX}policy")).status_code == 200
        answer = await browser.get(f"{PREFIX}me")
        api = await browser.get(f"{PREFIX}api/me")
    assert (answer.status_code, api.status_code) == (503, 503)
    assert "The hub does not answer" in answer.text
    assert api.json() == {"detail": "hub"}


async def test_a_database_that_does_not_answer_is_said_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.store.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE adoption RENAME TO gone")
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}policy")
        health = await browser.get(f"{PREFIX}healthz")
    assert (answer.status_code, health.status_code) == (503, 503)
    assert "The records can" in answer.text


async def test_a_fault_of_ours_is_a_friendly_500_with_headers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("<secret> detail")

    monkeypatch.setattr(house, "clock", broken)
    house.now = None  # type: ignore[assignment]
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}policy")
    assert answer.status_code == 500
    assert "Something broke on our side" in answer.text
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]


async def test_without_any_adoption_the_newest_version_is_shown_as_not_in_force(house: House) -> None:
    with house.store.write() as session:
        session.connection().exec_driver_sql("DELETE FROM adoption")
    async with house.browser() as browser:
        answer = await browser.get(f"{PREFIX}policy")
    assert answer.status_code == 200
    assert "No policy is in force yet." in answer.text
    assert "not adopted here" in answer.text


async def test_style_and_script_may_be_kept_and_pages_may_not(house: House) -> None:
    async with house.browser() as browser:
        assert "max-age" in (await browser.get(f"{PREFIX}static/mutirao.css")).headers["cache-control"]
        assert (await browser.get(PREFIX)).headers["cache-control"] == "no-store"
