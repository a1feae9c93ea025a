"""What pages and API show: typed views of what the store holds, in one language."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from mutirao.cases import permit
from mutirao.cases.action import Action
from mutirao.cases.adoption import has_begun
from mutirao.cases.decide import NEVER_HELD
from mutirao.cases.wording import CELL_DIGITS
from mutirao.policy.category import Category
from mutirao.policy.clause import Clause
from mutirao.policy.version import PolicyVersion
from mutirao.store.models import Adoption, Case, Decision, Notice, Observation


class View(BaseModel):
    """A frozen value of the API; `model_validate` takes one from a row that has the same fields."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Standing(StrEnum):
    """Where a version stands on this service."""

    IN_FORCE = "in-force"
    ANNOUNCED = "announced"
    PAST = "past"
    NOT_ADOPTED = "not-adopted"


class ClauseView(View):
    """A clause in one language."""

    category: Category
    title: str
    ban: str
    allowed: tuple[str, ...]
    disallowed: tuple[str, ...]
    harm: str
    law: str
    scarce: str


class VersionView(View):
    """One version and its standing; the times are None where it was never adopted here."""

    version: int
    standing: Standing
    announced_at: datetime | None
    effective_from: datetime | None
    ended_at: datetime | None
    by: str | None
    reason: str | None
    proposed_announcement: date
    proposed_effect: date


class PolicyView(VersionView):
    """A version with its text."""

    lang: str
    summary: str
    always_allowed: str
    clauses: tuple[ClauseView, ...]


class ObservationView(View):
    """One thing that a sensor saw; `line` counts from 1, `why` is one sentence."""

    at: datetime
    sensor: str
    via: str
    rule: str
    rule_version: str
    maturity: str
    level: str
    line: int
    excerpt: str
    why: str


class DecisionView(View):
    """What was done about it, and by whom; `machine` is True where no person decided."""

    id: int
    at: datetime
    action: Action
    by: str
    machine: bool
    policy_version: int
    reason: str


class PermitView(View):
    """Leave to run a held cell."""

    granted_at: datetime
    expires_at: datetime
    reason: str
    used: int


class NoticeView(View):
    """What the member was told."""

    case: str
    written_at: datetime
    action: Action
    title: str
    lead: str
    facts: tuple[str, ...]
    clause: str
    consequence: str
    next_step: str


class CaseView(View):
    """A case as its member and the operators see it.

    `observations` are the latest, newest last; `seen` counts all runs. `runs_anyway` says that a reason would bring
    a permit; `permit` is the one that holds now for the cell whose digest begins with `cell`.
    """

    number: str
    origin: str
    member: str | None
    owner: str
    server: str
    category: Category
    policy_version: int
    opened_at: datetime
    last_seen_at: datetime
    seen: int
    clause_title: str
    ban: str
    notice: NoticeView | None
    observations: tuple[ObservationView, ...]
    decisions: tuple[DecisionView, ...]
    permits: tuple[PermitView, ...]
    permit: PermitView | None
    cell: str
    runs_anyway: bool

    def timeline(self) -> list[tuple[datetime, str, DecisionView | PermitView]]:
        """Decisions and permits in the order of time."""
        told = [(entry.at, "decision", entry) for entry in self.decisions]
        given = [(entry.granted_at, "permit", entry) for entry in self.permits]
        return sorted([*told, *given], key=lambda item: item[0])


class CaseLine(View):
    """A case in a list."""

    number: str
    category: Category
    clause_title: str
    opened_at: datetime
    last_seen_at: datetime
    seen: int
    action: Action | None


SHOWN = 20
"""Observations shown of one case; the member's record holds all of them."""


def view_clause(clause: Clause, lang: str) -> ClauseView:
    """The clause in `lang`."""
    text = clause.text(lang)
    return ClauseView(category=clause.category, **asdict(text))


