"""By https, on hosts of their own: what browsers are told, which cookies they get, and who may log in as whom."""

import base64
import hashlib
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from mutirao.accounts import Accounts
from tests.flows import certificates
from tests.flows.ask import Answer, ask
from tests.flows.browser import log_in, person, start
from tests.flows.conftest import HOST, Apart
from tests.flows.service import PASSWORD
from tests.flows.test_restart import MARKS, part_of
from tests.flows.test_rights import environment_of

HOSTILE_NAME = "<img src=x onerror=window.pwned=1>"
HUB_PAGES = (
    "/hub/login", "/hub/home", "/hub/token", "/hub/spawn", "/hub/admin", "/hub/nothing", "/hub/api/user", "/hub/api/nothing",
    "/hub/oauth_login", "/hub/user/nobody/", "/hub/logout?x=1", "/hub/error/503", "/hub/api/mutirao/actor", "/hub/accept-share?code=x",
    "/", "/nothing", "/hub/health",
)  # fmt: skip
PAGES = (
    "",
    "policy",
    "me",
    "case/M-2026-999999",
    "nothing",
    "login",
    "api/policy",
    "api/me",
    "static/mutirao.css",
    "healthz",
)


@dataclass
class Visit:
    """Rita, logged in at hub and pages."""

    hub: str
    pages: str
    context: BrowserContext
    page: Page
    secret: str

    def ask(self, url: str, **options: object) -> Answer:
        return ask(url, context=self.context, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def visit(apart: Apart, trusting: Browser) -> Iterator[Visit]:
    hub = apart.service.url
    pages = hub.replace("://", "://mutirao--service.")
    with person(trusting) as context:
        page = context.new_page()
        log_in(page, hub, "rita", PASSWORD)
        page.goto(f"{pages}/services/mutirao/me")
        page.locator("text=Hello, rita").first.wait_for()
        secret = environment_of(part_of(apart.service, MARKS["pages"]))["JUPYTERHUB_API_TOKEN"]
        yield Visit(hub, pages, context, page, secret)


def anonymous(url: str, **options: object) -> Answer:
    return ask(url, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", HUB_PAGES)
def test_no_answer_of_the_hub_can_be_framed_or_runs_inline_scripts(visit: Visit, path: str) -> None:
    for answer in (anonymous(visit.hub + path), visit.ask(visit.hub + path) if "logout" not in path else anonymous(visit.hub + path)):  # fmt: skip
        policy = answer.header("content-security-policy")
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        allowed = " 'unsafe-inline'" if path == "/hub/admin" else ""
        assert "unsafe" not in policy.replace(f"style-src 'self'{allowed};", "")
        assert answer.header("x-frame-options") == "DENY"
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("referrer-policy") == "same-origin"
        assert answer.header("cross-origin-opener-policy") == "same-origin"
        assert answer.header("strict-transport-security") == "max-age=31536000; includeSubDomains"
        for script in re.findall(r"<script\b[^>]*>", answer.text):
            nonce = re.search(r'nonce="([^"]+)"', script)
            assert nonce, script
            assert f"'nonce-{nonce[1]}'" in policy, script


def test_a_nonce_serves_once(visit: Visit) -> None:
    policies = {visit.ask(f"{visit.hub}/hub/home").header("content-security-policy") for _ in range(3)}
    assert len(policies) == 3


@pytest.mark.parametrize("path", PAGES)
def test_no_page_of_ours_can_be_framed(visit: Visit, path: str) -> None:
    for answer in (
        anonymous(f"{visit.pages}/services/mutirao/{path}"),
        visit.ask(f"{visit.pages}/services/mutirao/{path}"),
    ):
        assert "frame-ancestors 'none'" in answer.header("content-security-policy")
        assert answer.header("x-frame-options") == "DENY"
        assert answer.header("strict-transport-security") == "max-age=31536000; includeSubDomains"


def test_a_members_own_server_can_not_be_framed_either(visit: Visit) -> None:
    start(visit.page, visit.hub)
    rita = visit.hub.replace("://", "://rita.")
    for path in ("lab", "tree", "api/status"):
        assert "frame-ancestors 'none'" in visit.ask(f"{rita}/user/rita/{path}").header("content-security-policy")


def test_every_cookie_is_secure_and_kept_from_scripts_where_it_can_be(visit: Visit) -> None:
    set_cookies: list[str] = []
    with person(visit.context.browser) as context:  # type: ignore[arg-type]
        fresh = context.new_page()
        fresh.on(
            "response",
            lambda answer: set_cookies.extend(
                h["value"] for h in answer.headers_array() if h["name"].lower() == "set-cookie"
            ),
        )
        log_in(fresh, visit.hub, "rita", PASSWORD)
        fresh.goto(f"{visit.pages}/services/mutirao/me?lang=pt-BR")
        start(fresh, visit.hub)
    given = {cookie.partition("=")[0]: cookie for cookie in set_cookies if not re.match(r'[^=]+=(""|;)', cookie)}

    assert {"__Host-jupyterhub-hub-login", "__Host-mutirao-session", "__Host-jupyterhub-user-rita"} <= set(given)
    for name, cookie in given.items():
        if name == "_xsrf" and "path=/user/" in cookie.lower():
            continue  # JupyterLab's own, on the member's own host
        assert "; secure" in cookie.lower(), cookie
        assert "; samesite=lax" in cookie.lower(), cookie
        # The form's key is read by scripts on purpose; a language is no secret.
        assert "; httponly" in cookie.lower() or name in ("_xsrf", "mutirao-lang"), cookie
        # A member's page must get no more than the id of a session, which opens nothing.
        assert "domain=" not in cookie.lower() or name in ("jupyterhub-session-id", "mutirao-lang"), cookie


NEXT = (
    "https://evil.test/", "//evil.test/", "///evil.test", "////evil.test", "/\\evil.test", "\\\\evil.test", "https:evil.test",
    "javascript:alert(1)", "data:text/html,x", "https://mutirao.localhost.evil.test/", "https://evil.test#mutirao.localhost",
    "https://mutirao.localhost@evil.test/", "%2f%2fevil.test", "/%09/evil.test", "https://evil.test\\@mutirao.localhost/",
    "https://ana.mutirao.localhost/user/ana/evil/", "\thttps://evil.test", "https://evilmutirao.localhost/",
)  # fmt: skip


@pytest.mark.parametrize("where", NEXT)
def test_no_redirect_of_hub_or_pages_leaves_the_house(visit: Visit, where: str) -> None:
    hosts = {urlsplit(visit.hub).netloc, urlsplit(visit.pages).netloc}
    for url in (
        f"{visit.hub}/hub/login?{urlencode({'next': where})}",
        f"{visit.hub}/hub/spawn?{urlencode({'next': where})}",
        f"{visit.pages}/services/mutirao/login?{urlencode({'next': where})}",
        f"{visit.pages}/services/mutirao/language/en?{urlencode({'next': where})}",
    ):
        seen = 0
        while url and seen < 8:
            answer = visit.ask(url)
            place = answer.header("location")
            if not place:
                break
            url = place if "://" in place.split("?")[0] else f"{url.split('/', 3)[0]}//{urlsplit(url).netloc}{place}"
            assert not place.startswith(("//", "/\\", "\\")), place
            assert urlsplit(url).netloc in hosts | {f"rita.{urlsplit(visit.hub).netloc}"}, (where, place)
            seen += 1


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:443",
        "mutirao.localhost.evil.test",
        "x.mutirao.localhost",
        "127.0.0.1",
        "mutirao.localhost/../evil",
        "",
    ],
)
def test_a_poisoned_host_gets_no_link_and_no_login(visit: Visit, host: str) -> None:
    for path in ("/hub/login", "/hub/home", "/services/mutirao/policy", "/user/rita/lab", "/", "/nothing"):
        for base in (visit.hub, visit.pages):
            answer = anonymous(f"{base}{path}", headers={"Host": host, "X-Forwarded-Host": "evil.test"})
            assert "evil.test" not in answer.text.replace(f"Host: {host}", "")
            assert "evil.test" not in answer.header("location")
            assert "login" not in answer.header("set-cookie")


