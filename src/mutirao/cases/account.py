"""What follows for an account where a machine stopped a process: a strike, a restriction, or nothing, and its words."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from mutirao.cases import incident, letter, sanction, strike
from mutirao.cases.action import Action
from mutirao.cases.cause import cause_of
from mutirao.cases.decide import NEVER_HELD, Decided, decide
from mutirao.cases.ladder import History
from mutirao.cases.office import Office
from mutirao.cases.wording import CONSEQUENCES, say
from mutirao.detect.finding import Finding
from mutirao.store.consequence import Incident, Strike
from mutirao.store.models import Case, Decision


@dataclass(frozen=True, slots=True)
class Follows:
    """What a stop leads to: `strikes` live with this one, `incident` where its cause is paused."""

    decided: Decided
    cause: str
    strikes: int
    incident: Incident | None

    @property
    def action(self) -> Action:
        """What the decision comes to: restrict where something is restricted, else stop."""
        return Action.RESTRICT if self.decided.consequence else Action.STOP

    def words(self, now: datetime, office: Office) -> Callable[[str], str]:
        """The consequence, in the language that the answer is asked for."""

        def said(lang: str) -> str:
            parts = []
            consequence = self.decided.consequence
            if consequence is None:
                parts.append(say(lang, CONSEQUENCES[Action.STOP]))
            else:
                ends = letter.moment(now + consequence.life)
                parts.append(
                    say(lang, letter.RESTRICTED[consequence.scope], begins=letter.moment(now), ends=ends),
                )
            if self.decided.strike:
                gone = letter.moment(now + timedelta(days=office.rules.strike_days))
                parts.append(say(lang, letter.STRIKE, strikes=self.strikes, ends=gone))
            if self.incident is not None:
                parts.append(say(lang, letter.PAUSED, incident=self.incident.number))
            return " ".join(parts)

        return said


def weigh(session: Session, office: Office, case: Case, finding: Finding, now: datetime, *, struck: bool) -> Follows:
    """What follows from a stop that was observed in this case; `struck` where the same cell has brought a strike."""
    cause = cause_of(finding)
    found = incident.hit(session, office, cause, finding.category, now)
    live = strike.live(session, case.member, now) if case.member else []
    has = session.scalars(select(Strike.id).where(Strike.case_id == case.id)).first() is not None
    today = strike.on_day(session, case.member, now) if case.member else 0
    history = History(
        strikes=len(live),
        stopped=strike.stopped_before(session, case, now, office.rules) if case.member else 0,
        struck=struck or has or today >= office.rules.strikes_a_day,
        paused=found is not None,
        known=case.member is not None,
    )
    decided = decide(finding.level, finding.maturity, finding.category, history=history, rules=office.rules)
    return Follows(decided, cause, len(live) + decided.strike, found)


def apply(
    session: Session, office: Office, case: Case, made: Decision, follows: Follows, finding: Finding, now: datetime
) -> None:
    """Write the strike and the restriction of a decision, in its transaction."""
    if follows.decided.strike:
        strike.add(session, case, made, follows.cause, now, office.rules)
    if (consequence := follows.decided.consequence) is not None:
        harm = finding.category in NEVER_HELD
        sanction.impose(
            session,
            case,
            made,
            consequence.scope,
            consequence.life,
            cause=follows.cause,
            harm=harm,
            now=now,
            rules=office.rules,
        )
