"""What the desk of reviewers shows: the queue, a case with all that is to be decided about it, an incident."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases import appeal, incident, review, sanction, strike
from mutirao.cases.record import cases_of
from mutirao.policy.category import Category
from mutirao.policy.version import PolicyVersion
from mutirao.store.consequence import Appeal, Incident, Report, Sanction
from mutirao.store.models import Case, Exemption
from mutirao.web.account import (
    AppealView,
    PurposeView,
    RestrictionView,
    StrikeView,
    view_appeal,
    view_purposes,
    view_restriction,
    view_strike,
)
from mutirao.web.view import CaseLine, View, view_line


class WaitingAppeal(View):
    """An appeal in the queue: what is at stake, since when, and why this reader may not answer it (empty: may)."""

    appeal: AppealView
    member: str
    title: str
    author: str
    action: str
    at_stake: RestrictionView | None
    refused: str


class WaitingPurpose(View):
    """A request in the queue."""

    purpose: PurposeView
    member: str
    asked_at: datetime


class ReportView(View):
    """A report from outside as reviewers see it; its member never does."""

    id: int
    case: str
    at: datetime
    title: str
    contact: str
    text: str
    member: str | None
    linked_by: str | None
    closed_at: datetime | None
    closed_by: str | None
    answer: str | None


class IncidentView(View):
    """One cause that hit many; `outcome` is null while it is open."""

    number: str
    cause: str
    category: Category
    title: str
    opened_at: datetime
    people: int
    outcome: str | None
    closed_at: datetime | None
    closed_by: str | None
    why: str | None


class MemberLine(CaseLine):
    """A case in a list, with whose it is."""

    member: str | None
    origin: str


class QueueView(View):
    """Everything that waits for a person, and the newest cases."""

    appeals: tuple[WaitingAppeal, ...]
    clock_paused_since: datetime | None
    purposes: tuple[WaitingPurpose, ...]
    reports: tuple[ReportView, ...]
    incidents: tuple[IncidentView, ...]
    cases: tuple[MemberLine, ...]


class FileView(View):
    """What a reviewer sees beside the case itself: who waits for what, and how the member stands."""

    appeals: tuple[WaitingAppeal, ...]
    purposes: tuple[WaitingPurpose, ...]
    report: ReportView | None
    strikes: tuple[StrikeView, ...]
    restrictions: tuple[RestrictionView, ...]
    cases: tuple[MemberLine, ...]


def view_queue(session: Session, policies: Mapping[int, PolicyVersion], by: str, now: datetime, lang: str) -> QueueView:
    """The queue as `by` sees it."""
    found = review.queue(session, now)
    return QueueView(
        appeals=tuple(
            _waiting(session, one, found.clock_paused_since, policies, by, now, lang) for one in found.appeals
        ),
        clock_paused_since=found.clock_paused_since,
        purposes=_asked(session, found.exemptions, policies, now, lang),
        reports=tuple(view_report(one, policies, lang) for one in found.reports),
        incidents=tuple(view_incident(one, policies, lang) for one in found.incidents),
        cases=tuple(_line(one, policies, lang) for one in found.cases),
    )


def view_file(
    session: Session, case: Case, policies: Mapping[int, PolicyVersion], by: str, now: datetime, lang: str
) -> FileView:
    """The file of a case as `by` sees it."""
    paused = appeal.clock_paused_since(session)
    asked = list(session.scalars(select(Exemption).where(Exemption.case_id == case.id).order_by(Exemption.id)))
    told = session.scalars(select(Report).where(Report.case_id == case.id).options(selectinload(Report.case))).first()
    member = case.member
    return FileView(
        appeals=tuple(_waiting(session, one, paused, policies, by, now, lang) for one in appeal.of(session, case)),
        purposes=_asked(session, asked, policies, now, lang),
        report=view_report(told, policies, lang) if told else None,
        strikes=tuple(view_strike(one, now) for one in strike.of(session, member)) if member else (),
        restrictions=tuple(view_restriction(one, now) for one in sanction.of(session, member)) if member else (),
        cases=tuple(_line(one, policies, lang) for one in cases_of(session, member)[:50]) if member else (),
    )


def view_incident(entry: Incident, policies: Mapping[int, PolicyVersion], lang: str) -> IncidentView:
    """An incident; `title` is what the newest policy calls its category."""
    return IncidentView(
        number=entry.number,
        cause=entry.cause,
        category=Category(entry.category),
        title=policies[max(policies)].clauses[Category(entry.category)].title[lang],
        opened_at=entry.opened_at,
        people=entry.people,
        outcome=entry.outcome,
        closed_at=entry.closed_at,
        closed_by=entry.closed_by,
        why=entry.why,
    )


def view_incident_cases(
    session: Session, entry: Incident, policies: Mapping[int, PolicyVersion], lang: str
) -> tuple[MemberLine, ...]:
    """The cases of everybody whom an incident's cause hit."""
    return tuple(_line(one, policies, lang) for one in incident.cases_of(session, entry))


def view_report(entry: Report, policies: Mapping[int, PolicyVersion], lang: str) -> ReportView:
    """A report with all that the reporter wrote."""
    return ReportView(
        id=entry.id,
        case=entry.case.number,
        at=entry.at,
        title=policies[entry.case.policy_version].clauses[Category(entry.category)].title[lang],
        contact=entry.contact,
        text=entry.text,
        member=entry.case.member,
        linked_by=entry.linked_by,
        closed_at=entry.closed_at,
        closed_by=entry.closed_by,
        answer=entry.answer,
    )


def _waiting(
    session: Session,
    entry: Appeal,
    paused: datetime | None,
    policies: Mapping[int, PolicyVersion],
    by: str,
    now: datetime,
    lang: str,
) -> WaitingAppeal:
    refused = appeal.may_answer(session, entry, by)
    stake = session.scalars(select(Sanction).where(Sanction.decision_id == entry.decision_id)).first()
    return WaitingAppeal(
        appeal=view_appeal(entry, paused),
        member=entry.member,
        title=policies[entry.case.policy_version].clauses[Category(entry.case.category)].title[lang],
        author=entry.author,
        action=entry.decision.action,
        at_stake=view_restriction(stake, now) if stake else None,
        refused=refused.why if refused else "",
    )


def _asked(
    session: Session, entries: list[Exemption], policies: Mapping[int, PolicyVersion], now: datetime, lang: str
) -> tuple[WaitingPurpose, ...]:
    views = view_purposes(session, entries, policies, now, lang)
    return tuple(
        WaitingPurpose(purpose=view, member=one.member, asked_at=one.granted_at)
        for view, one in zip(views, entries, strict=True)
    )


def _line(case: Case, policies: Mapping[int, PolicyVersion], lang: str) -> MemberLine:
    return MemberLine(**view_line(case, policies, lang).model_dump(), member=case.member, origin=case.origin)
