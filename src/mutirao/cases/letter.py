"""The words of notices about accounts, appeals, incidents and exemptions; in every language at once. Pure."""

from datetime import datetime
from enum import Enum

from mutirao.cases.action import Action
from mutirao.cases.ladder import Scope
from mutirao.cases.notice import Notice, NoticeText
from mutirao.cases.wording import CASE_LINK, CLAUSE, POLICY_LINK, Pages, say
from mutirao.language import LANGUAGES
from mutirao.policy.version import Clause

RESTRICTED = {
    Scope.GPU: "GPUs are restricted from {begins} to {ends} (UTC). Everything else is not: you can run code on "
    "processors, and read, change and download your notebooks and files.",
    Scope.COMPUTE: "Running code is restricted from {begins} to {ends} (UTC), GPUs too. Your notebooks and files are "
    "not: you can read and download all of them.",
    Scope.ACCOUNT: "Your account is suspended from {begins} to {ends} (UTC). Your notebooks and files are kept, and "
    "you can still read your cases, download your files and appeal.",
}
TITLES = {
    "restrict": "Your use is restricted until {ends}",
    "suspend": "Your account is suspended until {ends}",
    "lift": "A restriction was lifted",
    "pause": "A restriction is paused: many people are hit by the same cause",
    "apology": "We were wrong, and we are sorry",
    "received": "Your appeal has come in",
    "uphold": "Your appeal was answered: the decision stands",
    "lessen": "Your appeal was answered: the decision was made milder",
    "reverse": "Your appeal was answered: the decision was wrong",
    "grant": "Your purpose was accepted",
    "refuse": "Your purpose was not accepted",
    "declared": "Your purpose has come in",
    "close": "A report about you was closed",
}
LEADS = {
    "person": "{by} decided this: {why}",
    "lift": "{by} lifted it: {why}",
    "lapse": "Nobody answered your appeal in time, so the restriction is lifted by itself. "
    "Your appeal is still answered.",
    "pause": "One cause hit many people at once (incident {incident}), so nothing follows for accounts until a person "
    "has looked at it. What did harm is still stopped.",
    "apology": "Incident {incident} was our mistake or somebody else's, not yours: {why}",
    "received": "A person who did not make the decision answers it, at the latest by {due} (UTC).",
    "declared": "A person reads it. Until then, cells that would be stopped for deepfakes or password cracking are "
    "held and ask for a reason.",
}
FOLLOWS = {
    "nothing": "Nothing is restricted by this case. Your account, files and kernels are untouched.",
    "given-back": "The strike is gone, the restriction is lifted, and {hours} hours of restricted time are given back.",
    "milder": "The restriction now ends at {ends} (UTC), and {hours} hours of restricted time are given back.",
    "stands": "The decision stays as it is, with its end.",
    "allowed": "Cells of this kind run for you until {ends} (UTC), while policy {version} is in force. "
    "They are recorded.",
    "as-before": "Everything stays as it was before you asked.",
}
STRIKE = "This is a strike, number {strikes} of those that live; it is gone on {ends}."
PAUSED = "Many people are hit by the same cause (incident {incident}): nothing follows for your account."
APPEAL = "If this is a mistake, open the case and appeal with one click: another person looks at it."
READ_ON = "Open the case to read everything about it."
GO_ON = "You need not do anything."
OTHERS = "This is about the owner of this server. Nothing of yours is restricted."
STARTED = "The restriction was told in case {told}. No new decision was made for this cell."
TOLD = "The restriction was told in case {told}. No new decision was made."


class Halted(Enum):
    """What a restriction kept from running, as its member and as others on the same server read it."""

    CELL = (
        "Not run: running code is restricted for you until {ends} (UTC)",
        "Not run: running code on this server is restricted until {ends} (UTC)",
        STARTED,
    )
    RUNNING = (
        "Ended: running code is restricted for you until {ends} (UTC)",
        "Ended: running code on this server is restricted until {ends} (UTC)",
        STARTED,
    )
    KERNEL = (
        "No kernel was started: running code is restricted for you until {ends} (UTC)",
        "No kernel was started: running code on this server is restricted until {ends} (UTC)",
        TOLD,
    )

    def __init__(self, own: str, others: str, fact: str) -> None:
        self.own, self.others, self.fact = own, others, fact


def moment(at: datetime) -> str:
    """A time as notices write it, in UTC."""
    return f"{at:%Y-%m-%d %H:%M}"


def compose(
    kind: str,
    action: Action,
    case: str,
    pages: Pages,
    *,
    clause: Clause | None,
    version: int,
    lead: str = "",
    follows: str | None = None,
    next_step: str = READ_ON,
    facts: tuple[str, ...] = (),
    **values: object,
) -> Notice:
    """One notice in every language: `kind`, `lead` and `follows` name texts above, `values` fill them.

    `facts` are texts too, filled by the same values; whatever a person wrote comes in as a value, never as a text.
    """
    texts = {}
    values = {"version": version, **values}
    for lang in LANGUAGES:
        links = [(say(lang, CASE_LINK, case=case), pages.case(case))]
        said = ""
        if clause is not None:
            said = say(lang, CLAUSE, number=version, title=clause.title[lang], ban=clause.ban[lang])
            links.append((say(lang, POLICY_LINK), pages.clause(clause.category)))
        texts[lang] = NoticeText(
            lang=lang,
            title=say(lang, TITLES.get(kind, kind), **values),
            lead=say(lang, LEADS.get(lead, lead), **values) if lead else "",
            facts=tuple(say(lang, fact, **values) for fact in facts),
            clause=said,
            consequence=say(lang, follows or FOLLOWS["nothing"], **values),
            next_step=say(lang, next_step),
            links=tuple(links),
        )
    return Notice(case, action, clause.category if clause else None, texts)


def hours(seconds: int) -> str:
    """Seconds as hours with one digit, as notices write them."""
    return f"{seconds / 3600:.1f}"
