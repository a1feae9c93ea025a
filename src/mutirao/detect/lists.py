"""Lists of known names, apart from the rules' logic: `{{name}}` in a rule stands for what rules/lists/name.txt holds.

Among names it is all entries, in a regular expression one of them; * stands for anything but spaces. Longest first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import re2

from mutirao.detect.clause import nearest
from mutirao.errors import RuleError

Lists = Mapping[str, Sequence[str]]
_PLACE = re2.compile(r"\{\{([a-z-]+)\}\}")
_HEAD = ("source", "date")


def parse_list(text: str, where: str) -> tuple[str, ...]:
    """The entries, one a line, below comments that name their source and date."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for key in _HEAD:
        if not any(line.startswith(f"# {key}: ") for line in lines):
            raise RuleError(f"{where}: a line '# {key}: …' is missing: say where the entries are from and when.")
    entries = [line for line in lines if not line.startswith("#")]
    twice = next((e for e in entries if entries.count(e) > 1), None)
    if not entries or twice is not None:
        raise RuleError(f"{where}: {'holds nothing' if not entries else f'{twice!r} stands twice'}: mend the list.")
    return tuple(entries)


def filled(data: Any, lists: Lists, where: str) -> Any:
    """The rule's document with every `{{name}}` filled in. Raises RuleError for a list that isn't there."""
    if isinstance(data, dict):
        return {key: filled(value, lists, where) for key, value in data.items()}
    if isinstance(data, list):
        out: list[Any] = []
        for item in data:
            whole = _PLACE.fullmatch(item) if isinstance(item, str) else None
            out += _entries(whole.group(1), lists, where) if whole else [filled(item, lists, where)]
        return out
    if isinstance(data, str):
        for found in list(_PLACE.finditer(data)):
            entries = sorted(_entries(found.group(1), lists, where), key=len, reverse=True)
            choice = "|".join(re2.escape(entry).replace(r"\*", r"\S*") for entry in entries)
            data = data.replace(found.group(0), f"(?:{choice})")
    return data


def _entries(name: str, lists: Lists, where: str) -> Sequence[str]:
    if name not in lists:
        raise RuleError(f"{where}: no list is called {name!r}; {nearest(name, list(lists))}")
    return lists[name]
