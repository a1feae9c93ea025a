"""A rule: what it needs to see, how grave that is, what it tells the person, and its own cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import re2

from mutirao.detect.clause import Clause, nearest, parse_clause, words
from mutirao.detect.fact import Fact, Facts, Kind
from mutirao.detect.finding import Level, Maturity
from mutirao.errors import RuleError
from mutirao.policy.category import Category

_SEMVER = re2.compile(r"^\d+\.\d+\.\d+$")
_ID = re2.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)+$")
_REQUIRED = ("id", "version", "title", "category", "level", "maturity", "needs", "why", "cases")
_OPTIONAL = ("within", "unless", "anchors", "false_alarms", "known_misses")
_ACTS = (Kind.COMMAND, Kind.CALL, Kind.PAGE)
LANGUAGES = ("en", "pt-BR")


@dataclass(frozen=True, slots=True)
class Rule:
    """Fires on a fact that meets one capability clause and, where there are any, with one signal clause met too.

    With `within: fact` (the default) the signal is looked for in the very fact;
    with `within: cell` anywhere in the cell, or in an earlier one of the kernel; one of both is in this cell.
    A fact that meets an `unless` clause is passed over; with `within: cell` any such fact quiets the rule.
    `anchors` are words of which one stands in every text that can fire the rule: what lacks them all is not parsed.
    """

    id: str
    version: str
    title: str
    category: Category
    level: Level
    maturity: Maturity
    capability: tuple[Clause, ...]
    signal: tuple[Clause, ...]
    unless: tuple[Clause, ...]
    whole_cell: bool
    why: Mapping[str, str]
    anchors: tuple[str, ...]
    fires: tuple[str, ...]
    quiet: tuple[str, ...]
    false_alarms: tuple[str, ...] = ()
    known_misses: tuple[str, ...] = ()

    def find(self, facts: Facts, before: Facts) -> Fact | None:
        """The first fact that fires the rule; one that stands for certain is preferred to a deferred one.

        `before` are facts of the kernel's earlier cells.
        """
        if self.whole_cell and any(
            c.meets(f) for c in self.unless for told in (facts, before) for f in told.of(c.kind)
        ):
            return None
        deferred = None
        for clause in self.capability:
            for fact in facts.of(clause.kind):
                if (
                    clause.matches(fact)
                    and self._signalled(fact, facts, before)
                    and not any(u.meets(fact) for u in self.unless)
                ):
                    if not fact.deferred:
                        return fact
                    deferred = deferred or fact
        return deferred or self._completed(facts, before)

    def _completed(self, facts: Facts, before: Facts) -> Fact | None:
        """The act of this cell that gives an earlier cell's capability its signal."""
        if not self.whole_cell or not any(
            c.matches(f) and not f.deferred for c in self.capability for f in before.of(c.kind)
        ):
            return None
        acts = (f for c in self.signal if c.kind in _ACTS for f in facts.of(c.kind) if c.matches(f))
        return next((f for f in acts if not f.deferred), None)

    def _signalled(self, fact: Fact, facts: Facts, before: Facts) -> bool:
        if not self.signal:
            return True
        if self.whole_cell:
            return any(c.matches(f) for c in self.signal for told in (facts, before) for f in told.of(c.kind))
        return any(c.meets(fact) for c in self.signal)


def parse_rule(data: Any, where: str) -> Rule:
    """A rule from its YAML document; every fault is a RuleError that names the file and what to do."""
    if not isinstance(data, dict):
        raise RuleError(f"{where} holds no mapping: write the rule's keys at the top level.")
    known = [*_REQUIRED, *_OPTIONAL]
    for key in data:
        if key not in known:
            raise RuleError(f"{where}: unknown key {key!r}; {nearest(str(key), known)}")
    for key in _REQUIRED:
        if key not in data:
            raise RuleError(f"{where}: the key {key!r} is missing.")
    for key, form in (("id", _ID), ("version", _SEMVER)):
        if not isinstance(data[key], str) or not form.match(data[key]):
            raise RuleError(
                f"{where}: {key} is {data[key]!r}: must look like {'mining-pool' if key == 'id' else '1.0.0'}."
            )
    level = Level[_one_of(data["level"], [v.key for v in Level], f"{where}: level").upper()]
    maturity = Maturity(_one_of(data["maturity"], list(Maturity), f"{where}: maturity"))
    within = _one_of(data.get("within", "fact"), ["fact", "cell"], f"{where}: within")
    needs = _mapping(data["needs"], ["capability", "signal"], f"{where}: needs")
    capability, signal = _clauses(needs.get("capability"), where), _clauses(needs.get("signal"), where)
    if not capability:
        raise RuleError(f"{where}: needs.capability is empty: say what the code must do.")
    if level is Level.STOP and not signal:
        raise RuleError(f"{where}: level stop needs a capability and a signal: add needs.signal or make it warn.")
    why = _mapping(data["why"], list(LANGUAGES), f"{where}: why")
    for language in LANGUAGES:
        if not isinstance(why.get(language), str) or not why[language].strip():
            raise RuleError(f"{where}: why.{language} is missing: one or two sentences for the person.")
    cases = _mapping(data["cases"], ["fires", "quiet"], f"{where}: cases")
    return Rule(
        id=data["id"],
        version=data["version"],
        title=str(data["title"]),
        category=Category(_one_of(data["category"], list(Category), f"{where}: category")),
        level=level,
        maturity=maturity,
        capability=capability,
        signal=signal,
        unless=_clauses(data.get("unless"), where),
        whole_cell=within == "cell",
        why={k: " ".join(v.split()) for k, v in why.items()},
        anchors=_anchors(data.get("anchors"), capability, where),
        fires=words(cases.get("fires"), f"{where}: cases.fires"),
        quiet=words(cases.get("quiet"), f"{where}: cases.quiet"),
        false_alarms=words(data["false_alarms"], f"{where}: false_alarms") if data.get("false_alarms") else (),
        known_misses=words(data["known_misses"], f"{where}: known_misses") if data.get("known_misses") else (),
    )


def _anchors(given: Any, capability: tuple[Clause, ...], where: str) -> tuple[str, ...]:
    """The rule's own anchors and those of its names; clauses without names need the former."""
    found = [clause.anchors() for clause in capability]
    if not given and not all(clause.named for clause in capability):
        raise RuleError(
            f"{where}: a capability has no names, or common ones: add anchors, words its text must contain."
        )
    own = words(given, f"{where}: anchors") if given else ()
    return tuple(dict.fromkeys([*own, *(a for clause in found for a in clause)]))


def _clauses(entries: Any, where: str) -> tuple[Clause, ...]:
    if entries is None:
        return ()
    return tuple(parse_clause(e, where) for e in (entries if isinstance(entries, list) else [entries]))


def _mapping(value: Any, known: list[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RuleError(f"{where} is {value!r}: must be a mapping with {', '.join(known)}.")
    for key in value:
        if key not in known:
            raise RuleError(f"{where}: unknown key {key!r}; {nearest(str(key), known)}")
    return value


def _one_of(value: Any, known: list[str], where: str) -> str:
    if value not in known:
        raise RuleError(f"{where} is {value!r}; {nearest(str(value), [str(k) for k in known])}")
    return str(value)
