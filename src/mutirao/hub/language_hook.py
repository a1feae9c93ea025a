"""The hub's own pages in the visitor's language: a Jinja extension that JupyterHub loads by its settings.

JupyterHub gives `template_vars` only the user, never the request, but every page gets `static_url`, which is a method
of the handler that renders it: through it the request's cookie and Accept-Language are in reach.
"""

from typing import Any, ClassVar
from urllib.parse import quote

from jinja2 import Environment, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context
from jupyterhub.handlers import BaseHandler

from mutirao import __version__
from mutirao.hub import headers
from mutirao.hub.frame import Frame
from mutirao.language import LANGUAGE_COOKIE, LANGUAGES, preferred, translate
from mutirao.origins import Origins

ASSETS = "mutirao-static/"
"""Where style and logo are, below the hub's own prefix."""


def language_of(handler: BaseHandler | None) -> str:
    """The language of a hub page, by cookie or Accept-Language; the default where there is no request."""
    if handler is None:
        return HubLanguage.default
    wanted = (handler.get_cookie(LANGUAGE_COOKIE, ""),)
    return preferred(wanted, handler.request.headers.get("Accept-Language", ""), HubLanguage.default)


def handler_of(context: Context) -> BaseHandler | None:
    """The handler that renders this page."""
    handler = getattr(context.get("static_url"), "__self__", None)
    return handler if isinstance(handler, BaseHandler) else None


@pass_context
def say(context: Context, text: str, /, **values: object) -> str:
    """`_` in templates: the text in the page's language."""
    return translate(language_of(handler_of(context)), "web", text, **values)


@pass_context
def lang(context: Context) -> str:
    """The page's language tag."""
    return language_of(handler_of(context))


@pass_context
def hub_frame(context: Context) -> Frame:
    """The frame around a hub page."""
    handler = handler_of(context)
    hub_url, here = context["base_url"], handler.request.uri if handler else "/"
    origins = HubLanguage.origins
    service = f"{origins.to_pages}{context['prefix']}services/mutirao/"
    user = context.get("user")
    spoken = language_of(handler)
    if handler is not None and user and not handler.get_cookie(LANGUAGE_COOKIE):
        # Until the browser closes, so that notices in the notebook speak as the pages did: not every client names its
        # languages when it opens a websocket.
        handler.set_cookie(
            LANGUAGE_COOKIE,
            spoken,
            path=context["prefix"],
            domain=origins.domain or None,
            secure=origins.secure,
            samesite="Lax",
        )
    return Frame(
        home=f"{hub_url}home",
        prefix=service,
        hub_url=hub_url,
        assets=f"{hub_url}{ASSETS}",
        version=__version__,
        log_in=context["login_url"],
        log_out=context["logout_url"],
        toggle="dark-theme-toggle",
        here=here.partition("?")[0],
        name=user.name if user else "",
        admin="admin-ui" in (context.get("parsed_scopes") or ()),
        switch=tuple(
            (tag, label, f"{service}language/{tag}?next={quote(here, safe='')}")
            for tag, label in LANGUAGES.items()
            if tag != spoken
        ),
    )


@pass_context
def restriction(context: Context) -> Any:
    """The gravest restriction of whoever looks at this page, None without one; Jinja awaits it, where it can."""
    user = context.get("user")
    if HubLanguage.standings is None or not user or not context.environment.is_async:
        return None
    return _gravest(user.name)


async def _gravest(member: str) -> Any:
    return (await HubLanguage.standings.of(member)).any


@pass_context
def csp_nonce(context: Context) -> str:
    """What this page's scripts carry, so that the browser runs them and no others."""
    handler = handler_of(context)
    return headers.nonce_of(handler, HubLanguage.origins, context.name or "") if handler is not None else ""


class HubLanguage(Extension):
    """Adds `_`, `lang` and `hub_frame` to the hub's templates, the right language to `<html>`, a nonce to scripts.

    `default` is the language for visitors who name none that the service speaks; `origins` says where the pages are.
    """

    default: ClassVar[str] = "en"
    origins: ClassVar[Origins] = Origins()
    standings: ClassVar[Any] = None
    """Whom to ask who is restricted; None asks nobody."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals.update(
            {"_": say, "lang": lang, "hub_frame": hub_frame, "csp_nonce": csp_nonce, "restriction": restriction}
        )

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        """JupyterHub's page says English whatever it speaks, and no block of its template reaches that."""
        return headers.marked(source.replace('<html lang="en">', '<html lang="{{ lang() }}">', 1))


def dress(
    c: Any,
    *,
    native: bool = False,
    default_language: str = "en",
    origins: Origins = Origins(),  # noqa: B008 - frozen
    hsts_s: int = 0,
    standings: Any = None,
) -> None:
    """Give the hub our pages: templates, languages, style and logo; `native` for NativeAuthenticator's pages too."""
    from importlib.resources import files

    from tornado.web import StaticFileHandler

    package = files("mutirao")
    static = package / "web" / "static"
    HubLanguage.default = default_language
    HubLanguage.origins = origins
    HubLanguage.standings = standings
    c.JupyterHub.tornado_settings = {
        "headers": headers.headers(origins, hsts_s),
        # For the hub's cookies, the servers' and those of forms alike.
        "cookie_options": {"samesite": "Lax"} | ({"secure": True} if origins.secure else {}),
    }
    c.JupyterHub.template_paths = [str(package / "hub" / "templates")]
    if native:
        c.JupyterHub.template_paths.append(str(files("nativeauthenticator") / "templates"))
    c.JupyterHub.template_vars = {"native_login": native}
    c.JupyterHub.jinja_environment_options = {"extensions": [HubLanguage]}
    c.JupyterHub.logo_file = str(static / "logo.svg")
    c.JupyterHub.extra_handlers = [
        *c.JupyterHub.get("extra_handlers", []),
        (rf"/{ASSETS}(.*)", StaticFileHandler, {"path": str(static)}),
    ]
