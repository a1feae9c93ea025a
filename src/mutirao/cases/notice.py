"""What a member is told, in their language."""

from dataclasses import dataclass

from mutirao.cases.action import Action
from mutirao.language import choose
from mutirao.policy.category import Category


@dataclass(frozen=True, slots=True)
class NoticeText:
    """A notice in one language, ready to be shown: plain text, nothing escaped yet.

    `facts` are sentences (rule, line, excerpt); `links` are (label, absolute or root-relative URL).
    """

    lang: str
    title: str
    lead: str
    facts: tuple[str, ...]
    clause: str
    consequence: str
    next_step: str
    links: tuple[tuple[str, str], ...]

    def plain(self) -> str:
        """The whole notice as plain text, for terminals and text clients."""
        lines = [self.title, "", self.lead, *(f"  - {fact}" for fact in self.facts), "", self.clause, self.consequence]
        lines += ["", self.next_step, *(f"{label}: {url}" for label, url in self.links)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice as it was written in the same transaction as its decision.

    `case` is the case's number (as shown: M-2026-000123), None where nothing was recorded (judging failed);
    `texts` holds it in every language of the service, by language tag (en, pt-BR).
    """

    case: str | None
    action: Action
    category: Category | None
    texts: dict[str, NoticeText]

    def text(self, accept_language: str = "") -> NoticeText:
        """The text that best fits an Accept-Language header; English where nothing does."""
        return self.texts[choose(accept_language)]
