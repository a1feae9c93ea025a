"""The hub's own pages render with our frame, in the visitor's language, over JupyterHub's and the native templates."""

import asyncio
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH
from jupyterhub.handlers import BaseHandler
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest, RequestStartLine
from traitlets.config import Config

from mutirao.hub.language_hook import HubLanguage, dress, language_of
from mutirao.language import LANGUAGES

STOCK = str(Path(DATA_FILES_PATH) / "templates")
OURS = Path(str(files("mutirao"))) / "hub" / "templates"
PAGES = sorted({path.name for path in [*OURS.glob("*.html"), *Path(STOCK).glob("*.html")]} - {"start_form.html"})


class Handler(BaseHandler):  # type: ignore[misc]
    """A handler with a request and nothing else."""

    def __init__(self, uri: str = "/hub/home", **headers: str) -> None:
        connection = cast(HTTPConnection, SimpleNamespace(context=None))
        line = RequestStartLine("GET", uri, "HTTP/1.1")
        self._headers = HTTPHeaders()
        self.request = HTTPServerRequest(
            headers=HTTPHeaders({"Host": "house.test", **headers}), connection=connection, start_line=line
        )

    def static_url(self, path: str, **_: Any) -> str:
        return f"/hub/static/{path}"


def environment(*, enable_async: bool) -> Environment:
    """Jinja as JupyterHub sets it up from what `dress` wrote."""
    c = Config()
    dress(c, native=True)
    loader = ChoiceLoader(
        [
            PrefixLoader({"templates": FileSystemLoader([STOCK])}, "/"),
            FileSystemLoader([*c.JupyterHub.template_paths, STOCK]),
        ]
    )
    return Environment(
        loader=loader, autoescape=True, enable_async=enable_async, **c.JupyterHub.jinja_environment_options
    )


def context(handler: Handler, **other: Any) -> dict[str, Any]:
    spawner = SimpleNamespace(active=False, ready=False, user_options={}, orm_spawner=None, options_form="")
    user = SimpleNamespace(name="<ana>", json_escaped_name="ana", spawner=spawner, all_spawners=lambda **_: ())
    return {
        "base_url": "/hub/",
        "prefix": "/",
        "user": user,
        "login_url": "/hub/login",
        "logout_url": "/hub/logout",
        "static_url": handler.static_url,
        "parsed_scopes": {},
        "xsrf": "x",
        "xsrf_token": "x",
        "url": "/hub/spawn",
        "default_server": spawner,
        "authenticator": SimpleNamespace(request_otp=False),
        "native_login": True,
        "status_code": 500,
        "owner": user,
        "spawner": spawner,
        "oauth_client": SimpleNamespace(description="", redirect_uri=""),
        **other,
    }


@pytest.mark.parametrize("enable_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_the_hub_has_our_frame_in_the_language(name: str, lang: str, enable_async: bool) -> None:
    template = environment(enable_async=enable_async).get_template(name)
    values = context(Handler(**{"Accept-Language": lang}))
    text = asyncio.run(template.render_async(values)) if enable_async else template.render(values)
    assert f'<html lang="{lang}">' in text
    assert text.count('<main id="main"') == text.count("</main>") == 1
    assert text.index("</header>") < text.index('<main id="main"')
    assert ("Pular para o conteúdo" in text) is (lang == "pt-BR")
    assert "/hub/mutirao-static/mutirao.css?v=" in text
    assert "&lt;ana&gt;" in text
    assert "<ana>" not in text


@pytest.mark.parametrize(
    "name", ["native-login.html", "signup.html", "change-password.html", "my_message.html", "authorization-area.html"]
)
def test_the_native_pages_are_ours(name: str) -> None:
    text = environment(enable_async=False).get_template(name).render(context(Handler()))
    assert "mu-main" in text
    assert "👁" not in text


def test_the_native_administration_stays_stock_inside_our_frame() -> None:
    values = context(Handler(), user_name="bia")
    text = environment(enable_async=False).get_template("change-password-admin.html").render(values)
    assert "Change password for bia" in text
    assert 'class="mu-header"' in text


def test_the_cookie_counts_before_the_browsers_language() -> None:
    handler = Handler(**{"Cookie": "mutirao-lang=pt-BR", "Accept-Language": "en"})
    assert language_of(handler) == "pt-BR"
    assert language_of(Handler(**{"Cookie": "mutirao-lang=../..", "Accept-Language": "pt"})) == "pt-BR"


def test_without_a_request_the_default_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HubLanguage, "default", "pt-BR")
    assert language_of(None) == "pt-BR"
    assert language_of(Handler()) == "pt-BR"


def test_the_switch_returns_to_the_very_page() -> None:
    uri = "/hub/login?next=%2Fhub%2Fspawn%3Fa%3D1"
    text = environment(enable_async=False).get_template("login.html").render(context(Handler(uri)))
    assert f'href="/services/mutirao/language/pt-BR?next={quote(uri, safe="")}"' in text


def test_a_running_server_can_be_opened_and_stopped() -> None:
    server = SimpleNamespace(
        active=True,
        ready=True,
        user_options={"environment": "ml", "size": "large"},
        orm_spawner=SimpleNamespace(started=None),
    )
    text = environment(enable_async=False).get_template("home.html").render(context(Handler(), default_server=server))
    assert 'id="start" href="/hub/spawn"' in text
    assert 'id="stop"' in text
    assert "large" in text


def test_messages_of_errors_are_escaped() -> None:
    values = context(Handler(), message="<script>alert(1)</script>", failed=True, failed_message="<script>")
    for name in ("error.html", "not_running.html"):
        text = environment(enable_async=False).get_template(name).render(values)
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text


def test_dress_keeps_the_handlers_that_are_there_already() -> None:
    c = Config()
    c.JupyterHub.extra_handlers = [("/x", object, {})]
    dress(c)
    assert [path for path, *_ in c.JupyterHub.extra_handlers] == ["/x", "/mutirao-static/(.*)"]
    assert Path(c.JupyterHub.logo_file).is_file()
