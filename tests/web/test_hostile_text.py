"""Whatever people call themselves or write, a real browser shows it as text and runs none of it."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page

from mutirao.language import LANGUAGES
from mutirao.web.app import PREFIX
from mutirao.cases.role import Role
from mutirao.web.hub import Person, Runtime
from tests.flows.browser import CHROMIUM, chromium
from tests.web import twin
from tests.web.serve import serving
from tests.web.twin import finding

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"{CHROMIUM} is missing: apt-get install chromium")  # noqa: PTH110

MARK = "pwned"
PAYLOADS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"><svg/onload=window.pwned=1>",
    "'><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "</textarea><script>window.pwned=1</script>",
    "</title></style><script>window.pwned=1</script>",
    "javascript:window.pwned=1",
    "' autofocus onfocus=window.pwned=1 x='",
    "<a href=javascript:window.pwned=1>click</a>",
    "{{constructor.constructor('window.pwned=1')()}}{{7*7}}${7*7}",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--><img src=1 onerror=window.pwned=1>\">",
    "\u202e<script>window.pwned=1</script>",
    "\x1b]8;;javascript:window.pwned=1\x07click\x1b]8;;\x07",
    "&#60;script&#62;window.pwned=1&#60;/script&#62;",
    "<base href=//evil.test><link rel=stylesheet href=//evil.test/x.css><meta http-equiv=refresh content=0;url=//evil.test>",
)  # fmt: skip
ALL = " ".join(PAYLOADS)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[tuple[twin.House, str]]:
    """A service where everything that somebody can name is hostile; the number of a case."""
    with twin.house(tmp_path, contact=ALL) as house:
        seen = finding(excerpt=ALL, rule=ALL, rule_version=ALL, why=dict.fromkeys(LANGUAGES, ALL))
        # Playwright's loop runs in this thread already.
        with ThreadPoolExecutor(1) as aside:
            number = aside.submit(asyncio.run, house.case(seen, member=ALL, owner=ALL)).result()
        twin.PEOPLE["hostile-token"] = Person(ALL, frozenset(Role), admin=True)
        house.hub.servers[ALL] = (Runtime(ALL, "/user/x/", True, None, ALL, ALL),)
        try:
            yield house, number
        finally:
            del twin.PEOPLE["hostile-token"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_hostile_text_runs_on_no_page(hostile: tuple[twin.House, str], page: Page, lang: str) -> None:
    house, number = hostile
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append("a dialog") or dialog.dismiss())
    paths = ["", "policy", "me", f"case/{number}", f"case/{number}?cell=<script>window.pwned=1</script>", "nothing/<script>window.pwned=1</script>", "policy?x=<script>window.pwned=1</script>"]  # fmt: skip
    with serving(house.app) as origin:
        page.set_extra_http_headers({"authorization": "token hostile-token", "accept-language": lang})
        for path in paths:
            page.goto(f"{origin}{PREFIX}{path}")
            assert page.evaluate("window.pwned") is None, path
            assert page.url.startswith(origin), path
            dangerous = "[...document.querySelectorAll('a, form, iframe, base')].map(e => e.href || e.action || e.tagName).filter(u => /^javascript:|evil|IFRAME|BASE/i.test(u))"  # fmt: skip
            assert page.evaluate(dangerous) == [], path
        page.goto(f"{origin}{PREFIX}case/{number}")
        assert "<img src=x onerror=window.pwned=1>" in page.inner_text("main")
        page.locator("#reason").fill(ALL * 20)
        page.evaluate("document.querySelector('#reason').removeAttribute('maxlength')")
        page.locator("#anyway button").click()
        assert page.evaluate("window.pwned") is None
    assert [text for text in said if "Content Security Policy" in text] == [], "the policy had to catch something"


def test_the_browser_would_have_run_it(page: Page) -> None:
    """The control: the first payload does run where nothing keeps it from that."""
    page.goto("about:blank")
    page.set_content(PAYLOADS[1])
    page.wait_for_function("window.pwned === 1")
