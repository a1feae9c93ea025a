"""A member's first day, in a real browser: log in, run, plot, be refused and told why, go on, come back."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from mutirao.cases.decide import HOLDABLE
from mutirao.policy.category import Category
from tests.flows.browser import Lab, log_in, notice, outputs, person, start
from tests.flows.cells import DISALLOWED
from tests.flows.service import PASSWORD, Service

REASON = "I test the web server of my own course here, nobody else can reach it."


@pytest.fixture(scope="module")
def page(service: Service, browser: Browser) -> Page:
    """One person, logged in, with an open notebook; the tests of this module go on from one another."""
    page = person(browser).new_page()
    log_in(page, service.url, "ana", PASSWORD)
    lab = start(page, service.url)
    lab.new_notebook()
    return page


def test_a_cell_runs(page: Page) -> None:
    cell = Lab(page).run("x = 20\nx + 22")

    assert "42" in outputs(cell)


def test_a_figure_is_plotted(page: Page) -> None:
    cell = Lab(page).run("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")

    expect(cell.locator("img")).to_be_visible()


def test_a_widget_works(page: Page) -> None:
    """Comms and buffers pass the gate."""
    cell = Lab(page).run("import ipywidgets\nslider = ipywidgets.IntSlider(value=7)\nslider")
    expect(cell.locator(".widget-slider")).to_be_visible()

    assert "7" in outputs(Lab(page).run("slider.value"))


@pytest.mark.parametrize("category", Category)
def test_a_disallowed_cell_is_not_run_and_says_why(service: Service, page: Page, category: Category) -> None:
    cell = Lab(page).run(DISALLOWED[category])

    card = notice(cell)
    expect(card).to_be_visible()
    text = card.inner_text()
    assert "not run" in text
    assert "Policy 2" in text
    link = card.locator(f'a[href*="/policy#{category}"]')
    expect(link).to_have_count(1)
    case = card.locator('a[href*="/case/M-"]')
    with page.context.expect_page() as opened:
        case.click()
    shown = opened.value
    expect(shown.locator("h1")).to_be_visible()
    number = re.search(r"M-\d{4}-\d{6}", case.get_attribute("href") or "")
    assert number
    assert number[0] in shown.content()
    expect(shown.locator("form#anyway")).to_have_count(1 if category in HOLDABLE else 0)
    expect(shown.locator("form[data-appeal]")).to_have_count(1)
    shown.close()


def test_the_same_kernel_goes_on_after_all_refusals(page: Page) -> None:
    assert "20" in outputs(Lab(page).run("x"))


def test_a_held_cell_runs_once_a_reason_is_given(service: Service, page: Page) -> None:
    lab = Lab(page)
    cell = lab.run("!filebrowser -r . -p 8080 -a 0.0.0.0 --noauth & sleep 1; echo it ran")
    assert "say why" in notice(cell).inner_text()

    with page.context.expect_page() as opened:
        notice(cell).locator('a[href*="/case/M-"]').click()
    case = opened.value
    case.locator("#anyway textarea").fill(REASON)
    case.locator("#anyway button[type=submit]").click()
    expect(case.locator("body")).to_contain_text("press Run again")
    case.close()

    lab.again(cell)
    assert "it ran" in outputs(cell)
    expect(cell.locator('[role="alert"]')).to_have_count(0)


def test_my_page_tells_all(service: Service, page: Page) -> None:
    mine = page.context.new_page()
    mine.goto(f"{service.url}/services/mutirao/me")

    body = mine.locator("body").inner_text()
    assert "ana" in body
    assert len(set(re.findall(r"M-\d{4}-\d{6}", body))) >= len(DISALLOWED)
    record = mine.request.get(f"{service.url}/services/mutirao/me/record.json").json()
    assert record["member"] == "ana"
    assert any(permit["reason"] == REASON for permit in record["permits"])
    mine.close()


def test_a_case_is_nobody_elses(service: Service, page: Page, browser: Browser) -> None:
    other = person(browser).new_page()
    log_in(other, service.url, "bia", PASSWORD)

    answer = other.goto(f"{service.url}/services/mutirao/case/M-2026-000001")

    assert answer is not None
    assert answer.status == 404
    other.context.close()


def test_terminals_say_why_they_are_off(page: Page) -> None:
    page.keyboard.press("Control+Shift+L")
    expect(page.locator('.jp-LauncherCard[data-category="Other"]', has_text="Terminal")).to_have_count(1)
    page.locator('.jp-LauncherCard[title*="Terminals are off"]').click()

    expect(page.locator(".jp-Dialog")).to_contain_text("Terminals are off")
    page.locator(".jp-Dialog button.jp-mod-reject").click()


def test_a_terminal_can_not_be_opened_by_its_address(service: Service, page: Page) -> None:
    answer = page.request.get(f"{service.url}/user/ana/api/terminals")

    assert answer.status == 404


def test_the_notebook_is_there_after_logging_out_and_in(service: Service, page: Page, browser: Browser) -> None:
    page.locator(".lm-TabBar-tab", has_text="Untitled").first.click()
    Lab(page).save()
    page.goto(f"{service.url}/hub/logout")
    assert "login" in page.goto(f"{service.url}/hub/home").url  # type: ignore[union-attr]

    log_in(page, service.url, "ana", PASSWORD)
    Lab(page).open(service.url, "ana", "Untitled.ipynb")

    expect(Lab(page).panel.locator("img").first).to_be_visible()
    page.context.close()
