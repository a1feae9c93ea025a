"""A person at a real Chromium: the hub's pages, and JupyterLab."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, Locator, Page, TimeoutError, expect, sync_playwright

CHROMIUM = os.environ.get("MUTIRAO_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SLOW_MS = 90_000
"""Two shared cores: a wait that is long enough on a busy machine, and costs nothing on a quiet one."""


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Debian's Chromium, headless; with more arguments where a test needs them."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


def person(browser: Browser, locale: str = "en-US", *, dark: bool = False, phone: bool = False) -> BrowserContext:
    """A fresh browser profile of somebody who reads `locale`."""
    size = {"width": 360, "height": 740} if phone else {"width": 1280, "height": 800}
    context = browser.new_context(
        locale=locale,
        viewport=size,  # type: ignore[arg-type]  # a TypedDict by another name
        color_scheme="dark" if dark else "light",
        device_scale_factor=1,
    )
    context.set_default_timeout(SLOW_MS)
    return context


def log_in(page: Page, url: str, name: str, password: str) -> None:
    """Log in by the form."""
    page.goto(f"{url}/hub/login")
    page.locator("#username_input").fill(name)
    page.locator("#password_input").fill(password)
    page.locator("#login_submit").click()
    page.wait_for_url(lambda where: "/hub/login" not in where)


def start(page: Page, url: str) -> "Lab":
    """Start a runtime by one click on the start page, and wait for JupyterLab."""
    page.goto(f"{url}/hub/spawn")
    if "/lab" not in page.url:
        page.locator("form input[type=submit], form button[type=submit]").last.click()
    return Lab.opened(page)


@dataclass
class Lab:
    """JupyterLab in a page."""

    page: Page

    @classmethod
    def opened(cls, page: Page) -> "Lab":
        """Wait until JupyterLab shows its launcher or a notebook."""
        page.wait_for_url("**/lab**", timeout=SLOW_MS)
        page.locator("#jupyterlab-splash").wait_for(state="detached")
        page.locator(".jp-Launcher, .jp-NotebookPanel").first.wait_for()
        return cls(page)

    def new_notebook(self) -> None:
        """Open a notebook from the launcher, and wait for its kernel."""
        self.page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
        self.wait_for_kernel()

    def open(self, url: str, name: str, path: str) -> None:
        """Open a notebook by its address, and wait for its kernel."""
        self.page.goto(f"{url}/user/{name}/lab/tree/{path}")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """A cell that is sent before the kernel is connected may never run."""
        self.panel.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()

    @property
    def panel(self) -> Locator:
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def run(self, code: str) -> Locator:
        """Type code into the last cell, run it, wait for its end; the cell."""
        cells = self.panel.locator(".jp-Notebook-cell")
        number = cells.count() - 1
        cell = cells.nth(number)
        self._type(cell, code)
        return self.again(cell)

    def _type(self, cell: Locator, code: str) -> None:
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(code)

    def again(self, cell: Locator) -> Locator:
        """Run a cell that is there, and wait for its end.

        JupyterLab drops a cell that is sent before its session is connected, whatever the indicator says: a person
        would press Run once more, and so do we.
        """
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        began = re.compile(r"\[(\*|\d+)\]:")
        for _ in range(3):
            seen = cell.locator(".jp-InputPrompt", has_text=began).or_(cell.locator(".jp-OutputArea-child")).first
            try:
                seen.wait_for(timeout=SLOW_MS / 9)
                break
            except TimeoutError:
                cell.locator(".cm-content").click()
                self.page.keyboard.press("Shift+Enter")
        expect(cell.locator(".jp-InputPrompt")).not_to_have_text("[*]:", timeout=SLOW_MS)
        self.wait_for_kernel()
        return cell

    def save(self) -> None:
        """Save the notebook in front."""
        self.page.keyboard.press("Control+S")
        with contextlib.suppress(Exception):
            # A first save asks for a name.
            self.page.locator(".jp-Dialog button.jp-mod-accept").click(timeout=2000)
        expect(self.page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)


def outputs(cell: Locator) -> str:
    """What stands below a cell."""
    return cell.locator(".jp-Cell-outputArea").inner_text()


def notice(cell: Locator) -> Locator:
    """The notice below a cell."""
    return cell.locator('[role="alert"]').first
