"""What pages and API do with cases: each act is one transaction that asks the role first.

Whoever may not read a case, and whoever may not act, gets 404: what is not theirs does not exist.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from fastapi import HTTPException
from sqlalchemy.orm import Session

from mutirao.cases import appeal, exemption, incident, member, report, review
from mutirao.cases.appeal import Outcome
from mutirao.cases.exemption import Kind
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Refused
from mutirao.cases.record import find_case
from mutirao.cases.role import Act
from mutirao.language import LANGUAGES
from mutirao.policy.category import Category
from mutirao.store.consequence import Appeal, Report
from mutirao.store.models import Case, Decision, Exemption
from mutirao.web.hub import Person
from mutirao.web.site import Site

STATUS = {
    **dict.fromkeys(("why", "days", "length", "too-long", "contact", "later", "category", "mail", "member"), 422),
    **dict.fromkeys(("source-limit", "day-limit"), 429),
}
"""The status of a refusal; 409 for those not named: the matter has moved on, or is not this person's."""

ADDRESS = re.compile(r"[^@\s\x00-\x20<>,;:\"\\()\[\]]{1,64}@[^@\s\x00-\x20<>,;:\"\\()\[\]]{1,189}")
LONGEST_DAYS = 3660
LARGEST = 2**31 - 1

Proof = Callable[[str], None]
"""Asked with the number of the case (or incident) before anything happens; raises where a form was not ours."""


def no_proof(_number: str) -> None:
    """For callers that have shown a token with this very request."""


@dataclass(frozen=True, slots=True)
class Done:
    """The act happened; `number` is that of the case or incident it is about."""

    number: str


@dataclass(frozen=True, slots=True)
class Not:
    """It did not, for this reason."""

    number: str
    why: str

    @property
    def status(self) -> int:
        """The HTTP status that says so."""
        return STATUS.get(self.why, 409)


Outcomes = Done | Not


def plain(text: str) -> str:
    """Text as the store keeps it: browsers send line ends as CR LF, which count once; no signs it can't hold."""
    return text.replace("\r\n", "\n").replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def days_of(text: str) -> float | Refused | None:
    """A number of days as people type it, comma or point, as fine as a clock is; None for nothing. Refused: days."""
    if not text.strip():
        return None
    try:
        days = float(text.strip().replace(",", "."))
    except ValueError:
        return Refused("days")
    if not 0 <= days <= LONGEST_DAYS:
        return Refused("days")
    return timedelta(days=days) / timedelta(days=1)


def _told(number: str, outcome: object) -> Outcomes:
    return Not(number, outcome.why) if isinstance(outcome, Refused) else Done(number)


def _need(person: Person, act: Act) -> None:
    if not person.may(act):
        raise HTTPException(404)


def _case(session: Session, number: str) -> Case:
    case = find_case(session, number)
    if case is None:
        raise HTTPException(404)
    return case


# Members


def open_appeal(site: Site, person: Person, number: str, decision: int, text: str, proof: Proof = no_proof) -> Outcomes:
    """Appeal against a decision of one's own case."""
    with site.store.write() as session:
        case = site.own_case(session, number, person)
        proof(case.number)
        made = session.get(Decision, decision) if 0 < decision <= LARGEST else None
        if made is None or made.case_id != case.id:
            return Not(case.number, "not-appealable")
        return _told(
            case.number, appeal.open_appeal(session, site.office, made, person.name, plain(text), site.clock())
        )


def declare(site: Site, person: Person, category: str, purpose: str, kind: str) -> Outcomes:
    """Declare a purpose, or ask whether something is allowed."""
    if category not in set(Category) or kind not in set(Kind):
        return Not("", "category")
    with site.store.write() as session:
        made = exemption.request(
            session, site.office, person.name, Category(category), plain(purpose), site.clock(), Kind(kind)
        )
        if isinstance(made, Refused):
            return Not("", made.why)
        return Done(session.get_one(Case, made.case_id).number)


def reach(site: Site, person: Person, mail: str, lang: str) -> Outcomes:
    """Say where and in which language to write; an empty address takes it away."""
    mail = mail.strip()
    if mail and ADDRESS.fullmatch(mail) is None:
        return Not("", "mail")
    if lang not in LANGUAGES:
        return Not("", "category")
    with site.store.write() as session:
        member.reach(session, person.name, site.clock(), mail=plain(mail) or None, lang=lang)
    return Done("")


# Reviewers