def test_http_is_sent_on_to_https_and_nothing_is_answered_there(apart: Apart) -> None:
    config = (apart.service.data / "mutirao.toml").read_text()
    port = int(re.search(r"redirect_port = (\d+)", config)[1])  # type: ignore[index]
    answer = ask(f"http://{HOST}/hub/login?x=1", port=port)
    assert answer.status in (301, 302, 307, 308)
    assert answer.header("location").startswith(f"https://{HOST}:")
    assert answer.header("location").endswith("/hub/login?x=1")


def test_a_renewed_certificate_is_taken_up_and_the_kernel_goes_on(apart: Apart, visit: Visit) -> None:
    lab = start(visit.page, visit.hub)
    lab.new_notebook()
    lab.run("kept = 20")
    # While the new proxy has no routes yet, JupyterLab may ask whether to start the server again: a person says no.
    visit.page.add_locator_handler(
        visit.page.locator(".jp-Dialog"), lambda dialog: dialog.locator("button.jp-mod-reject").first.click()
    )
    port = urlsplit(apart.service.url).port
    assert port
    before = ssl.get_server_certificate(("127.0.0.1", port))

    certificates.make(apart.cert.parent, HOST, f"*.{HOST}", reuse=True)

    deadline = time.monotonic() + 120
    while served(port) in (before, "") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert served(port) == apart.cert.read_text()
    answers = time.monotonic() + 60
    while visit.ask(f"{visit.hub}/hub/home").status != 200 and time.monotonic() < answers:
        time.sleep(0.2)
    lab.wait_for_kernel()
    assert "21" in lab.run("kept + 1").inner_text()


