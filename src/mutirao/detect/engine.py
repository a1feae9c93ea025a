"""The engine: a cell's code in, findings out. Pure: no file, no socket, no database, no clock."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import re2

from mutirao.detect.fact import Fact
from mutirao.detect.finding import Finding, Level
from mutirao.detect.rule import Rule
from mutirao.detect.source.reader import LONGEST, read
from mutirao.errors import TooLongError

# Code that hides its words: what it comes to is only known after folding, so it never leaves before the parse.
_HIDING = (
    r"b(?:64|32|16|85)decode|a85decode|decodebytes|a2b_|fromhex|unhexlify|rot.?13|\[::\s*-1\]|\bchr\s*\(|\bexec\s*\(|\beval\b"
    r"|getattr\s*\(|__import__|import_module|\bzlib\b|\bbase64\b|\bxxd\b|\brev\b|\\x[0-9a-f]{2}|\\[0-7]{3}"
)
# A call that runs a command line from a joined string, and shell lines with quotes or backslashes inside words.
_JOINING = (
    r"(?:os\.system|popen|subprocess|system_raw|get_ipython|getoutput|create_subprocess|os\.exec|os\.spawn|pexpect|run_line_magic)"
    r"|(?m:^\s*!.*(?:\w(?:''|\"\"|\\)\w|\$[\w({'\"]|\{\w+\}))"
)


MOST = 2_000_000
"""The longest cell that is judged at all, characters."""


class Engine:
    """Judges cells by a pack of rules.

    A cell is read whole up to 250,000 characters, in less than about a second; a longer one in pieces of that length
    cut at line ends, up to 2,000,000 characters. A fault in here is raised: what was not judged must not run.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        words = sorted({anchor.lower() for rule in self.rules for anchor in rule.anchors})
        options = re2.Options()
        options.case_sensitive = False
        options.max_mem = 64 << 20
        self._worth_parsing = re2.compile("|".join([_HIDING, _JOINING, *(_anchor(w) for w in words)]), options)

    def scan(self, code: str, language: str = "python") -> tuple[Finding, ...]:
        """One finding for each rule that the cell fires, gravest first; empty for what no rule knows.

        Raises TooLongError past 2,000,000 characters.
        """
        if len(code) <= LONGEST:
            found = self._scan(code, language)
        elif len(code) > MOST:
            raise TooLongError(f"A cell of {len(code)} characters can't be judged: {MOST} is the most.")
        else:
            by_rule: dict[str, Finding] = {}
            for lines_before, piece in _pieces(code):
                for one in self._scan(piece, language):
                    by_rule.setdefault(one.rule, replace(one, line=one.line + lines_before))
            found = list(by_rule.values())
        return tuple(sorted(found, key=lambda f: (-f.level, f.line)))

    def _scan(self, code: str, language: str) -> list[Finding]:
        code = code.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no UTF-8
        if self._worth_parsing.search(code) is None:
            return []
        facts = read(code, language)
        return [_finding(rule, fact) for rule in self.rules if (fact := rule.find(facts)) is not None]


def _pieces(code: str) -> Iterator[tuple[int, str]]:
    """The code in pieces of at most LONGEST, cut at line ends where there are any, with the lines before each."""
    lines_before = start = 0
    while start < len(code):
        end = min(start + LONGEST, len(code))
        if end < len(code) and (cut := code.rfind("\n", start, end)) > start:
            end = cut + 1
        yield lines_before, code[start:end]
        lines_before += code.count("\n", start, end)
        start = end


def _anchor(word: str) -> str:
    """The word as a pattern; - and _ are one, short words stand alone."""
    text = re2.sub(r"\\-|_", "[-_]", re2.escape(word))
    return rf"\b{text}\b" if len(word) < 4 and word.isalnum() else text


def _finding(rule: Rule, fact: Fact) -> Finding:
    return Finding(
        rule=rule.id,
        rule_version=rule.version,
        category=rule.category,
        level=min(rule.level, Level.WARN) if fact.deferred else rule.level,
        maturity=rule.maturity,
        line=max(fact.line, 1),
        excerpt=fact.excerpt,
        why=dict(rule.why),
    )
