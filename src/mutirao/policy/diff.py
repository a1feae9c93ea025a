"""What changed between two versions of the policy, clause by clause, line by line, word by word."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from mutirao.policy.category import Category
from mutirao.policy.clause import Clause, Part
from mutirao.policy.version import PolicyVersion


class Mark(StrEnum):
    """What became of a line or a word."""

    SAME = "same"
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"  # of lines only: its words carry the marks


@dataclass(frozen=True, slots=True)
class Words:
    """A run of words with one mark, spaces included: joined, runs give the line back."""

    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a clause after the change; a line that is not `changed` is one run of words."""

    mark: Mark
    part: Part
    words: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class ClauseChange:
    """A clause that both versions have, and that reads differently in at least one language."""

    category: Category
    old: Clause
    new: Clause

    def lines(self, lang: str) -> tuple[Line, ...]:
        """Every line of the clause in `lang`, unchanged ones too, in the order in which it is read."""
        before, after = self.old.text(lang).lines(), self.new.text(lang).lines()
        return tuple(line for part in Part for line in _lines(part, _of(part, before), _of(part, after)))


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """The clauses that `new` added to, removed from and changed in `old`, in the order of `Category`."""

    old: PolicyVersion
    new: PolicyVersion
    added: tuple[Clause, ...]
    removed: tuple[Clause, ...]
    changed: tuple[ClauseChange, ...]

    @property
    def empty(self) -> bool:
        """True where both versions have the same clauses."""
        return not (self.added or self.removed or self.changed)


def diff(old: PolicyVersion, new: PolicyVersion) -> PolicyDiff:
    """What became of `old`'s clauses in `new`; the older number need not come first."""
    return PolicyDiff(
        old=old,
        new=new,
        added=tuple(clause for category, clause in new.clauses.items() if category not in old.clauses),
        removed=tuple(clause for category, clause in old.clauses.items() if category not in new.clauses),
        changed=tuple(
            ClauseChange(category, old.clauses[category], clause)
            for category, clause in new.clauses.items()
            if category in old.clauses and clause != old.clauses[category]
        ),
    )


def compare(before: str, after: str) -> tuple[Words, ...]:
    """The words of both texts, marked; the unmarked and added ones give `after`, the unmarked and removed `before`."""
    old, new = _split(before), _split(after)
    runs: list[Words] = []
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            runs.append(Words(Mark.SAME, "".join(old[i:j])))
            continue
        runs += [Words(Mark.REMOVED, "".join(old[i:j]))] if j > i else []
        runs += [Words(Mark.ADDED, "".join(new[k:m]))] if m > k else []
    return tuple(runs)


def _split(text: str) -> list[str]:
    """Words, punctuation and spaces, each by itself."""
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def _of(part: Part, lines: tuple[tuple[Part, str], ...]) -> list[str]:
    return [text for named, text in lines if named is part]


def _lines(part: Part, before: list[str], after: list[str]) -> list[Line]:
    """Lines of one part; a line that replaces another is compared with it word by word."""
    lines: list[Line] = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [_whole(Mark.SAME, part, text) for text in before[i:j]]
            continue
        pairs = min(j - i, m - k)
        for old, new in zip(before[i : i + pairs], after[k : k + pairs], strict=True):
            lines.append(Line(Mark.CHANGED, part, compare(old, new)))
        lines += [_whole(Mark.REMOVED, part, text) for text in before[i + pairs : j]]
        lines += [_whole(Mark.ADDED, part, text) for text in after[k + pairs : m]]
    return lines


def _whole(mark: Mark, part: Part, text: str) -> Line:
    return Line(mark, part, (Words(mark, text),))