def served(port: int) -> str:
    try:
        return ssl.get_server_certificate(("127.0.0.1", port))
    except (OSError, ssl.SSLError):
        return ""


def test_the_proxys_key_is_its_own(apart: Apart) -> None:
    copy = apart.service.data / "tls" / "key.pem"
    assert copy.stat().st_mode & 0o777 == 0o400
    assert copy.stat().st_uid == Accounts(2_000_000).proxy.uid  # type: ignore[union-attr]
    assert copy.parent.stat().st_uid == 0


def test_after_logging_out_the_old_cookies_of_the_pages_are_dead(apart: Apart, trusting: Browser) -> None:
    hub = apart.service.url
    pages = hub.replace("://", "://mutirao--service.")
    with person(trusting) as context:
        page = context.new_page()
        log_in(page, hub, "caio", PASSWORD)
        page.goto(f"{pages}/services/mutirao/me")
        old = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies(f"{pages}/services/mutirao/me"))
        assert anonymous(f"{pages}/services/mutirao/api/me", headers={"Cookie": old}).json()["name"] == "caio"
        page.locator("#logout").click()
        page.wait_for_url("**/hub/login**")
        assert "mutirao-session" not in {c["name"].removeprefix("__Host-") for c in context.cookies()}

        assert anonymous(f"{pages}/services/mutirao/api/me", headers={"Cookie": old}).status == 401


def test_each_login_has_a_session_of_its_own(apart: Apart, trusting: Browser) -> None:
    ids = []
    with person(trusting) as context:
        page = context.new_page()
        for _ in range(2):
            log_in(page, apart.service.url, "caio", PASSWORD)
            ids += [c["value"] for c in context.cookies(apart.service.url) if c["name"] == "jupyterhub-session-id"]
            context.clear_cookies(name="__Host-jupyterhub-hub-login")
    assert len(set(ids)) == 2


def code_of(visit: Visit, **changes: str) -> tuple[Answer, dict[str, str]]:
    """What the hub answers when Rita's browser asks for a code for the pages."""
    begun = visit.ask(f"{visit.pages}/services/mutirao/login")
    way = {key: values[0] for key, values in parse_qs(urlsplit(begun.header("location")).query).items()}
    asked = {**way, **changes}
    return visit.ask(
        f"{visit.hub}/hub/api/oauth2/authorize?{urlencode(asked)}", headers={"Sec-Fetch-Mode": "navigate"}
    ), way


