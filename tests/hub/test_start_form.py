"""The start form offers what there is, escapes what it shows, and takes nothing else."""

import re

import pytest

from mutirao.errors import SandboxError
from mutirao.hub.start_form import Environment, Size, parse_start_form, progress_steps, start_form
from mutirao.language import LANGUAGES

BASE = Environment("base", {"en": "Data science", "pt-BR": "Ciência de dados"}, ("numpy", "pandas"), ready=True)
ML = Environment("ml", {"en": "Machine learning", "pt-BR": "Aprendizado de máquina"}, ("PyTorch",), ready=False)
SMALL = Size("small", {"en": "Small", "pt-BR": "Pequeno"}, 512, 0.5)
LARGE = Size("large", {"en": "Large", "pt-BR": "Grande"}, 12288, 1)


def inputs(html: str) -> dict[str, str]:
    return {found[1]: found[0] for found in re.findall(r'(<input type="radio"[^>]*value="([^"]*)"[^>]*>)', html)}


def test_the_usual_case_is_chosen_beforehand() -> None:
    """One click on Start must do; an environment that is not built can't be the usual one."""
    found = inputs(start_form([ML, BASE], [SMALL, LARGE], "en"))
    assert [name for name, html in found.items() if " checked" in html] == ["base", "small"]
    assert [name for name, html in found.items() if " disabled" in html] == ["ml"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_form_speaks_every_language(lang: str) -> None:
    html = start_form([BASE, ML], [SMALL, LARGE], lang)
    for entry in (BASE, ML, SMALL, LARGE):
        assert entry.title[lang] in html
    assert ("Ambiente" in html) is (lang == "pt-BR")
    assert "512 MiB" in html
    assert "12 GiB" in html


def test_each_choice_has_a_label_and_each_group_a_legend() -> None:
    html = start_form([BASE, ML], [SMALL, LARGE], "en")
    assert html.count("<label") == html.count("</label>") == 4
    assert html.count("<legend>") == 2


def test_hostile_titles_are_shown_as_text() -> None:
    bad = '"><script>alert(1)</script>'
    entry = Environment(bad, {"en": bad, "pt-BR": bad}, (bad,), ready=True)
    html = start_form([entry], [Size(bad, {"en": bad, "pt-BR": bad}, 512, 1)], "en")
    assert "<script" not in html


@pytest.mark.parametrize(
    ("memory_mb", "said"),
    [(256, "256 MiB"), (1023, "1023 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (131072, "128 GiB")],
)
def test_memory_is_said_as_people_read_it(memory_mb: int, said: str) -> None:
    assert Size("s", {}, memory_mb, 1).memory == said


def test_a_choice_is_taken_and_other_fields_are_left() -> None:
    form = {"environment": ["base"], "size": ["large"], "_xsrf": ["x"]}
    assert parse_start_form(form, [BASE, ML], [SMALL, LARGE]) == {"environment": "base", "size": "large"}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "has 0 values for environment: choose one of base, ml"),
        ({"environment": ["base"]}, "has 0 values for size: choose one of small, large"),
        ({"environment": ["base", "base"], "size": ["small"]}, "has 2 values for environment"),
        ({"environment": ["gpu"], "size": ["small"]}, "environment 'gpu' is not offered: choose one of base, ml"),
        ({"environment": ["../base"], "size": ["small"]}, "is not offered"),
        ({"environment": ["Base"], "size": ["small"]}, "is not offered"),
        ({"environment": [""], "size": ["small"]}, "environment '' is not offered"),
        ({"environment": ["base"], "size": ["x" * 10_000]}, "is not offered: choose one of small, large"),
        ({"environment": ["ml"], "size": ["small"]}, "The environment ml is not built yet"),
    ],
)
def test_anything_else_is_refused_with_advice(form: dict[str, list[str]], message: str) -> None:
    with pytest.raises(SandboxError) as caught:
        parse_start_form(form, [BASE, ML], [SMALL, LARGE])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("lang", LANGUAGES)
def test_progress_only_grows_and_leaves_the_end_to_the_hub(lang: str) -> None:
    steps = progress_steps(lang)
    percents = [percent for percent, _ in steps]
    assert percents == sorted(set(percents))
    assert percents[0] > 0
    assert percents[-1] < 100
    assert all(text for _, text in steps)
