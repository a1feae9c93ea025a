"""The words of a notice: what was seen, which clause, what follows, what to do. Written before it is known who reads it."""

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
    Action.STOP: "Go on with your other cells. If this is a mistake, open the case: it shows the evidence and whom to tell.",
}
MACHINE = "Seen by a machine (rule {rule}, version {version}) and decided by a machine, by the published table."
CLAUSE = "Policy {number}, “{title}”: {ban}"
LEAD = "It looks like this: {title}."
FACT = "Line {line}: {why} ({excerpt})"
CASE_LINK = "Case {case}"
POLICY_LINK = "The clause, and why it is there"
UNJUDGED_TITLE = "This cell was not run: it could not be checked"
UNJUDGED_LEAD = "The check of cells failed just now. That is our fault, not yours, and nothing is recorded about you."
UNJUDGED_CONSEQUENCE = "The cell was not sent to the kernel. Your account, files and kernel are untouched."
UNJUDGED_NEXT = "Press Run again in a moment. If it goes on, tell the operator of this service."
UNSEEN_TITLE = "This was not run: it carries no code that could be checked"
UNSEEN_LEAD = "The request to run a cell came without its source, so nobody could tell what would run."
UNSEEN_NEXT = "Run the cell from the notebook, or send its source with the request."


def say(lang: str, text: str, /, **values: object) -> str:
    """`text` in `lang`, from the catalogue of notices."""
    return translate(lang, "notices", text, **values)


@dataclass(frozen=True, slots=True)
class Pages:
    """Where cases and the policy can be read; `base` is absolute and ends with a slash."""

    base: str

    def case(self, number: str) -> str:
        """The address of a case."""
        return f"{self.base}case/{number}"

    def clause(self, category: Category) -> str:
        """The address of a clause of the policy in force."""
        return f"{self.base}policy#{category}"


def write(
    action: Action, findings: tuple[Finding, ...], clause: Clause, policy_version: int, case: str, pages: Pages
) -> Notice:
    """The notice of one decision in every language; `findings` are of one category, gravest first."""
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
                    for finding in findings[:3]
                ),
                say(lang, MACHINE, rule=findings[0].rule, version=findings[0].rule_version),
            ),
            clause=say(lang, CLAUSE, number=policy_version, title=title, ban=clause.ban[lang]),
            consequence=say(lang, CONSEQUENCES[action]),
            next_step=say(lang, NEXT_STEPS[action]),
            links=(
                (say(lang, CASE_LINK, case=case), pages.case(case)),
                (say(lang, POLICY_LINK), pages.clause(clause.category)),
            ),
        )
    return Notice(case=case, action=action, category=clause.category, texts=texts)


def unjudged() -> Notice:
    """The honest refusal when judging itself failed; nothing is recorded, so there is no case."""
    return _plain_refusal(UNJUDGED_TITLE, UNJUDGED_LEAD, UNJUDGED_NEXT)


def unseen() -> Notice:
    """The refusal of a request that asks to run code without carrying it."""
    return _plain_refusal(UNSEEN_TITLE, UNSEEN_LEAD, UNSEEN_NEXT)


def _plain_refusal(title: str, lead: str, next_step: str) -> Notice:
    texts = {
        lang: NoticeText(
            lang=lang,
            title=say(lang, title),
            lead=say(lang, lead),
            facts=(),
            clause="",
            consequence=say(lang, UNJUDGED_CONSEQUENCE),
            next_step=say(lang, next_step),
            links=(),
        )
        for lang in LANGUAGES
    }
    return Notice(case=None, action=Action.STOP, category=None, texts=texts)