def test_a_code_goes_to_the_pages_alone(visit: Visit) -> None:
    given, _ = code_of(visit)
    assert given.header("location").startswith(f"{visit.pages}/services/mutirao/oauth_callback?code=")
    for wrong in (
        {"redirect_uri": "https://evil.test/"},
        {"redirect_uri": f"{visit.hub.replace('://', '://ana.')}/services/mutirao/oauth_callback"},
        {"redirect_uri": f"{visit.pages}/services/mutirao/oauth_callback/../x"},
        {"client_id": "service-nobody"},
        {"response_type": "token"},
    ):
        refused, _ = code_of(visit, **wrong)
        assert "code=" not in refused.header("location"), wrong
        assert refused.status in (302, 400, 403, 404), wrong
        assert "evil.test" not in refused.header("location")


def test_a_stolen_code_is_worth_nothing_in_another_browser(visit: Visit) -> None:
    given, _ = code_of(visit)
    callback = given.header("location")
    assert anonymous(callback).status == 403
    assert "mutirao-session" not in anonymous(callback).header("set-cookie")


VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDEEMED_WRONGLY: tuple[dict[str, str | None], ...] = (
    {"code_verifier": None}, {"code_verifier": "w" * 43}, {"code_verifier": CHALLENGE},
    {"redirect_uri": "https://evil.test/"}, {"redirect_uri": "https://ana.mutirao.localhost/"},
    {"client_secret": None}, {"client_secret": "guessed"}, {"client_id": "jupyterhub-user-ana"}, {"grant_type": "password"},
)  # fmt: skip


def redeem(visit: Visit, given: Answer, **changes: str | None) -> Answer:
    """What the hub gives for a code to whoever holds even the pages' own secret."""
    location = urlsplit(given.header("location"))
    form = {
        "client_id": "service-mutirao",
        "client_secret": visit.secret,
        "grant_type": "authorization_code",
        "code": parse_qs(location.query)["code"][0],
        "redirect_uri": location._replace(query="").geturl(),
        "code_verifier": VERIFIER,
        **changes,
    }
    sent = urlencode({key: value for key, value in form.items() if value is not None})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return anonymous(f"{visit.hub}/hub/api/oauth2/token", method="POST", headers=headers, body=sent)


def proved(visit: Visit, **changes: str) -> Answer:
    """A code that is worth something together with VERIFIER."""
    return code_of(visit, code_challenge=CHALLENGE, **changes)[0]


def test_a_code_serves_once_and_needs_its_proof_address_and_client(visit: Visit) -> None:
    for changes in REDEEMED_WRONGLY:
        refused = redeem(visit, proved(visit), **changes)
        assert refused.status in (400, 401, 403), (changes, refused.text)
        assert b"access_token" not in refused.body
    start(visit.page, visit.hub)
    callback = f"{visit.hub.replace('://', '://rita.')}/user/rita/oauth_callback"
    theirs = {"client_id": "jupyterhub-user-rita", "redirect_uri": callback}
    another = proved(visit, **theirs)
    assert "code=" in another.header("location")
    assert b"access_token" not in redeem(visit, another, redirect_uri=callback).body

    given = proved(visit)
    assert redeem(visit, given).json()["access_token"]
    assert b"access_token" not in redeem(visit, given).body


def test_the_hub_gives_no_code_without_a_challenge(visit: Visit) -> None:
    """Or whoever strips it from the way there would need no proof."""
    given, _ = code_of(visit, code_challenge="", code_challenge_method="")
    assert "code=" not in given.header("location")


