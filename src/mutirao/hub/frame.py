"""The frame around every page: header, footer and language, the same on the hub's pages and on ours."""

from collections.abc import Iterable
from dataclasses import dataclass

from mutirao.language import LANGUAGES, choose

LANGUAGE_COOKIE = "mutirao-lang"


@dataclass(frozen=True, slots=True)
class Frame:
    """What header and footer need; the markup is in `templates/frame/`.

    `switch` is (language tag, label, address) for each other language; `name` is empty for nobody.
    `toggle` is the id of the button for light and dark.
    """

    home: str
    prefix: str
    hub_url: str
    assets: str
    version: str
    log_in: str
    log_out: str
    toggle: str
    here: str = ""
    name: str = ""
    admin: bool = False
    switch: tuple[tuple[str, str, str], ...] = ()


def preferred(wanted: Iterable[str], accept_language: str, default: str) -> str:
    """The first of `wanted` that the service speaks, else what fits Accept-Language, else the default."""
    return next((tag for tag in wanted if tag in LANGUAGES), None) or choose(accept_language, default)
