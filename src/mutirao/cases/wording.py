"""The words of a notice: what was seen, which clause, what follows, what to do; in every language at once."""

from collections.abc import Callable
from dataclasses import dataclass

from mutirao.cases.action import Action
from mutirao.cases.notice import Notice, NoticeText
from mutirao.detect.finding import Finding
from mutirao.language import LANGUAGES, translate
from mutirao.policy.category import Category
from mutirao.policy.version import Clause

TITLES = {
    Action.WARN: "This cell runs, but it may be disallowed here",
    Action.HOLD: "This cell was not run: please say why you need it",
    Action.STOP: "This cell was not run",
}
CONSEQUENCES = {
    Action.WARN: "Nothing is restricted: the cell runs, and your account, files and kernel are untouched. "
    "If this work goes on to do what the clause disallows, that cell or process will be stopped.",
    Action.HOLD: "Only this cell is held back. Your account, files, kernel and other cells are untouched.",
    Action.STOP: "Only this cell was not run. Your account, files, kernel and other cells are untouched.",
}
NEXT_STEPS = {
    Action.WARN: "If you do something else, or study or teach this, go on: nothing needs to be done.",
    Action.HOLD: "If you need it, open the case, give your reason, and press Run again within 10 minutes. "
    "A person reads the reason afterwards.",
    Action.STOP: "Go on with your other cells. "
    "If this is a mistake, open the case: it shows the evidence and whom to tell.",
}
MACHINE = "Seen by a machine (rule {rule}, version {version}) and decided by a machine, by the published table."
CLAUSE = "Policy {number}, “{title}”: {ban}"
LEAD = "It looks like this: {title}."
FACT = "Line {line}: {why} ({excerpt})"
CASE_LINK = "Case {case}"
POLICY_LINK = "The clause, and why it is there"


CELL_DIGITS = 12
"""So many digits of a digest name a cell within a case."""


def say(lang: str, text: str, /, **values: object) -> str:
    """`text` in `lang`, from the catalogue of notices."""
    return translate(lang, "notices", text, **values)


@dataclass(frozen=True, slots=True)
class Pages:
    """Where cases and the policy can be read; `base` is absolute and ends with a slash."""

    base: str

    def case(self, number: str, cell: str = "") -> str:
        """The address of a case, and of one cell in it by the first digits of its digest."""
        return f"{self.base}case/{number}{f'?cell={cell}' if cell else ''}"

    def clause(self, category: Category) -> str:
        """The address of a clause of the policy in force."""
        return f"{self.base}policy#{category}"


def write(
    action: Action,
    findings: tuple[Finding, ...],
    clause: Clause,
    policy_version: int,
    case: str,
    pages: Pages,
    digest: str = "",
    follows: Callable[[str], str] | None = None,
    noticed: Action | None = None,
) -> Notice:
    """The notice of one decision in every language; `findings` are of one category, gravest first.

    A held cell's link names it by its digest: a case can hold several, and each needs its own reason. Where more
    follows than the cell's fate, `follows` says it in a language, and `noticed` is what the decision comes to.
    """
    cell = digest[:CELL_DIGITS] if action is Action.HOLD else ""
    texts = {}
    for lang in LANGUAGES:
        title = clause.title[lang]
        texts[lang] = NoticeText(
            lang=lang,
            title=say(lang, TITLES[action]),
            lead=say(lang, LEAD, title=title),
            facts=(
                *(
                    say(lang, FACT, line=finding.line, why=finding.why[lang].rstrip("."), excerpt=finding.excerpt)
                    for finding in _distinct(findings)
                ),
                say(lang, MACHINE, rule=findings[0].rule, version=findings[0].rule_version),
            ),
            clause=say(lang, CLAUSE, number=policy_version, title=title, ban=clause.ban[lang]),
            consequence=follows(lang) if follows else say(lang, CONSEQUENCES[action]),
            next_step=say(lang, NEXT_STEPS[action]),
            links=(
                (say(lang, CASE_LINK, case=case), pages.case(case, cell)),
                (say(lang, POLICY_LINK), pages.clause(clause.category)),
            ),
        )
    return Notice(case=case, action=noticed or action, category=clause.category, texts=texts)


def _distinct(findings: tuple[Finding, ...], most: int = 3) -> list[Finding]:
    """The gravest finding of each piece of evidence: three rules that see one command are one fact."""
    seen: dict[tuple[int, str], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.line, finding.excerpt), finding)
    return list(seen.values())[:most]