def test_a_members_token_does_what_its_scopes_say_and_no_more(visit: Visit) -> None:
    page = visit.context.new_page()
    page.goto(f"{visit.hub}/hub/home")
    made = page.evaluate(
        """async () => {
        const answer = await fetch("/hub/api/users/rita/tokens", {
          method: "POST",
          headers: { "X-XSRFToken": window.jhdata.xsrf_token, "Content-Type": "application/json" },
          body: JSON.stringify({ scopes: ["read:users:name!user"], note: "narrow" }),
        });
        const made = await answer.json();
        return [answer.status, made.token || JSON.stringify(made)];
      }"""
    )
    page.close()
    assert made[0] == 201, made
    headers = {"Authorization": f"token {made[1]}"}
    assert anonymous(f"{visit.hub}/hub/api/user", headers=headers).json()["name"] == "rita"
    for method, path in (
        ("GET", "users"), ("GET", "users/ana"), ("GET", "users/rita/tokens"), ("POST", "users/rita/tokens"), ("POST", "users/rita/server"),
        ("DELETE", "users/rita/server"), ("GET", "proxy"), ("POST", "shutdown"), ("POST", "users"), ("GET", "mutirao/actor?session_key=x&owner=rita"),
        ("GET", "groups"), ("GET", "services"), ("PATCH", "users/rita"),
    ):  # fmt: skip
        answer = anonymous(
            f"{visit.hub}/hub/api/{path}", method=method, headers=headers, body="{}" if method != "GET" else None
        )
        listed_nobody = method == "GET" and answer.status == 200 and answer.json() in ([], {})
        assert answer.status in (403, 404) or listed_nobody, (method, path, answer.status, answer.text)
    assert anonymous(f"{visit.pages}/services/mutirao/api/me", headers=headers).status == 401
    rita = visit.hub.replace("://", "://rita.")
    assert anonymous(f"{rita}/user/rita/api/kernels", headers=headers).status == 403


STATE_CHANGING = (
    ("POST", "/hub/login"), ("POST", "/hub/spawn"), ("POST", "/hub/spawn/rita"), ("POST", "/hub/api/users/rita/server"),
    ("DELETE", "/hub/api/users/rita/server"), ("POST", "/hub/api/users/rita/tokens"), ("POST", "/hub/api/oauth2/authorize"),
    ("PATCH", "/hub/api/users/rita"), ("POST", "/hub/api/users/rita/activity"), ("POST", "/hub/api/proxy"), ("POST", "/hub/api/shutdown"),
    ("POST", "/hub/accept-share"), ("POST", "/hub/token"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), STATE_CHANGING)
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_the_hub_changes_nothing_without_its_forms_key(visit: Visit, method: str, path: str, site: str) -> None:
    headers = {
        "Sec-Fetch-Site": site,
        "Sec-Fetch-Mode": "cors",
        "Content-Type": "text/plain",
        "Origin": "https://evil.test",
    }
    answer = visit.ask(visit.hub + path, method=method, headers=headers, body="{}")
    assert answer.status in (403, 404, 405), answer.text[:300]


def test_a_hostile_name_is_text_on_every_page_of_the_hub(apart: Apart, trusting: Browser) -> None:
    said: list[str] = []
    paths = ("home", "spawn", "token", f"user/{'x'}/", "nothing")
    with person(trusting) as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{page.url}: {message.text} {message.location}"))
        log_in(page, apart.service.url, HOSTILE_NAME, PASSWORD)
        for path in paths:
            page.goto(f"{apart.service.url}/hub/{path}")
            assert page.evaluate("window.pwned") is None, path
        assert HOSTILE_NAME in page.inner_text("header")
    with person(trusting) as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{page.url}: {message.text} {message.location}"))
        operator = re.search(r"Operators \(olga\) log in with:\s+(\S+)", apart.service.output.read_text())
        assert operator
        log_in(page, apart.service.url, "olga", operator[1])
        page.goto(f"{apart.service.url}/hub/admin")
        page.get_by_text(HOSTILE_NAME).first.wait_for()
        assert page.evaluate("window.pwned") is None
    assert [text for text in said if "Content Security Policy" in text] == []


def test_wrong_passwords_from_one_address_are_slowed(apart: Apart, trusting: Browser) -> None:
    """Last of all here: this address waits afterwards, whoever it says it is."""
    hub = apart.service.url
    page = anonymous(f"{hub}/hub/login")
    key = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
    assert key
    cookie = "; ".join(value.partition(";")[0] for value in page.headers["set-cookie"])
    codes = []
    for number in range(64):
        headers = {
            "Cookie": cookie,
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Forwarded-For": f"198.51.100.{number}",
        }
        form = urlencode({"username": "ana", "password": "wrong", "_xsrf": key[1]})
        answer = anonymous(f"{hub}/hub/login", method="POST", headers=headers, body=form)
        codes.append(answer.status)
    assert codes[-1] == 429
    assert set(codes[:55]) == {403}
    assert int(answer.header("retry-after")) >= 1
    assert anonymous(f"{hub}/hub/login").status == 200
