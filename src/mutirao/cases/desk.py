"""The desk: a cell comes in, rules read it, the table decides, and the notice is written with the decision."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from mutirao.cases import account, casebook, decision, delivery, demotion, exemption, member, permit, wording
from mutirao.cases.account import Follows
from mutirao.cases.action import GRAVITY, Action
from mutirao.cases.adoption import in_force
from mutirao.cases.attendance import Attendance
from mutirao.cases.board import Board
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.decide import Decided, decide
from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice
from mutirao.cases.office import Office
from mutirao.cases.scan import InThreads, Scanner
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding
from mutirao.fairness import Cases
from mutirao.policy.category import Category
from mutirao.policy.version import PolicyVersion
from mutirao.store import audit
from mutirao.store.models import Case, Delivery
from mutirao.store.store import Store


class Desk:
    """Judges cells for the gate. `clock` gives aware UTC times; `policies` are the shipped versions by number."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        policies: dict[int, PolicyVersion],
        pages: wording.Pages,
        clock: Callable[[], datetime],
        rules: Cases | None = None,
        scanner: Scanner | None = None,
    ) -> None:
        self.store = store
        self.office = Office(policies, pages, rules or Cases())
        self.clock = clock
        self.board = Board(store, clock)
        self.attendance = Attendance(store, clock)
        self.scanner = scanner or InThreads(engine)

    async def judge(self, cell: Cell) -> Verdict:
        """The verdict on a cell, recorded before it is given; raises where judging fails, and never guesses.

        A clean cell of a member who is not restricted asks no database. A notice that waits for its member, such as
        the answer to an appeal, comes with their next clean cell, above its output.
        """
        look = await self.board.look()
        refusal = look.refusal(cell.actor, cell.owner, Halted.CELL, self.office.pages, self.clock())
        if refusal is not None:
            return Verdict(Action.STOP, refusal)
        findings = await self.scanner.scan(cell)
        if findings:
            return await asyncio.to_thread(self._decide, cell, findings)
        if cell.actor is not None:
            self.attendance.note(cell.actor)
            if waiting := look.letters.get(cell.actor):
                return await asyncio.to_thread(self._hand_over, cell.actor, waiting[0])
        return Verdict(Action.ALLOW)

    async def standing(self, actor: str | None, owner: str, halted: Halted) -> Notice | None:
        """The words for somebody who may not run code now, None for everybody else; nothing is recorded.

        What was ended is asked about after the fact, so a look from before it would not do.
        """
        if halted is Halted.RUNNING:
            self.board.soon()
        look = await self.board.look()
        return look.refusal(actor, owner, halted, self.office.pages, self.clock())

    def _hand_over(self, name: str, number: int) -> Verdict:
        """The cell runs, with a notice that waited for its member."""
        with self.store.write() as session:
            notice = delivery.take_notebook(session, number, self.clock())
        self.board.handed_over(name, number)
        return Verdict(Action.ALLOW) if notice is None else Verdict(Action.WARN, notice)

    def _decide(self, cell: Cell, findings: tuple[Finding, ...]) -> Verdict:
        now = self.clock()
        with self.store.write() as session:
            current = in_force(session, now)
            clauses = self.office.policies[current.version].clauses
            if cell.actor is not None:
                member.seen(session, cell.actor, now)
            # What a rule may do is what its shipped maturity and its own record both allow.
            findings = demotion.graded(session, findings)
            graded = [
                (finding, self._grade(session, cell, finding, current.version, now))
                for finding in findings
                if finding.category in clauses
            ]
            for finding, decided in graded:
                if not decided.recorded:
                    casebook.count(session, finding, now)
            named = [(finding, decided) for finding, decided in graded if decided.recorded]
            if not named:
                return Verdict(Action.ALLOW)
            by_category: dict[Category, list[tuple[Finding, Decided]]] = {}
            for finding, decided in named:
                by_category.setdefault(finding.category, []).append((finding, decided))
            # Every matter is recorded for itself: a permit or exemption in one must not silence another.
            # But one cell brings one strike at most.
            verdicts: list[Verdict] = []
            struck = False
            for group in by_category.values():
                verdict, strikes = self._matter(session, cell, group, current.version, now, struck=struck)
                verdicts.append(verdict)
                struck = struck or strikes
            return max(verdicts, key=lambda verdict: GRAVITY.index(verdict.action))

    def _matter(
        self,
        session: Session,
        cell: Cell,
        group: list[tuple[Finding, Decided]],
        version: int,
        now: datetime,
        *,
        struck: bool,
    ) -> tuple[Verdict, bool]:
        """The verdict on the findings of one category, where the gravest decides, and whether it brought a strike."""
        group.sort(key=lambda pair: (GRAVITY.index(pair[1].action), pair[0].level), reverse=True)
        findings = tuple(finding for finding, _ in group)
        return self._record(session, cell, findings, group[0][1].action, version, now, struck)

    def _grade(self, session: Session, cell: Cell, finding: Finding, version: int, now: datetime) -> Decided:
        standing = exemption.standing(session, cell.actor, finding.category, version, now)
        return decide(finding.level, finding.maturity, finding.category, standing)

    def _record(
        self,
        session: Session,
        cell: Cell,
        findings: tuple[Finding, ...],
        action: Action,
        version: int,
        now: datetime,
        struck: bool,
    ) -> tuple[Verdict, bool]:
        gravest = findings[0]
        case = casebook.find_or_open(session, cell, gravest, version, now)
        case.seen += 1
        case.last_seen_at = now
        leave = permit.valid(session, cell.actor, cell.kernel, cell.digest, now) if action is Action.HOLD else None
        if leave is not None:
            leave.used += 1
        room = casebook.room(session, cell, case, action)
        if action is Action.ALLOW or leave is not None:
            if room and (leave is None or leave.used == 1):
                session.add_all(casebook.observe(cell, case, finding, now) for finding in findings)
                content = {"case": case.number, "rule": gravest.rule, "permit": leave.id if leave else None}
                audit.append(session, now, "cell.allow", actor=None, subject=cell.actor, content=content)
            return Verdict(Action.ALLOW), False
        if room:
            session.add_all(casebook.observe(cell, case, finding, now) for finding in findings)
            session.flush()
        follows = None
        if action is Action.STOP:
            follows = account.weigh(session, self.office, case, gravest, now, struck=struck)
        clause = self.office.policies[version].clauses[gravest.category]
        notice = wording.write(
            action,
            findings,
            clause,
            version,
            case.number,
            self.office.pages,
            cell.digest,
            follows.words(now, self.office) if follows else None,
            follows.action if follows else None,
        )
        strikes = follows is not None and follows.decided.strike
        if room or strikes or casebook.hour_is_over(session, case, now):
            self._tell(session, case, notice, gravest, follows, version, now)
        return Verdict(action, notice), strikes

    def _tell(
        self,
        session: Session,
        case: Case,
        notice: Notice,
        gravest: Finding,
        follows: Follows | None,
        version: int,
        now: datetime,
    ) -> None:
        """Write notice and decision together, and what follows for the account; the database takes neither alone."""
        reason = (
            f"rule {gravest.rule} {gravest.rule_version}, {gravest.maturity}, {gravest.level.key}; "
            f"run {case.seen} of this matter today"
        )
        heavy = follows is not None and follows.decided.consequence is not None
        made = decision.record(
            session,
            case,
            notice,
            by=decision.MACHINE,
            reason=reason,
            now=now,
            version=version,
            act=f"cell.{notice.action}",
            channels=("mail",) if heavy else (),
            more={"rule": gravest.rule},
        )
        session.add(Delivery(notice_id=made.notice_id, at=now, channel="notebook", outcome="handed to the gate"))
        if follows is not None:
            account.apply(session, self.office, case, made, follows, gravest, now)
            if heavy:
                self.board.soon()
