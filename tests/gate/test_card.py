"""A notice that quotes hostile code stays a notice."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mutirao.cases.action import Action
from mutirao.gate.card import card, clean, plain, traceback
from tests.gate.house import notice

TEXT = notice(Action.STOP).texts["en"]

HOSTILE = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9b2Jgone", "gone"),
    ("a\x1bcb", "ab"),
    ("end\x1b", "end"),
    ("over\rwritten\x08\x07\x00", "overwritten"),
    ("abc\u202edcba\u2066", "abcdcba"),
    ("line\u2028line", "lineline"),
    ("half\ud800", "half"),
    ("tab\tand\r\nline stay", "tab\tand\nline stay"),
    ("ünïcode 🦜 stays", "ünïcode 🦜 stays"),
]


@pytest.mark.parametrize(("dirty", "expected"), HOSTILE)
def test_terminals_and_readers_cannot_be_fooled(dirty, expected):
    assert clean(dirty) == expected


class Tags(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


@pytest.mark.parametrize("part", ["title", "lead", "clause", "consequence", "next_step"])
def test_no_part_of_a_notice_becomes_markup(part):
    evil = "<img src=x onerror=alert(1)>\"'&amp;</div><script>1</script>"
    tags = read(card(replace(TEXT, **{part: evil}), Action.STOP))
    assert {tag for tag, _ in tags.tags} <= {"div", "h3", "p", "ul", "li", "strong", "a"}
    assert evil in tags.text


def test_a_fact_and_a_label_are_escaped_too():
    evil = "<b onclick=x>"
    tags = read(card(replace(TEXT, facts=(evil,), links=((evil, "/x?a=1&b=<>\"'"),)), Action.WARN))
    assert "b" not in {tag for tag, _ in tags.tags}
    (link,) = [attributes for tag, attributes in tags.tags if tag == "a"]
    assert link["href"] == "/x?a=1&b=<>\"'"
    assert (link["target"], link["rel"]) == ("_blank", "noopener")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil.example", "/\\evil.example", "data:text/html,x", "x y"])
def test_a_link_leads_nowhere_but_to_web_pages(url):
    text = replace(TEXT, links=(("here", url),))
    assert "<a " not in card(text, Action.HOLD)
    assert url not in plain(text)


def test_a_card_is_announced_and_has_a_heading_and_its_language():
    tags = read(card(TEXT, Action.STOP)).tags
    assert tags[0][0] == "div"
    assert (tags[0][1]["role"], tags[0][1]["lang"]) == ("alert", "en")
    assert tags[1][0] == "h3"


def test_every_colour_has_a_fallback_outside_jupyterlab():
    html = card(TEXT, Action.STOP)
    assert html.count("var(--jp-") == html.count(", #") + html.count(", system-ui") + html.count(", monospace")


def test_the_plain_text_holds_the_whole_notice_without_holes():
    text = replace(TEXT, clause="", consequence="")
    assert "\n\n\n" not in plain(text)
    for part in (TEXT.title, TEXT.lead, *TEXT.facts, TEXT.next_step, TEXT.links[0][1]):
        assert part in plain(text)


def test_a_traceback_is_two_to_four_lines_and_ends_with_the_case():
    lines = traceback(replace(TEXT, lead="two\nlines \x1b[31mred"), "NotRun")
    assert 2 <= len(lines) <= 4
    assert lines[0] == "NotRun: Not run"
    assert lines[1] == "two lines red"
    assert lines[-1] == "Case: /services/mutirao/case/M-2026-000007"
    assert not any("\n" in line for line in lines)
