"""Names that are no plain ASCII word, in Chromium: clients that are no browsers spell such addresses each in their own way."""

import pytest
from playwright.sync_api import Browser, expect

from tests.flows.browser import log_in, notice, outputs, person, start
from tests.flows.service import PASSWORD, Service


@pytest.mark.parametrize(
    "name", ["üser", *(pytest.param(name, marks=pytest.mark.campaign) for name in ("<b>&amp;", "o'neil", "ana maria"))]
)
def test_an_unusual_name_works_through_the_whole_stack(service: Service, browser: Browser, name: str) -> None:
    page = person(browser).new_page()
    log_in(page, service.url, name, PASSWORD)
    lab = start(page, service.url)
    lab.new_notebook()
    assert "42" in outputs(lab.run("6 * 7"))
    cell = lab.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")
    expect(notice(cell)).to_contain_text("not run")

    with page.context.expect_page() as opened:
        notice(cell).locator('a[href*="/case/M-"]').click()
    expect(opened.value.locator("h1")).to_have_text("This cell was not run")
    opened.value.goto(f"{service.url}/services/mutirao/me")
    expect(opened.value.locator(".mu-name")).to_have_text(name)
    page.goto(f"{service.url}/hub/home")
    page.locator("#stop").click()
    expect(page.locator("#start")).to_be_visible()
    page.context.close()