def answer_appeal(
    site: Site, person: Person, number: int, outcome: str, days: str, why: str, proof: Proof = no_proof
) -> Outcomes:
    """Answer an appeal; `days` from now is the milder end of `lesser`, at once where it is empty."""
    _need(person, Act.DECIDE)
    with site.store.write() as session:
        found = session.get(Appeal, number)
        if found is None:
            raise HTTPException(404)
        case = session.get_one(Case, found.case_id)
        proof(case.number)
        if outcome not in set(Outcome):
            return Not(case.number, "category")
        left, now = days_of(days), site.clock()
        if isinstance(left, Refused):
            return Not(case.number, left.why)
        ends_at = now + timedelta(days=left) if left else None
        return _told(
            case.number,
            appeal.answer(session, site.office, found, person.name, Outcome(outcome), plain(why), now, ends_at=ends_at),
        )


def restrict(
    site: Site, person: Person, number: str, scope: str, days: str, why: str, proof: Proof = no_proof
) -> Outcomes:
    """Restrict the member of a case, or suspend the account."""
    _need(person, Act.DECIDE)
    with site.store.write() as session:
        case = _case(session, number)
        proof(case.number)
        if scope not in set(Scope):
            return Not(case.number, "category")
        if scope == Scope.ACCOUNT:
            _need(person, Act.SUSPEND)
        for_days = days_of(days)
        if for_days is None or isinstance(for_days, Refused):
            return Not(case.number, "days")
        return _told(
            case.number,
            review.restrict(session, site.office, case, Scope(scope), for_days, person.name, plain(why), site.clock()),
        )


def lift(site: Site, person: Person, number: int, why: str, *, give_back: bool, proof: Proof = no_proof) -> Outcomes:
    """Lift a restriction before its end, giving the time back or not."""
    _need(person, Act.DECIDE)
    with site.store.write() as session:
        found = review.find_sanction(session, number)
        if found is None:
            raise HTTPException(404)
        proof(found.case.number)
        return _told(
            found.case.number,
            review.lift(session, site.office, found, person.name, plain(why), site.clock(), give_back=give_back),
        )


def close(site: Site, person: Person, number: str, why: str, proof: Proof = no_proof) -> Outcomes:
    """Close a case with words for its member."""
    _need(person, Act.DECIDE)
    with site.store.write() as session:
        case = _case(session, number)
        proof(case.number)
        return _told(case.number, review.close(session, site.office, case, person.name, plain(why), site.clock()))


def answer_purpose(
    site: Site, person: Person, number: int, days: str, why: str, *, grant: bool, proof: Proof = no_proof
) -> Outcomes:
    """Accept a declared purpose for so many days, or not."""
    _need(person, Act.DECIDE)
    with site.store.write() as session:
        found = session.get(Exemption, number)
        if found is None or found.case_id is None:
            raise HTTPException(404)
        about = session.get_one(Case, found.case_id).number
        proof(about)
        for_days = days_of(days)
        if isinstance(for_days, Refused) or for_days == 0:
            return Not(about, "days")
        return _told(
            about,
            exemption.answer(
                session, site.office, found, person.name, plain(why), site.clock(), grant=grant, days=for_days
            ),
        )


def link_report(site: Site, person: Person, number: int, about: str, why: str, proof: Proof = no_proof) -> Outcomes:
    """Say whom a report is about."""
    _need(person, Act.DECIDE)
    about = plain(about).strip()
    with site.store.write() as session:
        found = session.get(Report, number)
        if found is None:
            raise HTTPException(404)
        proof(found.case.number)
        if not about or len(about) > 255 or not about.isprintable() or "/" in about:
            return Not(found.case.number, "member")
        return _told(found.case.number, report.link(session, found, about, person.name, plain(why), site.clock()))


def close_report(site: Site, person: Person, number: int, why: str, proof: Proof = no_proof) -> Outcomes:
    """Close a report with an answer that the reporter reads."""
    _need(person, Act.DECIDE)
    with site.store.write() as session:
        found = session.get(Report, number)
        if found is None:
            raise HTTPException(404)
        proof(found.case.number)
        return _told(found.case.number, report.close(session, found, person.name, plain(why), site.clock()))


def end_incident(
    site: Site, person: Person, number: str, why: str, *, reverse: bool, proof: Proof = no_proof
) -> Outcomes:
    """Reverse or confirm an incident."""
    _need(person, Act.INCIDENT)
    with site.store.write() as session:
        found = incident.find(session, number)
        if found is None:
            raise HTTPException(404)
        proof(found.number)
        why = plain(why).strip()
        if len(why) not in review.REASON_LENGTH:
            return Not(found.number, "why")
        if reverse:
            return _told(found.number, incident.reverse(session, site.office, found, person.name, why, site.clock()))
        return _told(found.number, incident.confirm(session, found, person.name, why, site.clock()))
