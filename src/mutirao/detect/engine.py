"""The engine: a cell's code in, findings out. Pure: no file, no socket, no database, no clock."""

from collections.abc import Iterable

import re2

from mutirao.detect.clause import Clause
from mutirao.detect.fact import Fact, Facts, Kind
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.detect.memory import Memory
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
    r"|\$\{?IFS|(?m:^\s*\$\{?\w+\}?(?:\$|\s))|<<<|(?m:^\s*!.*(?:[\w-](?:''|\"\"|\\)[\w-]|\$[\w({'\"]|\{[\w'\"]))"
)


class Engine:
    """Judges cells by a pack of rules.

    A cell is read whole or not at all: up to 250,000 characters, in less than about a second. A fault in here is
    raised: what was not judged must not run.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._wanted: dict[Kind, list[Clause]] = {}
        for rule in self.rules:
            for clause in (*rule.capability, *rule.signal, *rule.unless) if rule.whole_cell else ():
                self._wanted.setdefault(clause.kind, []).append(clause)
        words = sorted({anchor.lower() for rule in self.rules for anchor in rule.anchors})
        options = re2.Options()
        options.case_sensitive = False
        options.max_mem = 64 << 20
        self._worth_parsing = re2.compile("|".join([_HIDING, _JOINING, *(_anchor(w) for w in words)]), options)

    def scan(self, code: str, language: str = "python", memory: Memory | None = None) -> tuple[Finding, ...]:
        """One finding for each rule that the cell fires, gravest first; empty for what no rule knows.

        `memory` is what earlier cells of the same kernel did; it learns this one. A notebook on disk is its cells in
        their order with one memory, so that its verdict is that of its cells sent one by one.
        Raises TooLongError past 250,000 characters: pieces of a cell mean something else than the whole.
        """
        if len(code) > LONGEST:
            raise TooLongError(f"A cell of {len(code)} characters can't be judged: {LONGEST} is the most.")
        code = code.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no UTF-8
        if not self.reads(code, memory):
            if memory is not None:
                memory.wait(code, language)
            return ()
        if memory is None:
            return self._judge(read(code, language), Facts())
        while memory.unread:
            try:
                memory.learn(self._relevant(read(*memory.unread.pop(0), memory.folder)))
            except TooLongError:
                continue
        facts = read(code, language, memory.folder)
        found = self._judge(facts, memory.before())
        # A cell that is stopped never ran: it is no evidence against those that come after it.
        stopped = any(f.level is Level.STOP and f.maturity is Maturity.STABLE for f in found)
        memory.learn(() if stopped else self._relevant(facts))
        return found

    def reads(self, code: str, memory: Memory | None = None) -> bool:
        """The cell has a word that a rule cares about, or that earlier cells gave a meaning; else it isn't parsed."""
        code = code.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no UTF-8
        return self._worth_parsing.search(code) is not None or (memory is not None and memory.mentions(code))

    def _judge(self, facts: Facts, before: Facts) -> tuple[Finding, ...]:
        found = [_finding(rule, fact) for rule in self.rules if (fact := rule.find(facts, before)) is not None]
        return tuple(sorted(found, key=lambda f: (-f.level, f.line)))

    def _relevant(self, facts: Facts) -> list[Fact]:
        """The facts that a rule on whole cells may ask for later."""
        return [f for kind, clauses in self._wanted.items() for f in facts.of(kind) if any(c.meets(f) for c in clauses)]


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
