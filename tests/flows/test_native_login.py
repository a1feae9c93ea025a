"""Sign-up, invites and approval on a service that is no demo, in Chromium."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.flows.browser import person, start
from tests.flows.service import READY_TIMEOUT_S, STOP_TIMEOUT_S, Service, environment, running

PASSWORD = "correct horse battery"
LINK = re.compile(r"http://127\.0\.0\.1:\d+/hub/signup\?invite_key=\S+")


@pytest.fixture(scope="module")
def native() -> Iterator[Service]:
    """A fresh service with sign-up; the tests of this module go on from one another."""
    with running("10.150.0.0/16", demo=False) as service:
        yield service


@pytest.fixture(scope="module")
def operator(native: Service, browser: Browser) -> Iterator[Page]:
    """The first operator, who entered by the link that was printed."""
    page = person(browser).new_page()
    link = LINK.search(native.output.read_text())
    assert link, "the first start prints the operator's link"
    sign_up(page, link[0], "olga")
    expect(page.locator("[role=alert]")).to_contain_text("you can log in now")
    assert log_in(page, native, "olga")
    yield page
    page.context.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Page]:
    """Somebody new, with a browser of their own."""
    context = person(browser)
    yield context.new_page()
    context.close()


def sign_up(page: Page, address: str, name: str, password: str = PASSWORD, again: str | None = None) -> None:
    page.goto(address)
    page.locator("#username_input").fill(name)
    page.locator("#password_input").fill(password)
    page.locator("#password_confirmation_input").fill(password if again is None else again)
    with page.expect_navigation():
        page.locator("#signup_submit").click()


def log_in(page: Page, service: Service, name: str) -> bool:
    """Try to log in; whether it worked."""
    page.goto(f"{service.url}/hub/login")
    page.locator("#username_input").fill(name)
    page.locator("#password_input").fill(PASSWORD)
    with page.expect_navigation():
        page.locator("#login_submit").click()
    return "/hub/login" not in page.url


def test_the_first_operator_enters_at_once_and_sees_the_administration(native: Service, operator: Page) -> None:
    operator.goto(f"{native.url}/hub/home")
    operator.get_by_role("link", name="Approve sign-ups").click()
    expect(operator.locator("h1")).to_have_text("Approve sign-ups")
    expect(operator.locator("#olga")).to_contain_text("can log in")

    answer = operator.goto(f"{native.url}/hub/admin")
    assert answer is not None
    assert answer.ok
    expect(operator.locator("#react-admin-hook")).to_contain_text("olga")


def test_the_operators_link_works_once(native: Service, operator: Page, visitor: Page) -> None:
    link = LINK.search(native.output.read_text())
    assert link

    visitor.goto(link[0])
    expect(visitor.locator("[role=alert]")).to_contain_text("was used or has lapsed")
    sign_up(visitor, link[0], "mallory")

    expect(visitor.locator("[role=alert]")).to_contain_text("approval")
    assert not log_in(visitor, native, "mallory")


def test_a_sign_up_waits_until_an_operator_approves(native: Service, operator: Page, visitor: Page) -> None:
    sign_up(visitor, f"{native.url}/hub/signup", "ana")
    expect(visitor.locator("[role=alert]")).to_contain_text("waits for an operator's approval")
    assert not log_in(visitor, native, "ana")
    expect(visitor.locator("[role=alert]")).to_contain_text("still waits")

    operator.goto(f"{native.url}/hub/authorize")
    operator.locator("#ana").get_by_role("button", name="Approve").click()
    expect(operator.locator("#ana")).to_contain_text("can log in")

    assert log_in(visitor, native, "ana")
    start(visitor, native.url).new_notebook()


def test_who_was_approved_is_no_operator(native: Service, operator: Page, visitor: Page) -> None:
    """After the test before: ana is a member."""
    assert log_in(visitor, native, "ana")
    visitor.goto(f"{native.url}/hub/home")

    expect(visitor.get_by_role("link", name="Approve sign-ups")).to_have_count(0)
    for page in ("authorize", "admin", "change-password/olga"):
        answer = visitor.goto(f"{native.url}/hub/{page}")
        assert answer is not None
        assert answer.status in (403, 404), page


def test_a_link_or_picture_can_not_approve_anybody(native: Service, operator: Page, visitor: Page) -> None:
    sign_up(visitor, f"{native.url}/hub/signup", "bia")

    operator.goto(f"{native.url}/hub/authorize/bia")
    operator.goto(f"{native.url}/hub/discard/bia")
    refused = operator.request.post(f"{native.url}/hub/authorize/bia", form={"approved": "yes"})

    assert refused.status == 403
    operator.goto(f"{native.url}/hub/authorize")
    expect(operator.locator("#bia")).to_contain_text("Waits for approval")
    assert not log_in(visitor, native, "bia")


def test_a_sign_up_can_be_discarded_and_the_name_is_free_again(native: Service, operator: Page, visitor: Page) -> None:
    sign_up(visitor, f"{native.url}/hub/signup", "caio")
    sign_up(visitor, f"{native.url}/hub/signup", "caio")
    expect(visitor.locator("[role=alert]")).to_contain_text("taken")

    operator.goto(f"{native.url}/hub/authorize")
    operator.locator("#caio").get_by_role("button", name="Discard").click()
    expect(operator.locator("h1")).to_be_visible()
    expect(operator.locator("#caio")).to_have_count(0)

    sign_up(visitor, f"{native.url}/hub/signup", "caio")
    expect(visitor.locator("[role=alert]")).to_contain_text("waits")


def test_an_invite_lets_one_person_in_and_makes_no_operator(native: Service, visitor: Page, browser: Browser) -> None:
    link = native.command("invite").strip()
    assert LINK.fullmatch(link)

    # A slip of the keyboard does not cost the invite.
    sign_up(visitor, link, "dora", again="another password")
    expect(visitor.locator("[role=alert]")).to_contain_text("differ")
    sign_up(visitor, f"{native.url}/hub/signup", "dora")
    expect(visitor.locator("[role=alert]")).to_contain_text("you can log in now")
    assert log_in(visitor, native, "dora")
    answer = visitor.goto(f"{native.url}/hub/authorize")
    assert answer is not None
    assert answer.status == 403

    second = person(browser).new_page()
    sign_up(second, link, "davi")
    expect(second.locator("[role=alert]")).to_contain_text("approval")
    assert not log_in(second, native, "davi")
    # Nor does the cookie of the one who came in let in a second name.
    sign_up(visitor, f"{native.url}/hub/signup", "dora-2")
    assert not log_in(second, native, "dora-2")
    second.context.close()


@pytest.mark.parametrize("token", ["garbage", "..%2F..%2Fetc%2Fpasswd", "%00", "a" * 3000])
def test_garbage_in_place_of_an_invite_gives_nothing(native: Service, visitor: Page, token: str) -> None:
    name = f"eve-{len(token)}"
    sign_up(visitor, f"{native.url}/hub/signup?invite_key={token}", name)

    expect(visitor.locator("[role=alert]")).to_contain_text("waits")
    assert not log_in(visitor, native, name)


def test_a_lapsed_invite_gives_nothing(native: Service, visitor: Page) -> None:
    link = native.command("invite").strip()
    for file in (native.data / "hub" / "invites").glob("*.invite"):
        file.write_text(re.sub(r'"ends_at": "\d{4}', '"ends_at": "2020', file.read_text()))

    sign_up(visitor, link, "fred")

    expect(visitor.locator("[role=alert]")).to_contain_text("waits")
    assert not log_in(visitor, native, "fred")


@pytest.mark.parametrize("password", ["short", "password", "p" * 100])
def test_a_password_that_will_not_do_is_refused_with_a_reason(native: Service, visitor: Page, password: str) -> None:
    sign_up(visitor, f"{native.url}/hub/signup", "gil", password)

    expect(visitor.locator("[role=alert]")).to_contain_text("at least 8 characters")


def test_the_sign_up_page_speaks_portuguese(native: Service, browser: Browser) -> None:
    page = person(browser, "pt-BR").new_page()
    sign_up(page, f"{native.url}/hub/signup", "helena")

    expect(page.locator("[role=alert]")).to_contain_text("espera a aprovação")
    page.context.close()


def test_a_second_start_prints_no_link_and_knows_everybody(native: Service, operator: Page, visitor: Page) -> None:
    native.stop()
    with started_again(native) as said:
        assert "is ready" in said()
        assert not LINK.search(said())
        assert log_in(visitor, native, "ana")
        operator.goto(f"{native.url}/hub/authorize")
        expect(operator.locator("#ana")).to_contain_text("can log in")
        assert not log_in(person(visitor.context.browser).new_page(), native, "mallory")  # type: ignore[arg-type]


@contextlib.contextmanager
def started_again(service: Service) -> Iterator[object]:
    """The service once more with the same data; gives what it has printed so far."""
    output = service.data / "second.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mutirao", "up", "--config", str(service.data / "mutirao.toml")],
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while "is ready" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield output.read_text
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(STOP_TIMEOUT_S)
