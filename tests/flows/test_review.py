"""An appeal goes round, in a real browser: a restriction, one click, another person, and the time given back."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from mutirao.policy.category import Category
from tests.flows.browser import Lab, log_in, notice, person, start
from tests.flows.cells import DISALLOWED
from tests.flows.reader import flaws
from tests.flows.service import PASSWORD, Service, running

QUICK = '[login]\noperators = ["olga"]\n[cases]\ngpu_strikes = 1\ncompute_strikes = 9\n'
QUICK += "incident_people = 2\nestablished_days = 0\nestablished_active_days = 1\n"
WORDS = "It was a load test of our own server, agreed with its owner."


@pytest.fixture(scope="module")
def house() -> Iterator[Service]:
    """A service whose ladder is short: one strike restricts GPUs."""
    with running("10.164.0.0/16", QUICK) as service:
        yield service


def operators_password(house: Service) -> str:
    found = re.search(r"Operators \(olga\) log in with:  (\S+)", house.output.read_text())
    assert found
    return found[1]


def make_reviewers(house: Service, browser: Browser, *names: str) -> None:
    """An operator puts people into the hub's group of reviewers, as its admin page does; each must have logged in once."""
    context = person(browser)
    page = context.new_page()
    log_in(page, house.url, "olga", operators_password(house))
    page.goto(f"{house.url}/hub/home")
    said = page.evaluate(
        """async (names) => {
            const xsrf = window.jhdata.xsrf_token;
            const send = (method, path, body) => fetch(`/hub/api/groups/${path}?_xsrf=${xsrf}`,
                {method, headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})
                .then(async (answer) => answer.ok ? answer.status : await answer.text());
            return [await send("POST", "mutirao-reviewers", {}), await send("POST", "mutirao-reviewers/users", {users: names})];
        }""",
        list(names),
    )
    assert said == [201, 200]
    context.close()


def visit(house: Service, browser: Browser, name: str, path: str) -> Page:
    """A page of the service as somebody sees it who has just logged in."""
    page = person(browser).new_page()
    log_in(page, house.url, name, PASSWORD)
    page.goto(f"{house.url}/services/mutirao/{path}")
    return page


def test_an_appeal_goes_round(house: Service, browser: Browser) -> None:
    for name in ("rita", "rui"):
        visit(house, browser, name, "policy").context.close()
    make_reviewers(house, browser, "rita", "rui")

    member = person(browser).new_page()
    log_in(member, house.url, "ana", PASSWORD)
    lab = start(member, house.url)
    lab.new_notebook()
    card = notice(Lab(member).run(DISALLOWED[Category.DOS]))
    case = card.locator('a[href*="/case/M-"]').get_attribute("href") or ""
    number = re.search(r"M-\d{4}-\d{6}", case)
    assert number

    member.goto(f"{house.url}/services/mutirao/me")
    expect(member.locator('[data-restriction="gpu"]')).to_be_visible()
    assert flaws(member, "en") == []

    # One click; words are left out.
    member.goto(case)
    assert flaws(member, "en") == []
    member.locator("form[data-appeal] button").last.click()
    expect(member.locator("#appeals")).to_be_visible()
    expect(member.locator("form[data-appeal]")).to_have_count(0)

    # The member sees no desk; a reviewer finds the appeal there.
    member.goto(f"{house.url}/services/mutirao/review")
    expect(member.locator("h1")).not_to_contain_text("What waits")
    desk = visit(house, browser, "rui", "review")
    assert flaws(desk, "en") == []
    desk.locator(f'#appeals ~ * a[href$="{number[0]}"]').first.click()
    assert flaws(desk, "en") == []
    desk.locator('input[name="outcome"][value="reversed"]').check()
    form = desk.locator('form[action*="/review/appeal/"]')
    form.locator('textarea[name="why"]').fill(WORDS)
    form.locator("button[type=submit]").click()
    expect(desk.locator('form[action*="/review/appeal/"]')).to_have_count(0)

    member.goto(f"{house.url}/services/mutirao/me")
    expect(member.locator('[data-restriction="gpu"]')).to_have_count(0)
    member.goto(case)
    expect(member.locator("main")).to_contain_text(WORDS)
    expect(member.locator("main")).to_contain_text("rui")


