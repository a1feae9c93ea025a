"""The service's languages: gettext catalogues read as they are, without a compile step.

Catalogues lie in `mutirao/locale/<language>/<domain>.po`; English is the source text and has none.
A message that a catalogue lacks is shown in English; `tests/test_language.py` fails on such gaps.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from babel.messages.pofile import read_po

LANGUAGE_COOKIE = "mutirao-lang"
"""Holds the language that somebody chose on a page."""

LANGUAGES = {"en": "English", "pt-BR": "Português (Brasil)"}


@cache
def catalogue(lang: str, domain: str) -> dict[str, str]:
    """Translations of one domain by English text; empty for English."""
    path = files("mutirao") / "locale" / lang / f"{domain}.po"
    if lang == "en" or not path.is_file():
        return {}
    with path.open("rb") as file:
        entries = read_po(file, locale=lang.replace("-", "_"))
    return {str(entry.id): str(entry.string) for entry in entries if entry.id and entry.string}


def translate(lang: str, domain: str, text: str, /, **values: object) -> str:
    """`text` in `lang`, with `{name}` replaced by values; values are inserted as they are, never parsed."""
    said = catalogue(lang, domain).get(text, text)
    return said.format(**values) if values else said


def choose(accept_language: str, default: str = "en") -> str:
    """The service's language that best fits an Accept-Language header (RFC 9110, section 12.5.4)."""
    wanted: list[tuple[float, str]] = []
    for part in accept_language.split(","):
        tag, _, weight = part.strip().partition(";")
        try:
            q = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        wanted.append((-q, tag.strip().lower()))
    for _, tag in sorted(wanted, key=lambda pair: pair[0]):
        for lang in LANGUAGES:
            if tag and tag.split("-")[0] == lang.lower().split("-")[0]:
                return lang
    return default


def preferred(wanted: Iterable[str], accept_language: str, default: str) -> str:
    """The first of `wanted` that the service speaks, else what fits Accept-Language, else the default."""
    return next((tag for tag in wanted if tag in LANGUAGES), None) or choose(accept_language, default)
