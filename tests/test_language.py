"""Texts are there in every language of the service."""

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutirao.cases import letter, wording
from mutirao.gate import announcement
from mutirao.language import LANGUAGES, catalogue, choose, translate

SOURCE = Path(__file__).parents[1] / "src" / "mutirao"


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def spoken() -> Iterator[str]:
    """Every text of the notices' module that a member may read."""
    for halted in letter.Halted:
        yield from halted.value
    for name, value in (*vars(wording).items(), *vars(letter).items(), *vars(announcement).items()):
        if name == "LANGUAGES":
            continue
        if (
            isinstance(value, str)
            and " " in value
            and value not in (wording.__doc__, letter.__doc__, announcement.__doc__)
        ):
            yield value
        elif isinstance(value, dict) and value and all(isinstance(text, str) for text in value.values()):
            yield from value.values()


@pytest.mark.parametrize("text", sorted(set(spoken())))
def test_every_text_of_a_notice_is_translated_with_its_values(text: str) -> None:
    for lang in LANGUAGES:
        if lang == "en":
            continue

        said = catalogue(lang, "notices").get(text)

        assert said is not None
        assert fields(said) == fields(text)


def test_the_texts_are_found() -> None:
    assert len(set(spoken())) >= 50
    assert ast.parse((SOURCE / "cases" / "wording.py").read_text())


@pytest.mark.parametrize(
    ("header", "lang"),
    [
        ("", "en"),
        ("pt", "pt-BR"),
        ("pt-PT,pt;q=0.9", "pt-BR"),
        ("de-DE,de;q=0.9,pt;q=0.8,en;q=0.7", "pt-BR"),
        ("en;q=0.1,pt-BR;q=0.9", "pt-BR"),
        ("*;q=x,,;", "en"),
        ("zh", "en"),
    ],
)
def test_the_best_language_is_chosen(header: str, lang: str) -> None:
    assert choose(header) == lang


def test_values_are_not_parsed() -> None:
    """A member's text with braces stays what it is."""
    assert translate("pt-BR", "notices", "Case {case}", case="{evil.__class__}") == "Caso {evil.__class__}"
