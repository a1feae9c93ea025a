"""A notice as a member sees it: a calm HTML card, and plain text that no terminal can be fooled by.

A notice quotes code that somebody may have written to attack whoever reads it. Terminal escapes, control
characters and characters that reorder text are taken out of both forms; the HTML is escaped as a whole.
"""

import re
import unicodedata
from dataclasses import replace
from html import escape

from mutirao.cases.action import Action
from mutirao.cases.notice import NoticeText

# CSI and OSC sequences, and the two-character escapes: taken out whole, or "[31m" would stay behind.
_CSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
_OSC = r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
_ESCAPES = re.compile(rf"{_CSI}|{_OSC}|\x1b[ -~]?")
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_COLOURS = {
    Action.WARN: ("--jp-warn-color1", "#b45309"),
    Action.HOLD: ("--jp-warn-color1", "#b45309"),
    Action.STOP: ("--jp-error-color1", "#b91c1c"),
    Action.RESTRICT: ("--jp-error-color1", "#b91c1c"),
    Action.SUSPEND: ("--jp-error-color1", "#b91c1c"),
}


def clean(text: str) -> str:
    """The text without terminal escapes, control characters (newline and tab stay), bidi marks or lone surrogates."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    return "".join(char for char in text if char in "\n\t" or (char not in _BIDI and _harmless(char)))


def cleaned(text: NoticeText) -> NoticeText:
    """The notice with every part cleaned, and only links that are http(s) or root-relative."""
    links = tuple((clean(label), clean(url)) for label, url in text.links)
    return replace(
        text,
        title=clean(text.title),
        lead=clean(text.lead),
        facts=tuple(clean(fact) for fact in text.facts),
        clause=clean(text.clause),
        consequence=clean(text.consequence),
        next_step=clean(text.next_step),
        links=tuple((label, url) for label, url in links if _may_link(url)),
    )


def plain(text: NoticeText) -> str:
    """The whole notice as plain text."""
    return re.sub(r"\n{3,}", "\n\n", cleaned(text).plain()).strip()


def traceback(text: NoticeText, ename: str) -> list[str]:
    """The notice as the two to four lines of an error's traceback: title, lead, next step, where to read on."""
    text = cleaned(text)
    lines = [f"{ename}: {_line(text.title)}", _line(text.lead), _line(text.next_step)]
    lines += [f"{_line(label)}: {url}" for label, url in text.links[:1]]
    return [line for line in lines if line]


def card(text: NoticeText, action: Action) -> str:
    """The notice as an HTML card with inline styles; JupyterLab's colours, light or dark, where there are any."""
    text = cleaned(text)
    variable, fallback = _COLOURS.get(action, _COLOURS[Action.WARN])
    accent = f"var({variable}, {fallback})"
    paragraph = '<p style="margin:0 0 8px 0">{}</p>'
    quiet = '<p style="margin:0 0 8px 0;font-size:13px">{}</p>'
    parts = [
        f'<div role="alert" lang="{escape(text.lang)}" style="max-width:46em;margin:8px 0;padding:12px 16px;'
        f"border:1px solid var(--jp-border-color1, #9ca3af);border-left:4px solid {accent};border-radius:4px;"
        "background:var(--jp-layout-color1, #ffffff);color:var(--jp-ui-font-color1, #1f2937);"
        'font-family:var(--jp-ui-font-family, system-ui, sans-serif);font-size:14px;line-height:1.5">',
        f'<h3 style="margin:0 0 8px 0;font-size:16px;font-weight:600;color:inherit">{_html(text.title)}</h3>',
        paragraph.format(_html(text.lead)) if text.lead else "",
    ]
    if text.facts:
        item = '<li style="margin:0 0 4px 0;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px">{}</li>'
        facts = "".join(item.format(_html(fact)) for fact in text.facts)
        parts.append(f'<ul style="margin:0 0 8px 0;padding-left:20px">{facts}</ul>')
    parts += [quiet.format(_html(part)) for part in (text.clause, text.consequence) if part]
    if text.next_step:
        parts.append(paragraph.format(f"<strong>{_html(text.next_step)}</strong>"))
    if text.links:
        link = (
            '<a href="{}" target="_blank" rel="noopener" '
            'style="color:var(--jp-content-link-color, #1d4ed8);text-decoration:underline;margin-right:16px">{}</a>'
        )
        links = "".join(link.format(escape(url), _html(label)) for label, url in text.links)
        parts.append(f'<p style="margin:0">{links}</p>')
    parts.append("</div>")
    return "".join(parts)


def _harmless(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")


def _may_link(url: str) -> bool:
    if any(char.isspace() for char in url):
        return False
    return url.startswith(("https://", "http://")) or (url.startswith("/") and not url.startswith(("//", "/\\")))


def _line(text: str) -> str:
    return " ".join(text.split())


def _html(text: str) -> str:
    return escape(text)
