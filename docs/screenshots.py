"""Remakes the pictures in docs/images from a running service: `./run docs`."""

from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page
from tests.flows.browser import chromium, log_in, notice, person, start
from tests.flows.cells import DISALLOWED
from tests.flows.service import PASSWORD, Service, running
from tests.flows.test_review import QUICK, make_reviewers, visit

from mutirao.policy.category import Category

IMAGES = Path(__file__).parent / "images"
PLOT = """import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 6, 200)
plt.figure(figsize=(6, 2.6))
plt.plot(x, np.sin(x), label="sin x")
plt.plot(x, np.cos(x), label="cos x")
plt.legend()
plt.show()"""


def take(page: Page, name: str, *, whole: bool = False) -> None:
    """One picture, once fonts and images are there."""
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / f"{name}.png", full_page=whole)
    print(f"docs/images/{name}.png")


def in_lab(service: Service, browser: Browser, locale: str, name: str, picture: str) -> tuple[BrowserContext, str]:
    """A plotted figure and a notice, in one language; the case's address."""
    context = person(browser, locale)
    page = context.new_page()
    log_in(page, service.url, name, PASSWORD)
    lab = start(page, service.url)
    lab.new_notebook()
    lab.run(PLOT)
    if picture == "notice":
        page.wait_for_timeout(1000)
        take(page, "lab")
    cell = lab.run(DISALLOWED[Category.REMOTE_ACCESS])
    notice(cell).scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    take(page, picture)
    return context, notice(cell).locator('a[href*="/case/M-"]').get_attribute("href") or ""


def pages(service: Service, context: BrowserContext, case: str, suffix: str, names: tuple[str, ...]) -> None:
    """The service's pages as one person sees them."""
    where = {
        "home": f"{service.url}/hub/home",
        "start": f"{service.url}/hub/spawn/ana",
        "policy": f"{service.url}/services/mutirao/policy",
        "policy-diff": f"{service.url}/services/mutirao/policy/1/diff/2",
        "case": case,
        "my-page": f"{service.url}/services/mutirao/me",
    }
    page = context.new_page()
    for name in names:
        page.goto(where[name])
        take(page, f"{name}{suffix}")
    page.close()


def review(service: Service, browser: Browser) -> None:
    """A restriction, its appeal, and the desk where somebody else answers it."""
    for name in ("rita", "rui"):
        visit(service, browser, name, "policy").context.close()
    make_reviewers(service, browser, "rita", "rui")
    page = person(browser).new_page()
    log_in(page, service.url, "ana", PASSWORD)
    lab = start(page, service.url)
    lab.new_notebook()
    cell = lab.run(DISALLOWED[Category.DOS])
    case = notice(cell).locator('a[href*="/case/M-"]').get_attribute("href") or ""
    page.goto(f"{service.url}/services/mutirao/me")
    take(page, "my-page-restricted")
    page.goto(case)
    page.locator("form[data-appeal] textarea").last.fill("A load test of our own server, agreed with its owner.")
    page.locator("form[data-appeal]").last.scroll_into_view_if_needed()
    take(page, "appeal")
    page.locator("form[data-appeal] button").last.click()
    stranger = person(browser).new_page()
    stranger.goto(f"{service.url}/services/mutirao/report")
    take(stranger, "report")
    desk = visit(service, browser, "rui", "review")
    take(desk, "review")
    desk.goto(f"{service.url}/services/mutirao/review/case/{case.rpartition('/')[2].partition('?')[0]}")
    take(desk, "review-case")


def main() -> None:
    """Start a service, click through it, take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with running("10.144.0.0/16", QUICK) as service, chromium() as browser:
        review(service, browser)
    with running("10.143.0.0/16") as service, chromium() as browser:
        stranger = person(browser)
        page = stranger.new_page()
        page.goto(f"{service.url}/hub/login")
        take(page, "login")
        log_in(page, service.url, "ana", PASSWORD)
        pages(service, stranger, "", "", ("start",))
        stranger.close()
        for suffix, options in (("-dark", {"dark": True}), ("-phone", {"phone": True})):
            context = person(browser, **options)
            log_in(context.new_page(), service.url, "ana", PASSWORD)
            pages(service, context, "", suffix, ("start",))
            context.close()
        context, case = in_lab(service, browser, "en-US", "ana", "notice")
        pages(service, context, case, "", ("home", "policy", "policy-diff", "case", "my-page"))
        context.close()
        in_lab(service, browser, "pt-BR", "davi", "notice-pt")[0].close()
        for suffix, options in (("-dark", {"dark": True}), ("-phone", {"phone": True})):
            context = person(browser, **options)
            log_in(context.new_page(), service.url, "ana", PASSWORD)
            pages(service, context, case, suffix, ("policy", "case"))
            context.close()


if __name__ == "__main__":
    main()
