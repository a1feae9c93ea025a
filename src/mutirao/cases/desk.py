"""The desk: a cell comes in, rules read it, the table decides, and the notice is written with the decision."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from mutirao.cases import permit, wording
from mutirao.cases.action import Action
from mutirao.cases.adoption import in_force
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.decide import Decided, Standing, decide
from mutirao.cases.notice import Notice
from mutirao.cases.scan import InThreads, Scanner
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding
from mutirao.policy.category import Category
from mutirao.policy.version import PolicyVersion
from mutirao.store import audit
from mutirao.store.models import Case, Decision, Delivery, Exemption, Observation, Tally
from mutirao.store.models import Notice as StoredNotice
from mutirao.store.store import Store

ROWS_A_CASE = 50
"""Past so many observations of one matter in a day repeats are counted, not written: a loop must not fill the disk."""

MOST_ROWS_A_CASE = 500
"""Held cells that differ get rows up to here, because a permit needs the one it is for."""

REPEAT_EVERY = timedelta(hours=1)
"""So often a repeat past that gets a decision and a notice of its own, which name how many runs there were."""

GRAVITY = list(Action)


class Desk:
    """Judges cells for the gate. `clock` gives aware UTC times; `policies` are the shipped versions by number."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        policies: dict[int, PolicyVersion],
        pages: wording.Pages,
        clock: Callable[[], datetime],
        scanner: Scanner | None = None,
    ) -> None:
        self.store = store
        self.engine = engine
        self.policies = policies
        self.pages = pages
        self.clock = clock
        self.scanner = scanner or InThreads(engine)

    async def judge(self, cell: Cell) -> Verdict:
        """The verdict on a cell, recorded before it is given; raises where judging fails, and never guesses."""
        findings = await self.scanner.scan(cell)
        if not findings:
            return Verdict(Action.ALLOW)
        return await asyncio.to_thread(self._decide, cell, findings)

    def _decide(self, cell: Cell, findings: tuple[Finding, ...]) -> Verdict:
        now = self.clock()
        with self.store.write() as session:
            current = in_force(session, now)
            clauses = self.policies[current.version].clauses
            graded = [
                (finding, self._grade(session, cell, finding, current.version, now))
                for finding in findings
                if finding.category in clauses
            ]
            for finding, decided in graded:
                if not decided.recorded:
                    self._count(session, finding, now)
            named = [(finding, decided) for finding, decided in graded if decided.recorded]
            if not named:
                return Verdict(Action.ALLOW)
            by_category: dict[Category, list[tuple[Finding, Decided]]] = {}
            for finding, decided in named:
                by_category.setdefault(finding.category, []).append((finding, decided))
            # Every matter is recorded for itself: a permit or exemption in one must not silence another.
            verdicts = [self._matter(session, cell, group, current.version, now) for group in by_category.values()]
            return max(verdicts, key=lambda verdict: GRAVITY.index(verdict.action))

    def _matter(
        self, session: Session, cell: Cell, group: list[tuple[Finding, Decided]], version: int, now: datetime
    ) -> Verdict:
        """The verdict on the findings of one category: the gravest decides."""
        group.sort(key=lambda pair: (GRAVITY.index(pair[1].action), pair[0].level), reverse=True)
        findings = tuple(finding for finding, _ in group)
        return self._record(session, cell, findings, group[0][1].action, version, now)

    def _grade(self, session: Session, cell: Cell, finding: Finding, version: int, now: datetime) -> Decided:
        return decide(
            finding.level, finding.maturity, finding.category, self._standing(session, cell, finding, version, now)
        )

    def _standing(self, session: Session, cell: Cell, finding: Finding, version: int, now: datetime) -> Standing:
        """What the actor has declared; an exemption holds for the policy version it was given under."""
        if cell.actor is None:
            return Standing.PLAIN
        wanted = select(Exemption).where(
            Exemption.member == cell.actor,
            Exemption.category == finding.category.value,
            Exemption.policy_version == version,
            Exemption.ends_at > now,
        )
        found = session.scalars(wanted.order_by(Exemption.under_review)).first()
        if found is None:
            return Standing.PLAIN
        return Standing.UNDER_REVIEW if found.under_review else Standing.EXEMPT

    def _count(self, session: Session, finding: Finding, now: datetime) -> None:
        insert = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
        row = {
            "day": now.date(),
            "rule": finding.rule,
            "rule_version": finding.rule_version,
            "level": finding.level.key,
        }
        session.execute(
            insert(Tally)
            .values(**row, count=1)
            .on_conflict_do_update(index_elements=list(row), set_={"count": Tally.count + 1})
        )

    def _record(
        self, session: Session, cell: Cell, findings: tuple[Finding, ...], action: Action, version: int, now: datetime
    ) -> Verdict:
        gravest = findings[0]
        case = self._case(session, cell, gravest, version, now)
        case.seen += 1
        case.last_seen_at = now
        leave = permit.valid(session, cell.actor, cell.kernel, cell.digest, now) if action is Action.HOLD else None
        if leave is not None:
            leave.used += 1
        room = self._room(session, cell, case, action)
        if action is Action.ALLOW or leave is not None:
            if room and (leave is None or leave.used == 1):
                session.add_all(_observe(cell, case, finding, now) for finding in findings)
                content = {"case": case.number, "rule": gravest.rule, "permit": leave.id if leave else None}
                audit.append(session, now, "cell.allow", actor=None, subject=cell.actor, content=content)
            return Verdict(Action.ALLOW)
        if room:
            session.add_all(_observe(cell, case, finding, now) for finding in findings)
        clause = self.policies[version].clauses[gravest.category]
        notice = wording.write(action, findings, clause, version, case.number, self.pages, cell.digest)
        if room or self._hour_is_over(session, case, now):
            self._tell(session, cell, case, notice, gravest, version, now)
        return Verdict(action, notice)

    def _room(self, session: Session, cell: Cell, case: Case, action: Action) -> bool:
        """True while a run of this matter gets rows of its own; a held cell not seen before always needs one.

        Past that, repeats are counted in the case, and decision and notice are written once an hour.
        """
        mine = select(func.count()).select_from(Observation).where(Observation.case_id == case.id)
        rows = session.scalar(mine) or 0
        if rows < ROWS_A_CASE:
            return True
        known = select(Observation.id).where(
            Observation.case_id == case.id, Observation.kernel == cell.kernel, Observation.digest == cell.digest
        )
        return action is Action.HOLD and rows < MOST_ROWS_A_CASE and session.scalars(known.limit(1)).first() is None

    def _hour_is_over(self, session: Session, case: Case, now: datetime) -> bool:
        """True where the last decision of this case is an hour old."""
        last = session.scalars(select(func.max(Decision.at)).where(Decision.case_id == case.id)).one()
        return last is None or now - last >= REPEAT_EVERY

    def _case(self, session: Session, cell: Cell, finding: Finding, version: int, now: datetime) -> Case:
        """Today's case of this person and this matter, opened where there is none."""
        fingerprint = f"{finding.category}:{finding.rule}"
        wanted = select(Case).where(Case.fingerprint == fingerprint, Case.day == now.date())
        if cell.actor is None:
            wanted = wanted.where(Case.member.is_(None), Case.owner == cell.owner)
        else:
            wanted = wanted.where(Case.member == cell.actor)
        case = session.scalars(wanted).first()
        if case is None:
            case = Case(
                member=cell.actor,
                owner=cell.owner,
                fingerprint=fingerprint,
                category=finding.category.value,
                day=now.date(),
                policy_version=version,
                opened_at=now,
                last_seen_at=now,
                seen=0,
            )
            session.add(case)
            session.flush()
            content = {"case": case.number, "fingerprint": fingerprint, "owner": cell.owner}
            audit.append(session, now, "case.open", actor=None, subject=cell.actor, content=content)
        return case

    def _tell(
        self,
        session: Session,
        cell: Cell,
        case: Case,
        notice: Notice,
        gravest: Finding,
        version: int,
        now: datetime,
    ) -> None:
        """Write notice and decision together; the database takes neither alone."""
        texts = {lang: asdict(text) for lang, text in notice.texts.items()}
        stored = StoredNotice(
            case_id=case.id, member=cell.actor, written_at=now, action=notice.action.value, texts=texts
        )
        session.add(stored)
        session.flush()
        session.add(Delivery(notice_id=stored.id, at=now, channel="notebook", outcome="handed to the gate"))
        session.add(
            Decision(
                case_id=case.id,
                notice_id=stored.id,
                at=now,
                by="machine",
                action=notice.action.value,
                policy_version=version,
                reason=f"rule {gravest.rule} {gravest.rule_version}, {gravest.maturity}, {gravest.level.key}; "
                f"run {case.seen} of this matter today",
            )
        )
        content = {"case": case.number, "action": notice.action.value, "rule": gravest.rule, "policy": version}
        audit.append(session, now, f"cell.{notice.action}", actor=None, subject=cell.actor, content=content)


def _observe(cell: Cell, case: Case, finding: Finding, now: datetime) -> Observation:
    return Observation(
        case_id=case.id,
        at=now,
        sensor="gate",
        actor=cell.actor,
        owner=cell.owner,
        server=cell.server,
        kernel=cell.kernel,
        via=cell.via,
        digest=cell.digest,
        category=finding.category.value,
        rule=finding.rule,
        rule_version=finding.rule_version,
        maturity=finding.maturity.value,
        level=finding.level.key,
        line=finding.line,
        excerpt=finding.excerpt[:200],
        why=finding.why,
    )
