"""Notebook 7 in Chromium: another front end, the same notices."""

import pytest
from playwright.sync_api import Browser, expect

from tests.flows.browser import Lab, log_in, notice, outputs, person, start
from tests.flows.service import PASSWORD, Service

WRITE = """async (path) => {
    const content = {
        cells: [{cell_type: "code", id: "a", source: "", metadata: {}, outputs: [], execution_count: null}],
        metadata: {kernelspec: {name: "python3", display_name: "Python 3"}}, nbformat: 4, nbformat_minor: 5,
    };
    const headers = {"Content-Type": "application/json", "X-XSRFToken": document.cookie.match(/_xsrf=([^;]*)/)[1]};
    const body = JSON.stringify({type: "notebook", format: "json", content});
    return (await fetch(path, {method: "PUT", headers, body})).status;
}"""
"""Writes an empty notebook that names its kernel, or Notebook 7 would ask for one."""


@pytest.mark.parametrize(
    ("locale", "says"), [pytest.param("en-US", "not run", marks=pytest.mark.campaign), ("pt-BR", "não foi executada")]
)
def test_notebook_7_runs_cells_and_shows_the_notice(service: Service, browser: Browser, locale: str, says: str) -> None:
    page = person(browser, locale).new_page()
    name = f"nb7-{locale.lower()}"
    log_in(page, service.url, name, PASSWORD)
    start(page, service.url)
    assert page.evaluate(WRITE, f"/user/{name}/api/contents/book.ipynb") == 201
    page.goto(f"{service.url}/user/{name}/notebooks/book.ipynb")
    page.locator(".jp-NotebookPanel").first.wait_for()
    assert "Notebook" in page.evaluate("document.querySelector('#jupyter-config-data').textContent")
    book = Lab(page)
    book.wait_for_kernel()
    assert "42" in outputs(book.run("6 * 7"))
    cell = book.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")
    expect(notice(cell)).to_contain_text(says)
    assert "1" in outputs(book.run("1"))
    page.context.close()
