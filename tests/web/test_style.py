"""The colours can be read, light and dark (WCAG 2.2, 1.4.3 and 1.4.11), and the two pages' parts are there."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

STATIC = Path(__file__).parents[2] / "src" / "mutirao" / "web" / "static"
STYLE = (STATIC / "mutirao.css").read_text()
COLOURS = {
    name: (light, dark) for name, light, dark in re.findall(r"--mu-([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
TEXT = [
    (ink, ground)
    for ink in ("ink", "muted", "accent", "accent-strong", "good", "care", "bad")
    for ground in ("paper", "surface")
] + [
    ("on-accent", "accent"), ("on-accent", "accent-strong"),
    ("ink", "accent-soft"), ("muted", "accent-soft"), ("accent", "accent-soft"),
    ("ink", "good-soft"), ("good", "good-soft"), ("accent", "good-soft"),
    ("ink", "care-soft"), ("care", "care-soft"), ("accent", "care-soft"),
    ("ink", "bad-soft"), ("bad", "bad-soft"), ("accent", "bad-soft"),
]  # fmt: skip
CONTROLS = [("edge", "paper"), ("edge", "surface"), ("focus", "paper"), ("focus", "surface")]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_stands_out_by_4_5_to_1(ink: str, ground: str, theme: int) -> None:
    assert contrast(COLOURS[ink][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("line", "ground"), CONTROLS)
def test_controls_stand_out_by_3_to_1(line: str, ground: str, theme: int) -> None:
    assert contrast(COLOURS[line][theme], COLOURS[ground][theme]) >= 3


def test_black_on_white_is_21_to_1() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in STATIC.iterdir():
        found = re.findall(r"https?://[^\"' )]+", path.read_text())
        assert [url for url in found if url != "http://www.w3.org/2000/svg"] == []


@pytest.mark.parametrize("name", ["logo.svg", "favicon.svg"])
def test_the_logo_is_well_formed_and_has_a_name(name: str) -> None:
    root = ElementTree.parse(STATIC / name).getroot()
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "Mutirão"
