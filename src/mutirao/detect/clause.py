"""A clause: one condition of a rule over facts, such as `command: {name: [xmrig], argv: 'stratum'}`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import re2

from mutirao.detect.fact import Fact, Kind
from mutirao.detect.programs import COMMON, TALKERS
from mutirao.errors import RuleError

# What each kind of clause may say: its key for names, its key for text.
_KEYS: Mapping[Kind, tuple[str, str]] = {
    Kind.COMMAND: ("name", "argv"),
    Kind.CALL: ("name", "arg"),
    Kind.IMPORT: ("module", ""),
    Kind.INSTALL: ("", ""),
    Kind.CLONE: ("repo", ""),
    Kind.DOWNLOAD: ("", "url"),
    Kind.WRITES: ("", "content"),
    Kind.PAGE: ("", "text"),
}
_MANAGERS = ("pip", "conda", "apt", "npm", "snap", "brew", "go", "cargo", "gem", "docker")


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` or the list of what is known."""
    close = get_close_matches(word, known, 1, 0.4)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}."


def pattern(text: str, where: str) -> "re2._Regexp[str]":
    """A compiled regular expression, case-insensitive and linear in time (RE2)."""
    try:
        return re2.compile("(?is)" + text)
    except re2.error as error:
        raise RuleError(f"{where}: the regular expression {text!r} is not one RE2 takes ({error}).") from None


def words(value: Any, where: str) -> tuple[str, ...]:
    """A non-empty list of strings."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise RuleError(f"{where} is {value!r}: must be a list of words.")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Clause:
    """True of a fact of `kind` that has one of the names (globs allowed) and whose text meets every pattern."""

    kind: Kind
    exact: frozenset[str]
    globs: tuple[str, ...]
    shape: "re2._Regexp[str] | None"
    patterns: tuple["re2._Regexp[str]", ...]
    path: "re2._Regexp[str] | None" = None

    def matches(self, fact: Fact) -> bool:
        """The fact meets the clause, and is no program that merely talks about it."""
        if self.kind is Kind.COMMAND and fact.names[0] in TALKERS and not (self.exact or self.globs):
            return False
        return self.meets(fact)

    def meets(self, fact: Fact) -> bool:
        """The fact has the kind, one of the names, and text that every pattern finds."""
        if fact.kind is not self.kind:
            return False
        if (self.exact or self.globs) and not self._named(fact):
            return False
        if self.path is not None and not self.path.search(fact.names[0]):
            return False
        return all(p.search(fact.text) for p in self.patterns)

    def _named(self, fact: Fact) -> bool:
        for name in fact.names:
            if name in self.exact or (self.shape is not None and self.shape.fullmatch(name)):
                return True
            if self.kind is Kind.IMPORT and any(name.startswith(m + ".") for m in self.exact):
                return True
        return False

    def anchors(self) -> tuple[str, ...]:
        """Words of which one stands in any text that can meet this clause, the common ones left out."""
        out = []
        for name in (*self.exact, *self.globs):
            if name in COMMON:
                continue
            plain = name.partition(":")[2] if self.kind is Kind.INSTALL else name
            if self.kind is Kind.CALL and ":" in name:  # endless:NAME, each:NAME:ARGUMENT
                plain = name.split(":")[1]
                if plain in COMMON:
                    continue
            if self.kind in (Kind.IMPORT, Kind.CALL):
                parts = [p for p in plain.replace("()", "").split(".") if p]
                plain = parts[-1] if self.kind is Kind.CALL and "*" not in parts[-1] else max(parts, key=len)
            out.append(max(plain.removeprefix("./").split("*"), key=len))
        return tuple(a for a in out if len(a) >= 2)

    @property
    def named(self) -> bool:
        """Names alone tell what to look for: there are some, none of them common."""
        return (
            bool(self.exact or self.globs)
            and not COMMON & self.exact
            and len(self.anchors()) == len(self.exact) + len(self.globs)
        )


def parse_clause(entry: Any, where: str) -> Clause:
    """One entry of a rule's list, checked strictly."""
    if not isinstance(entry, dict) or len(entry) != 1:
        raise RuleError(f"{where} is {entry!r}: must be one clause such as {{command: {{name: […]}}}}.")
    ((key, body),) = entry.items()
    if key not in list(Kind):
        raise RuleError(f"{where}: unknown clause {key!r}; {nearest(str(key), list(Kind))}")
    kind = Kind(key)
    if kind is Kind.IMPORT and isinstance(body, list):
        body = {"module": body}
    if not isinstance(body, dict) or not body:
        raise RuleError(f"{where}.{key} is {body!r}: must say what is looked for.")
    name_key, text_key = _KEYS[kind]
    known = [k for k in (name_key, text_key, text_key and f"{text_key}_all") if k]
    known += {Kind.INSTALL: list(_MANAGERS), Kind.WRITES: ["path"], Kind.DOWNLOAD: ["run"]}.get(kind, [])
    for given in body:
        if given not in known:
            raise RuleError(f"{where}.{key}: unknown key {given!r}; {nearest(str(given), known)}")
    names = _names(kind, body, name_key, f"{where}.{key}")
    texts = [body[text_key]] if text_key and text_key in body else []
    texts += words(body[f"{text_key}_all"], f"{where}.{key}") if text_key and f"{text_key}_all" in body else ()
    globs = tuple(n for n in names if "*" in n)
    clause = Clause(
        kind,
        frozenset(n for n in names if "*" not in n),
        globs,
        pattern("|".join(re2.escape(g).replace(r"\*", ".*") for g in globs), where) if globs else None,
        tuple(pattern(t, f"{where}.{key}") for t in texts),
        pattern(body["path"], f"{where}.{key}") if "path" in body else None,
    )
    if kind is Kind.CALL and not names:
        raise RuleError(f"{where}.call names no function: words in just any call would count; add name.")
    return clause


def _names(kind: Kind, body: dict[str, Any], name_key: str, where: str) -> list[str]:
    if kind is Kind.INSTALL:
        return [f"{manager}:{name.lower()}" for manager in body for name in words(body[manager], f"{where}.{manager}")]
    if kind is Kind.DOWNLOAD:
        return ["run"] if body.get("run") else []
    return [n.lower() for n in words(body[name_key], f"{where}.{name_key}")] if name_key in body else []
