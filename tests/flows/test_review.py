"""An appeal goes round, in a real browser: a restriction, one click, another person, and the time given back."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from mutirao.policy.category import Category
from tests.flows.browser import Lab, log_in, notice, person, start
from tests.flows.cells import DISALLOWED
from tests.flows.service import PASSWORD, Service, running

QUICK = '[login]\noperators = ["olga"]\n[cases]\ngpu_strikes = 1\ncompute_strikes = 9\n'
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

    # One click; words are left out.
    member.goto(case)
    member.locator("form[data-appeal] button").last.click()
    expect(member.locator("#appeals")).to_be_visible()
    expect(member.locator("form[data-appeal]")).to_have_count(0)

    # The member sees no desk; a reviewer finds the appeal there.
    member.goto(f"{house.url}/services/mutirao/review")
    expect(member.locator("h1")).not_to_contain_text("What waits")
    desk = visit(house, browser, "rui", "review")
    desk.locator(f'#appeals ~ * a[href$="{number[0]}"]').first.click()
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
