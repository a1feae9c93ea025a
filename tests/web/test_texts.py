"""Every text of the pages is in the catalogue, with the values it names, and nothing there is unused."""

import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment
from jinja2.ext import extract_from_ast

from mutirao.hub.start_form import progress_steps
from mutirao.language import LANGUAGES, catalogue

SOURCE = Path(__file__).parents[2] / "src" / "mutirao"
TEMPLATES = sorted([*(SOURCE / "web" / "templates").rglob("*.html"), *(SOURCE / "hub" / "templates").rglob("*.html")])


def spoken() -> Iterator[str]:
    for path in TEMPLATES:
        for _, _, found in extract_from_ast(Environment().parse(path.read_text()), ("_",)):
            text = found[0] if isinstance(found, tuple) else found
            assert isinstance(text, str), f"{path.name}: {text}: texts are written out, so that they can be found"
            yield text
    yield from (text for _, text in progress_steps("en"))


TEXTS = sorted(set(spoken()))


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if lang != "en"])
def test_every_text_is_translated_with_its_values(lang: str) -> None:
    said = catalogue(lang, "web")
    assert [text for text in TEXTS if text not in said] == []
    assert [text for text in TEXTS if fields(said[text]) != fields(text)] == []


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if lang != "en"])
def test_no_translation_is_left_over(lang: str) -> None:
    assert sorted(set(catalogue(lang, "web")) - set(TEXTS)) == []


def test_the_texts_are_found() -> None:
    assert len(TEMPLATES) >= 20
    assert len(TEXTS) >= 150
