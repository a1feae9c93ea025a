"""What follows for an account, as its member sees it: strikes, restrictions, appeals, declared purposes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases import appeal, exemption, sanction, strike
from mutirao.cases.action import APPEALABLE
from mutirao.cases.adoption import adoptions
from mutirao.cases.ladder import Scope
from mutirao.cases.office import Office
from mutirao.policy.category import Category
from mutirao.policy.version import PolicyVersion
from mutirao.store.consequence import Appeal, Member, Sanction, Strike
from mutirao.store.models import Case, Exemption
from mutirao.web.view import CaseView, DecisionView, View


class StrikeView(View):
    """A mark for one case; only a `live` one counts. `paused` ones wait for an incident's end, `void` were wrong."""

    case: str
    at: datetime
    ends_at: datetime
    state: Literal["live", "over", "void", "paused"]


class RestrictionView(View):
    """A restriction: of GPUs, of running code (`compute`) or of the account; notebooks and files stay readable."""

    id: int
    case: str
    scope: Scope
    begins_at: datetime
    ends_at: datetime
    by: str
    machine: bool
    state: Literal["in-force", "over", "lifted", "paused"]
    lifted_at: datetime | None
    lifted_why: str | None
    given_back_s: int


class AppealView(View):
    """An appeal and its answer. `lapsed` is still open: its restriction was lifted because nobody answered in time."""

    id: int
    case: str
    decision: int
    text: str
    opened_at: datetime
    due_at: datetime
    clock_paused_since: datetime | None
    state: Literal["open", "lapsed", "upheld", "lesser", "reversed"]
    answered_at: datetime | None
    answered_by: str | None
    answer: str | None
    given_back_s: int


class PurposeView(View):
    """A declared purpose or a question, with its answer; `old-policy` was granted under a version no longer in force."""

    id: int
    case: str | None
    category: Category
    title: str
    kind: str
    policy_version: int
    purpose: str
    ends_at: datetime
    state: Literal["waiting", "granted", "refused", "over", "old-policy"]
    by: str
    answer: str | None


class AccountView(View):
    """All that holds for one member now and did before, newest first; `mail` is where notices go, null for nowhere."""

    strikes: tuple[StrikeView, ...]
    restrictions: tuple[RestrictionView, ...]
    appeals: tuple[AppealView, ...]
    purposes: tuple[PurposeView, ...]
    mail: str | None
    lang: str | None

    def held(self) -> tuple[RestrictionView, ...]:
        """The restrictions in force."""
        return tuple(one for one in self.restrictions if one.state == "in-force")


class WholeCaseView(CaseView):
    """A case with what it brought about; `appealable` are the decisions that its member can appeal against now."""

    strike: StrikeView | None
    restrictions: tuple[RestrictionView, ...]
    appeals: tuple[AppealView, ...]
    appealable: tuple[int, ...]

    def decided(self, number: int) -> DecisionView | None:
        """The decision with this number, where it is among those shown."""
        return next((one for one in self.decisions if one.id == number), None)


def view_strike(entry: Strike, now: datetime) -> StrikeView:
    """A strike as it stands now."""
    state: Literal["live", "over", "void", "paused"] = "live"
    if entry.void_at is not None:
        state = "void"
    elif entry.ends_at <= now:
        state = "over"
    elif entry.incident_id is not None:
        state = "paused"
    return StrikeView(case=entry.case.number, at=entry.at, ends_at=entry.ends_at, state=state)


def view_restriction(entry: Sanction, now: datetime) -> RestrictionView:
    """A restriction as it stands now."""
    state: Literal["in-force", "over", "lifted", "paused"] = "in-force"
    if entry.lifted_at is not None:
        state = "lifted"
    elif entry.ends_at <= now:
        state = "over"
    elif entry.incident_id is not None:
        state = "paused"
    return RestrictionView(
        id=entry.id,
        case=entry.case.number,
        scope=Scope(entry.scope),
        begins_at=entry.begins_at,
        ends_at=entry.ends_at,
        by=entry.by,
        machine=entry.by == "machine",
        state=state,
        lifted_at=entry.lifted_at,
        lifted_why=entry.lifted_why,
        given_back_s=entry.given_back_s,
    )


def view_appeal(entry: Appeal, paused_since: datetime | None) -> AppealView:
    """An appeal with its answer, if it has one; the pause of the clock matters only to open ones."""
    is_open = entry.answered_at is None
    return AppealView(
        id=entry.id,
        case=entry.case.number,
        decision=entry.decision_id,
        text=entry.text,
        opened_at=entry.opened_at,
        due_at=entry.due_at,
        clock_paused_since=paused_since if is_open and entry.lapsed_at is None else None,
        state=entry.outcome or ("lapsed" if entry.lapsed_at else "open"),  # type: ignore[arg-type]  # validated
        answered_at=entry.answered_at,
        answered_by=entry.answered_by,
        answer=entry.answer,
        given_back_s=entry.given_back_s,
    )