def view_version(version: PolicyVersion, adopted: Sequence[Adoption], now: datetime) -> VersionView:
    """Where a version stands; `adopted` is every adoption, oldest effect first."""
    past = [entry for entry in adopted if has_begun(entry, now)]
    mine = [n for n, entry in enumerate(adopted) if entry.version == version.number]
    entry = adopted[mine[-1]] if mine else None
    ended_at = None
    if entry is None:
        standing = Standing.NOT_ADOPTED
    elif past and past[-1].version == version.number:
        standing, entry = Standing.IN_FORCE, past[-1]
    elif not has_begun(entry, now):
        standing = Standing.ANNOUNCED
    else:
        standing = Standing.PAST
        ended_at = adopted[mine[-1] + 1].effective_from
    return VersionView(
        version=version.number,
        standing=standing,
        announced_at=entry.announced_at if entry else None,
        effective_from=entry.effective_from if entry else None,
        ended_at=ended_at,
        by=entry.by if entry else None,
        reason=entry.reason if entry else None,
        proposed_announcement=version.announced,
        proposed_effect=version.effective,
    )


def view_policy(version: PolicyVersion, adopted: Sequence[Adoption], now: datetime, lang: str) -> PolicyView:
    """A version with its text and its standing."""
    return PolicyView(
        **view_version(version, adopted, now).model_dump(),
        lang=lang,
        summary=version.summary[lang],
        always_allowed=version.always_allowed[lang],
        clauses=tuple(view_clause(clause, lang) for clause in version.clauses.values()),
    )


def view_case(case: Case, policies: Mapping[int, PolicyVersion], now: datetime, lang: str, cell: str = "") -> CaseView:
    """A case with its evidence; relations must be loaded. The permit and the form are for `cell`, see permit.held."""
    category = Category(case.category)
    clause = policies[case.policy_version].clauses[category].text(lang)
    last = case.decisions[-1] if case.decisions else None
    seen = permit.held(case, cell)
    standing = permit.holding(case, seen, now)
    return CaseView(
        number=case.number,
        origin=case.origin,
        member=case.member,
        owner=case.owner,
        server=case.observations[-1].server if case.observations else "",
        category=category,
        policy_version=case.policy_version,
        opened_at=case.opened_at,
        last_seen_at=case.last_seen_at,
        seen=case.seen,
        clause_title=clause.title,
        ban=clause.ban,
        notice=view_notice(last.notice, case.number, lang) if last else None,
        observations=tuple(_observation(seen, lang) for seen in case.observations[-SHOWN:]),
        decisions=tuple(_decision(decision) for decision in case.decisions[-SHOWN:]),
        permits=tuple(PermitView.model_validate(given) for given in case.permits),
        permit=PermitView.model_validate(standing) if standing else None,
        cell=seen.digest[:CELL_DIGITS] if seen else "",
        runs_anyway=last is not None and last.action == Action.HOLD and category not in NEVER_HELD,
    )


def view_line(case: Case, policies: Mapping[int, PolicyVersion], lang: str) -> CaseLine:
    """A case in a list."""
    category = Category(case.category)
    return CaseLine(
        number=case.number,
        category=category,
        clause_title=policies[case.policy_version].clauses[category].title[lang],
        opened_at=case.opened_at,
        last_seen_at=case.last_seen_at,
        seen=case.seen,
        action=Action(case.decisions[-1].action) if case.decisions else None,
    )


def view_notice(notice: Notice, number: str, lang: str) -> NoticeView:
    """A notice as it was written, in `lang`."""
    text: dict[str, Any] = notice.texts[lang]
    return NoticeView(
        case=number,
        written_at=notice.written_at,
        action=Action(notice.action),
        **{key: text[key] for key in ("title", "lead", "facts", "clause", "consequence", "next_step")},
    )


def _observation(seen: Observation, lang: str) -> ObservationView:
    return ObservationView(
        at=seen.at,
        sensor=seen.sensor,
        via=seen.via,
        rule=seen.rule,
        rule_version=seen.rule_version,
        maturity=seen.maturity,
        level=seen.level,
        line=seen.line,
        excerpt=seen.excerpt,
        why=str(seen.why.get(lang, "")),
    )


def _decision(decision: Decision) -> DecisionView:
    return DecisionView(
        id=decision.id,
        at=decision.at,
        action=Action(decision.action),
        by=decision.by,
        machine=decision.by == "machine",
        policy_version=decision.policy_version,
        reason=decision.reason,
    )
