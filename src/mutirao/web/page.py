"""Pages: Jinja templates with every value cleaned and escaped, in the visitor's language."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from babel.dates import format_date
from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from mutirao import __version__
from mutirao.cases.role import Act
from mutirao.hub.frame import Frame
from mutirao.language import LANGUAGE_COOKIE, LANGUAGES, preferred, translate
from mutirao.origins import Origins
from mutirao.web.hub import Person
from mutirao.web.login import came_by_tls

YEAR_S = 365 * 86_400

UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters, and those that hide or turn text around; tab and line feed are left."""


def clean(value: Any) -> Any:
    """A value fit to be shown: text without control characters, nothing for None; markup of our own as it is."""
    if value is None:
        return ""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return UNSEEN.sub("\N{REPLACEMENT CHARACTER}", value)


def language_of(request: Request, default: str) -> str:
    """The language asked for by `?lang=`, else by our cookie, else by Accept-Language."""
    wanted = (request.query_params.get("lang", ""), request.cookies.get(LANGUAGE_COOKIE, ""))
    return preferred(wanted, request.headers.get("accept-language", ""), default)


def keep_language(request: Request, response: Response, lang: str, base_url: str, origins: Origins) -> None:
    """Keep a language for a year, for the hub's pages and for notices in the notebook too."""
    response.set_cookie(
        LANGUAGE_COOKIE,
        lang,
        max_age=YEAR_S,
        path=base_url,
        domain=origins.domain or None,
        secure=came_by_tls(request, origins),
        samesite="lax",
    )


@pass_context
def say(context: Context, text: str, /, **values: object) -> str:
    """`_` in templates: the text in the page's language."""
    return translate(context["lang"], "web", text, **values)


@pass_context
def when(context: Context, at: datetime) -> Markup:
    """A moment as people write it, in UTC; the script shows it in local time."""
    at = at.astimezone(UTC)
    said = format_date(at, "medium", locale=context["lang"].replace("-", "_"))
    return Markup('<time datetime="{}" data-local>{}, {:%H:%M} UTC</time>').format(at.isoformat(), said, at)


@pass_context
def on_day(context: Context, day: date) -> Markup:
    """A day as people write it."""
    said = format_date(day, "long", locale=context["lang"].replace("-", "_"))
    return Markup('<time datetime="{}">{}</time>').format(day.isoformat()[:10], said)


def make_environment() -> Environment:
    """Jinja with autoescape, an error for every unknown name, and `clean` over every value that is shown."""
    package = files("mutirao")
    environment = Environment(
        loader=FileSystemLoader([str(package / "web" / "templates"), str(package / "hub" / "templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["_"] = say
    environment.globals["languages"] = LANGUAGES
    environment.filters["when"] = when
    environment.filters["day"] = on_day
    return environment


class Pages:
    """Renders templates; `common` are values that every page needs, such as addresses."""

    def __init__(
        self,
        prefix: str,
        base_url: str,
        default_language: str,
        contact: str,
        origins: Origins = Origins(),  # noqa: B008 - frozen
    ) -> None:
        self._origins = origins
        self._environment = make_environment()
        self._base_url = base_url
        self._default = default_language
        self._common = {"prefix": prefix, "contact": contact}
        self._frame = Frame(
            home=prefix,
            prefix=prefix,
            hub_url=f"{origins.to_hub}{base_url}hub/",
            assets=f"{prefix}static/",
            version=__version__,
            log_in=f"{prefix}login",
            log_out=f"{prefix}logout",
            toggle="mu-theme",
        )

    def language(self, request: Request) -> str:
        """The language of the page that answers this request."""
        return language_of(request, self._default)

    def render(self, request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """The page as an answer, with its language remembered where it was asked for."""
        lang = self.language(request)
        switch = tuple((tag, label, f"?{_with_lang(request, tag)}") for tag, label in LANGUAGES.items() if tag != lang)
        frame = replace(self._frame, here=request.url.path, switch=switch)
        person: Person | None = getattr(request.state, "person", None)
        if person:
            frame = replace(frame, name=person.name, admin=person.admin, review=person.may(Act.READ))
        body = self._environment.get_template(name).render(lang=lang, frame=frame, **self._common, **values)
        response = HTMLResponse(body, status_code=status, headers={"vary": "accept-language, cookie"})
        response.headers["content-language"] = lang
        wanted = request.query_params.get("lang")
        if wanted in LANGUAGES and request.cookies.get(LANGUAGE_COOKIE) != wanted:
            keep_language(request, response, wanted, self._base_url, self._origins)
        return response


def _with_lang(request: Request, tag: str) -> str:
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "lang"]
    return urlencode([*pairs, ("lang", tag)])