def test_who_restricts_does_not_answer_the_appeal(house: Service, browser: Browser) -> None:
    """A second reviewer is needed, and the page says so instead of showing a dead button."""
    desk = visit(house, browser, "rita", "review")
    desk.locator('a[href*="/review/case/M-"]').first.click()
    where = desk.url
    desk.locator("summary", has_text="Restrict").first.click()
    form = desk.locator('form[action*="/restrict"]').first
    form.locator('input[name="days"]').fill("2")
    form.locator('textarea[name="why"]').fill("The same again, after a warning in the course.")
    form.locator("button[type=submit]").first.click()
    expect(desk.locator("main")).to_contain_text("The same again")

    member = visit(house, browser, "ana", f"case/{where.rpartition('/')[2]}")
    member.locator("form[data-appeal] button").last.click()

    desk.goto(where)
    expect(desk.locator("[data-second-reviewer]")).to_be_visible()
    expect(desk.locator('form[action*="/review/appeal/"]')).to_have_count(0)
    other = visit(house, browser, "rui", where.partition("/services/mutirao/")[2])
    expect(other.locator('form[action*="/review/appeal/"]')).to_have_count(1)


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until something that fits has the focus."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never comes to {selector}")


def test_an_appeal_is_answered_without_a_mouse_and_a_refusal_is_announced(house: Service, browser: Browser) -> None:
    desk = visit(house, browser, "rui", "review")
    tab_to(desk, 'main a[href*="/review/case/"]')
    with desk.expect_navigation():
        desk.keyboard.press("Enter")
    tab_to(desk, 'input[name="outcome"]')
    desk.keyboard.press("Space")
    desk.keyboard.press("ArrowDown")
    tab_to(desk, 'form[action*="/review/appeal/"] input[name="days"]')
    desk.keyboard.type("9")
    tab_to(desk, 'textarea[name="why"]')
    desk.keyboard.type("A shorter time is enough here.")
    tab_to(desk, "button[type=submit]")
    with desk.expect_navigation():
        desk.keyboard.press("Enter")

    expect(desk.get_by_role("alert")).to_have_text("A milder end must lie before the present one.")

    tab_to(desk, 'form[action*="/review/appeal/"] input[name="days"]')
    desk.keyboard.type("1")
    tab_to(desk, 'form[action*="/review/appeal/"] button[type=submit]')
    desk.keyboard.press("Enter")
    expect(desk.locator('form[action*="/review/appeal/"]')).to_have_count(0)
    expect(desk.locator("main")).to_contain_text("made milder")


@pytest.fixture(scope="module")
def incident(house: Service, browser: Browser) -> None:
    """One cause has hit two people, whom this house takes for established."""
    for name in ("bia", "caio"):
        page = person(browser).new_page()
        log_in(page, house.url, name, PASSWORD)
        lab = start(page, house.url)
        lab.new_notebook()
        notice(lab.run(DISALLOWED[Category.MINING]))
        page.context.close()


PAGES = {
    "ana": ("", "policy", "report", "nothing", "../../hub/home", "me", "case"),
    "rui": ("../../hub/spawn", "review", "review/case", "review", "review/incident"),
}


@pytest.mark.campaign
@pytest.mark.usefixtures("incident")
@pytest.mark.parametrize("locale", ["en-US", "pt-BR"])
def test_every_page_can_be_heard_and_used_by_keyboard(house: Service, browser: Browser, locale: str) -> None:
    wrong: list[str] = []
    for name, paths in PAGES.items():
        page = person(browser, locale).new_page()
        log_in(page, house.url, name, PASSWORD)
        for path in (*paths, "../../hub/logout"):
            if path.endswith(("case", "incident")):  # the newest, which the page before this one names
                page.locator(f'main #{path.rpartition("/")[2]}s ~ * a[href*="/{path}/"]').first.click()
            else:
                page.goto(f"{house.url}/services/mutirao/{path}")
            wrong += (f"{path}: {flaw}" for flaw in flaws(page, locale.removesuffix("-US")))
        page.context.close()
    assert not wrong, "\n".join(wrong)


def test_a_page_that_nobody_can_hear_has_flaws(browser: Browser) -> None:
    page = person(browser).new_page()
    page.set_content(
        """<style>a:focus { outline: none }</style><h3>Low</h3><table><tr><td>1</table><img src="x"><input>
        <p class="mu-callout mu-bad">Wrong<p role="status"><b data-until="x">1</b></p><a href="#a" tabindex="2">last</a><a href="#b" tabindex="1">first</a>"""
    )
    found = "\n".join(flaws(page, "en"))
    for flaw in (
        "image-alt",
        "label",
        "headings begin",
        "not one main",
        "header cells",
        "eyes only",
        "every second",
        "lang is",
        "Tab ",
    ):
        assert flaw in found, (flaw, found)
    page.context.close()
