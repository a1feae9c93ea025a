"""A clause of the policy: what is disallowed, what isn't, and why."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from mutirao.policy.category import Category
from mutirao.policy.strict import Mapping

Text: TypeAlias = dict[str, str]
"""One text by language tag (en, pt-BR)."""


class Part(StrEnum):
    """A part of a clause, in the order in which it is read."""

    TITLE = "title"
    BAN = "ban"
    ALLOWED = "allowed"
    DISALLOWED = "disallowed"
    HARM = "harm"
    LAW = "law"
    SCARCE = "scarce"


@dataclass(frozen=True, slots=True)
class Why:
    """Why a thing is disallowed: harm to people, the law, and what it takes from what all share."""

    harm: Text
    law: Text
    scarce: Text


@dataclass(frozen=True, slots=True)
class ClauseText:
    """A clause in one language."""

    title: str
    ban: str
    allowed: tuple[str, ...]
    disallowed: tuple[str, ...]
    harm: str
    law: str
    scarce: str

    def lines(self) -> tuple[tuple[Part, str], ...]:
        """The clause line by line, as it is read and diffed."""
        return (
            (Part.TITLE, self.title),
            (Part.BAN, self.ban),
            *((Part.ALLOWED, line) for line in self.allowed),
            *((Part.DISALLOWED, line) for line in self.disallowed),
            (Part.HARM, self.harm),
            (Part.LAW, self.law),
            (Part.SCARCE, self.scarce),
        )


@dataclass(frozen=True, slots=True)
class Clause:
    """What one version of the policy says about one category; `ban` is one sentence."""

    category: Category
    title: Text
    ban: Text
    allowed: tuple[Text, ...]
    disallowed: tuple[Text, ...]
    why: Why

    def text(self, lang: str) -> ClauseText:
        """The clause in `lang` (en or pt-BR); KeyError for another."""
        return ClauseText(
            title=self.title[lang],
            ban=self.ban[lang],
            allowed=tuple(text[lang] for text in self.allowed),
            disallowed=tuple(text[lang] for text in self.disallowed),
            harm=self.why.harm[lang],
            law=self.why.law[lang],
            scarce=self.why.scarce[lang],
        )


def read_clause(category: Category, entry: Mapping) -> Clause:
    """The clause that a policy file states; PolicyError where it is incomplete."""
    why = Mapping(entry.take("why", dict), f"{entry.where}.why")
    clause = Clause(
        category=category,
        title=entry.text("title"),
        ban=entry.text("ban"),
        allowed=entry.texts("allowed"),
        disallowed=entry.texts("disallowed"),
        why=Why(harm=why.text("harm"), law=why.text("law"), scarce=why.text("scarce")),
    )
    why.done()
    entry.done()
    return clause
