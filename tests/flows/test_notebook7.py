"""Notebook 7 in Chromium: another front end, the same notices."""

import pytest
from playwright.sync_api import Browser, expect

from tests.flows.browser import Lab, log_in, notice, outputs, person, start
from tests.flows.service import PASSWORD, Service


@pytest.mark.parametrize(("locale", "says"), [("en-US", "not run"), ("pt-BR", "não foi executada")])
def test_notebook_7_runs_cells_and_shows_the_notice(service: Service, browser: Browser, locale: str, says: str) -> None:
    page = person(browser, locale).new_page()
    name = f"nb7-{locale.lower()}"
    log_in(page, service.url, name, PASSWORD)
    lab = start(page, service.url)
    lab.new_notebook()
    lab.save()  # with its kernel's name in it, or Notebook 7 asks for one
    page.goto(f"{service.url}/user/{name}/notebooks/Untitled.ipynb")
    page.locator(".jp-NotebookPanel").first.wait_for()
    assert "Notebook" in page.evaluate("document.querySelector('#jupyter-config-data').textContent")
    book = Lab(page)
    book.wait_for_kernel()
    assert "42" in outputs(book.run("6 * 7"))
    cell = book.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")
    expect(notice(cell)).to_contain_text(says)
    assert "1" in outputs(book.run("1"))
    page.context.close()
