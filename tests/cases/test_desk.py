"""The desk: from a cell to a recorded decision, with a clock that the test moves."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from mutirao.cases import adoption, permit, record
from mutirao.cases.action import Action
from mutirao.cases.casebook import ROWS_A_CASE
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.desk import Desk
from mutirao.cases.wording import Pages
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.errors import PolicyError
from mutirao.policy.category import Category
from mutirao.policy.version import load_versions
from mutirao.store import audit
from mutirao.store.models import Audit, Case, Decision, Delivery, Exemption, Notice, Observation, Tally
from mutirao.store.store import Store
from tests.database import migrated

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Reader:
    """An engine whose findings the test sets: the code is the key."""

    known: dict[str, tuple[Finding, ...]] = field(default_factory=dict)

    def scan(self, code: str, language: str = "python") -> tuple[Finding, ...]:
        return self.known.get(code, ())


def finding(
    category: Category, level: Level = Level.STOP, maturity: Maturity = Maturity.STABLE, **changes: object
) -> Finding:
    made = Finding(
        rule=f"{category}-rule",
        rule_version="1.0.0",
        category=category,
        level=level,
        maturity=maturity,
        line=1,
        excerpt="x" * 300,
        why={"en": "It does x", "pt-BR": "Faz x"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class World:
    store: Store
    reader: Reader
    clock: Clock
    desk: Desk

    def rows(self, model: type) -> int:
        with self.store.read() as session:
            return session.scalar(select(func.count()).select_from(model)) or 0

    async def run(
        self, category: Category, level: Level = Level.STOP, maturity: Maturity = Maturity.STABLE, **cell: object
    ) -> Verdict:
        self.reader.known["code"] = (finding(category, level, maturity),)
        values = {"actor": "ana", "owner": "ana", "server": "", "kernel": "k1"} | cell
        return await self.desk.judge(Cell("code", **values))  # type: ignore[arg-type]


@pytest.fixture
def world(store: Store) -> World:
    with store.write() as session:
        adoption.adopt(session, 2, known={1, 2}, effective_from=NOON, now=NOON, by="op", reason="start")
    reader, clock = Reader(), Clock()
    desk = Desk(store, reader, load_versions(), Pages("http://x/services/mutirao/"), clock)  # type: ignore[arg-type]
    return World(store, reader, clock, desk)


async def test_a_harmless_cell_leaves_no_trace(world: World) -> None:
    before = world.rows(Audit)

    assert await world.desk.judge(Cell("1 + 1", "ana", "ana", "", "k1")) == Verdict(Action.ALLOW)

    assert world.rows(Audit) == before
    assert world.rows(Case) == 0


async def test_a_stop_is_recorded_with_notice_decision_and_audit(world: World) -> None:
    verdict = await world.run(Category.MINING)

    assert verdict.action is Action.STOP
    assert verdict.notice is not None
    assert [world.rows(table) for table in (Case, Observation, Notice, Decision, Delivery)] == [1, 1, 1, 1, 1]
    with world.store.read() as session:
        case = record.find_case(session, verdict.notice.case or "")
        assert case is not None
        assert (case.member, case.policy_version, case.decisions[0].by) == ("ana", 2, "machine")
        assert len(case.observations[0].excerpt) == 200
        assert audit.verify(session.scalars(select(Audit).order_by(Audit.id))) is None


async def test_a_notice_names_facts_clause_consequence_and_the_way_on_in_both_languages(world: World) -> None:
    notice = (await world.run(Category.MINING)).notice

    assert notice is not None
    for lang, words in (("en", ("Policy 2", "Line 1", "It does x")), ("pt-BR", ("Política 2", "Linha 1", "Faz x"))):
        text = notice.text(lang)
        assert text.lang == lang
        plain = text.plain()
        for word in (
            *words,
            f"http://x/services/mutirao/case/{notice.case}",
            "http://x/services/mutirao/policy#mining",
        ):
            assert word in plain


async def test_a_note_is_counted_without_a_person(world: World) -> None:
    for _ in range(3):
        assert (await world.run(Category.MINING, Level.NOTE)).action is Action.ALLOW

    assert world.rows(Case) == world.rows(Observation) == 0
    with world.store.read() as session:
        assert session.scalars(select(Tally.count)).one() == 3


async def test_what_no_policy_in_force_says_is_not_enforced(world: World) -> None:
    """Rule 8: under policy 1 a face swap runs without a word; under policy 2 it does not."""
    with world.store.write() as session:
        adoption.adopt(
            session, 1, known={1, 2}, effective_from=NOON + timedelta(hours=1), now=NOON, by="op", reason="x"
        )
        adoption.adopt(
            session, 2, known={1, 2}, effective_from=NOON + timedelta(hours=2), now=NOON, by="op", reason="y"
        )
    world.clock.now = NOON + timedelta(minutes=90)
    assert await world.run(Category.DEEPFAKE) == Verdict(Action.ALLOW)
    assert world.rows(Case) == 0

    world.clock.now = NOON + timedelta(hours=2)

    assert (await world.run(Category.DEEPFAKE)).action is Action.STOP


async def test_without_a_policy_judging_fails_loudly(tmp_path: Path) -> None:
    store = migrated(tmp_path / "y.sqlite")
    reader = Reader({"code": (finding(Category.MINING),)})
    desk = Desk(store, reader, load_versions(), Pages("/"), Clock())  # type: ignore[arg-type]

    with pytest.raises(PolicyError, match="mutirao policy adopt"):
        await desk.judge(Cell("code", "ana", "ana", "", "k1"))


async def test_one_case_a_member_a_matter_a_day(world: World) -> None:
    for _ in range(3):
        await world.run(Category.MINING)
    await world.run(Category.MINING, actor="bia")
    assert world.rows(Case) == 2
    world.clock.now += timedelta(days=1)

    await world.run(Category.MINING)

    assert world.rows(Case) == 3


async def test_a_loop_does_not_fill_the_disk(world: World) -> None:
    for _ in range(ROWS_A_CASE + 20):
        verdict = await world.run(Category.MINING)

    assert verdict.action is Action.STOP
    assert verdict.notice is not None
    assert world.rows(Observation) == world.rows(Decision) == ROWS_A_CASE  # the rest is told hourly, see below
    with world.store.read() as session:
        assert session.scalars(select(Case.seen)).one() == ROWS_A_CASE + 20


async def test_the_actor_is_told_apart_from_the_owner(world: World) -> None:
    await world.run(Category.MINING, actor="bia", owner="ana")

    with world.store.read() as session:
        assert session.scalars(select(Case.member)).one() == "bia"
        assert record.cases_of(session, "ana") == []


async def test_a_hold_runs_with_a_reason_for_ten_minutes(world: World) -> None:
    verdict = await world.run(Category.REMOTE_ACCESS)
    assert verdict.action is Action.HOLD
    number = verdict.notice.case if verdict.notice else ""
    with world.store.write() as session:
        case = record.find_case(session, number or "")
        assert case is not None
        assert isinstance(permit.grant(session, case, "ana", "We test our own bastion host", NOON), permit.Granted)

    assert (await world.run(Category.REMOTE_ACCESS)).action is Action.ALLOW
    assert (await world.run(Category.REMOTE_ACCESS, kernel="k2")).action is Action.HOLD
    assert (await world.run(Category.REMOTE_ACCESS, actor="bia")).action is Action.HOLD
    assert (await world.run(Category.REMOTE_ACCESS, actor=None)).action is Action.HOLD
    world.clock.now += timedelta(minutes=10)
    assert (await world.run(Category.REMOTE_ACCESS)).action is Action.HOLD


@pytest.mark.parametrize(
    ("category", "member", "reason", "why"),
    [
        (Category.MINING, "ana", "a good enough reason", "never-held"),
        (Category.DOS, "ana", "a good enough reason", "never-held"),
        (Category.P2P, "ana", "a good enough reason", "not-held"),
        (Category.REMOTE_ACCESS, "bia", "a good enough reason", "not-held"),
        (Category.REMOTE_ACCESS, "ana", "  short   ", "reason-length"),
        (Category.REMOTE_ACCESS, "ana", "x" * 2001, "reason-length"),
    ],
)
async def test_no_permit_is_given(world: World, category: Category, member: str, reason: str, why: str) -> None:
    verdict = await world.run(category)
    with world.store.write() as session:
        case = record.find_case(session, (verdict.notice.case if verdict.notice else None) or "")
        assert case is not None

        assert permit.grant(session, case, member, reason, NOON) == permit.Refused(why)


async def test_an_exemption_allows_under_its_policy_version_until_it_ends(world: World) -> None:
    def exempt(version: int) -> None:
        with world.store.write() as session:
            session.add(
                Exemption(
                    member="ana", category="password-cracking", policy_version=version, purpose="course", under_review=False,
                    by="rev", granted_at=NOON, ends_at=NOON + timedelta(days=1),
                )
            )  # fmt: skip

    exempt(1)
    assert (await world.run(Category.PASSWORD_CRACKING)).action is Action.STOP
    exempt(2)

    assert (await world.run(Category.PASSWORD_CRACKING)).action is Action.ALLOW
    with world.store.read() as session:
        assert "cell.allow" in session.scalars(select(Audit.act)).all()
    world.clock.now += timedelta(days=1)
    assert (await world.run(Category.PASSWORD_CRACKING)).action is Action.STOP


async def test_the_gravest_finding_decides(world: World) -> None:
    world.reader.known["code"] = (
        finding(Category.P2P, Level.WARN),
        finding(Category.REMOTE_ACCESS),
        finding(Category.MINING),
        finding(Category.DOS, Level.NOTE),
    )

    verdict = await world.desk.judge(Cell("code", "ana", "ana", "", "k1"))

    assert verdict.action is Action.STOP
    assert verdict.notice is not None
    assert verdict.notice.category is Category.MINING


async def test_my_record_is_whole_and_holds_nobody_else(world: World) -> None:
    await world.run(Category.MINING)
    await world.run(Category.P2P, actor="bia", owner="ana")

    with world.store.read() as session:
        mine = record.record_of(session, "ana")

    assert [case["category"] for case in mine["cases"]] == ["mining"]
    assert len(mine["observations"]) == len(mine["decisions"]) == len(mine["notices"]) == 1
    assert {entry["subject"] for entry in mine["audit"]} == {"ana"}


@pytest.mark.parametrize(
    "number", ["", "M", "M-2026-", "M-2026-000099", "M-1999-000001", "M-2026-１", "X-2026-000001", "M-2026-9" * 9]
)
async def test_a_wrong_case_number_finds_nothing(world: World, number: str) -> None:
    await world.run(Category.MINING)

    with world.store.read() as session:
        assert record.find_case(session, number) is None


def test_a_policy_can_not_take_effect_in_the_past_or_be_unknown(world: World) -> None:
    with world.store.write() as session:
        with pytest.raises(PolicyError, match="has passed"):
            adoption.adopt(session, 1, known={1, 2}, effective_from=NOON - timedelta(1), now=NOON, by="op", reason="x")
        with pytest.raises(PolicyError, match="does not ship"):
            adoption.adopt(session, 9, known={1, 2}, effective_from=NOON, now=NOON, by="op", reason="x")


async def test_a_permit_for_one_matter_does_not_silence_another(world: World) -> None:
    """Issue 2: a reason makes a held cell run, never a mining one, and what else it does is told."""
    held, mined, warned = finding(Category.REMOTE_ACCESS), finding(Category.MINING), finding(Category.P2P, Level.WARN)
    cell = Cell("code", "ana", "ana", "", "k1")
    world.reader.known["code"] = (held, warned)
    number = (await world.desk.judge(cell)).notice.case  # type: ignore[union-attr]
    with world.store.write() as session:
        case = record.find_case(session, number or "")
        assert case is not None
        permit.grant(session, case, "ana", "We test our own bastion host", NOON)

    assert (await world.desk.judge(cell)).action is Action.WARN
    world.reader.known["code"] = (held, mined)
    assert (await world.desk.judge(cell)).action is Action.STOP
    assert world.rows(Case) == 3


async def test_each_held_cell_of_a_case_needs_its_own_reason(world: World) -> None:
    cells = [Cell(code, "ana", "ana", "", "k1") for code in ("one", "two")]
    links = []
    for cell in cells:
        world.reader.known[cell.code] = (finding(Category.REMOTE_ACCESS),)
        notice = (await world.desk.judge(cell)).notice
        assert notice is not None
        links.append(notice.text("en").links[0][1])
    assert [link.partition("?cell=")[2] for link in links] == [cell.digest[:12] for cell in cells]
    with world.store.write() as session:
        case = record.find_case(session, notice.case or "")
        assert case is not None

        permit.grant(session, case, "ana", "only the first of the two", NOON, cell=cells[0].digest[:12])

    assert (await world.desk.judge(cells[0])).action is Action.ALLOW
    assert (await world.desk.judge(cells[1])).action is Action.HOLD


async def test_a_held_cell_can_be_permitted_after_many_others(world: World) -> None:
    for number in range(ROWS_A_CASE + 5):
        world.reader.known[f"cell {number}"] = (finding(Category.REMOTE_ACCESS),)
        notice = (await world.desk.judge(Cell(f"cell {number}", "ana", "ana", "", "k1"))).notice
    assert notice is not None
    with world.store.write() as session:
        case = record.find_case(session, notice.case or "")
        assert case is not None
        permit.grant(session, case, "ana", "the last of many cells", NOON)

    assert (await world.desk.judge(Cell(f"cell {number}", "ana", "ana", "", "k1"))).action is Action.ALLOW


async def test_a_permit_is_not_given_twice(world: World) -> None:
    notice = (await world.run(Category.REMOTE_ACCESS)).notice
    assert notice is not None
    with world.store.write() as session:
        case = record.find_case(session, notice.case or "")
        assert case is not None
        for _ in range(5):
            permit.grant(session, case, "ana", "again and again", NOON)
            session.refresh(case)

        assert len(case.permits) == 1


async def test_a_repeat_is_told_again_every_hour(world: World) -> None:
    """Rule 1: past the rows of a case its repeats are counted, and a decision with its notice names how many."""
    for _ in range(ROWS_A_CASE + 20):
        await world.run(Category.MINING)
    told = world.rows(Decision)
    world.clock.now += timedelta(hours=1)

    await world.run(Category.MINING)

    assert world.rows(Decision) == world.rows(Notice) == told + 1
    with world.store.read() as session:
        last = session.scalars(select(Decision.reason).order_by(Decision.id.desc())).first()
    assert f"run {ROWS_A_CASE + 21} of this matter" in (last or "")