def view_purpose(
    entry: Exemption, number: str | None, policies: Mapping[int, PolicyVersion], in_force: int, now: datetime, lang: str
) -> PurposeView:
    """A declared purpose as it stands now; `number` is that of its case."""
    state: Literal["waiting", "granted", "refused", "over", "old-policy"] = "granted"
    if entry.refused:
        state = "refused"
    elif entry.ends_at <= now:
        state = "over"
    elif entry.policy_version != in_force:
        state = "old-policy"
    elif entry.under_review:
        state = "waiting"
    clause = policies[entry.policy_version].clauses[Category(entry.category)]
    return PurposeView(
        id=entry.id,
        case=number,
        category=Category(entry.category),
        title=clause.title[lang],
        kind=entry.kind,
        policy_version=entry.policy_version,
        purpose=entry.purpose,
        ends_at=entry.ends_at,
        state=state,
        by=entry.by,
        answer=entry.answer,
    )


def view_purposes(
    session: Session, entries: Sequence[Exemption], policies: Mapping[int, PolicyVersion], now: datetime, lang: str
) -> tuple[PurposeView, ...]:
    """Purposes with the numbers of their cases."""
    past = [one.version for one in adoptions(session) if one.effective_from <= now]
    wanted = select(Case).where(Case.id.in_([one.case_id for one in entries if one.case_id]))
    numbers = {case.id: case.number for case in session.scalars(wanted)}
    return tuple(
        view_purpose(one, numbers.get(one.case_id or 0), policies, past[-1] if past else 0, now, lang)
        for one in entries
    )


def view_account(
    session: Session, member: str, policies: Mapping[int, PolicyVersion], office: Office, now: datetime, lang: str
) -> AccountView:
    """What holds for a member's account."""
    paused = appeal.clock_paused_since(session)
    mine = select(Appeal).where(Appeal.member == member).order_by(Appeal.id.desc()).options(selectinload(Appeal.case))
    known = session.get(Member, member)
    return AccountView(
        strikes=tuple(view_strike(one, now) for one in strike.of(session, member)),
        restrictions=tuple(view_restriction(one, now) for one in sanction.of(session, member)),
        appeals=tuple(view_appeal(one, paused) for one in session.scalars(mine)),
        purposes=view_purposes(session, exemption.of(session, member), policies, now, lang),
        mail=known.mail if known else None,
        lang=known.lang if known else None,
    )


def view_whole(session: Session, case: Case, view: CaseView, office: Office, now: datetime) -> WholeCaseView:
    """A case's view with what it brought about: strike, restrictions, appeals, what can be appealed."""
    paused = appeal.clock_paused_since(session)
    appeals = appeal.of(session, case)
    strikes = list(session.scalars(select(Strike).where(Strike.case_id == case.id)))
    rows = list(session.scalars(select(Sanction).where(Sanction.case_id == case.id).order_by(Sanction.id)))
    return WholeCaseView(
        **{key: getattr(view, key) for key in CaseView.model_fields},
        strike=view_strike(strikes[0], now) if strikes else None,
        restrictions=tuple(view_restriction(one, now) for one in rows),
        appeals=tuple(view_appeal(one, paused) for one in appeals),
        appealable=_appealable(case, appeals, {one.decision_id for one in rows}, office),
    )


def _appealable(case: Case, appeals: Sequence[Appeal], restricting: set[int], office: Office) -> tuple[int, ...]:
    """The decisions that can be appealed now: each that restricts or refuses, and the newest of the others.

    A cell that was stopped twenty times has twenty decisions; an answer about one of them is about all.
    """
    able = [one.id for one in case.decisions if one.action in APPEALABLE]
    alone = restricting | {one.id for one in case.decisions if one.action in ("restrict", "suspend", "refuse")}
    others = [number for number in able if number not in alone]
    if any(one.decision_id in others and one.answered_at is None for one in appeals):
        others = []
    wanted = [number for number in able if number in alone] + others[-1:]
    return tuple(number for number in wanted if _may_appeal(number, appeals, office))


def _may_appeal(number: int, appeals: Sequence[Appeal], office: Office) -> bool:
    mine = [one for one in appeals if one.decision_id == number]
    return len(mine) < office.rules.appeals_per_decision and all(one.answered_at is not None for one in mine)
