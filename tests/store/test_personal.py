"""Forgetting: a person's names and words go everywhere, what was decided stays, and the audit still verifies."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import JSON, select
from sqlalchemy.types import String, TypeDecorator

from mutirao.cases import member, permit, record, sanction
from mutirao.cases.desk import Desk
from mutirao.cases.ladder import Scope
from mutirao.cases.wording import Pages
from mutirao.detect.engine import Engine
from mutirao.detect.pack import default_pack
from mutirao.policy.version import load_versions
from mutirao.store import audit, personal
from mutirao.store.consequence import Appeal, Letter, Member, Sanction
from mutirao.store.models import Base, Case, Decision, Delivery, Exemption, Notice
from mutirao.store.store import Store
from tests.cases.court import Court, with_rules
from tests.web import twin

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CELLS = ("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W", "!./ngrok tcp 22 --region us")


def test_every_column_with_text_is_named_personal_or_kept() -> None:
    """A new column must be thought of: whoever adds one decides whether it can name a person."""
    for name, table in Base.metadata.tables.items():
        texts = {
            column.name
            for column in table.columns
            if isinstance(column.type, String | JSON)
            or (isinstance(column.type, TypeDecorator) and isinstance(column.type.impl, String))
        }
        known = [*personal.NAMES.get(name, ()), *personal.TEXTS.get(name, ()), *personal.KEPT.get(name, ())]
        assert sorted(known) == sorted(texts), name


async def lived(store: Store) -> None:
    """Ana and Bia use the service: each has cases, a permit and an exemption; Ana works in Bia's runtime too."""
    twin_house = twin.House(store=store, app=None)  # type: ignore[arg-type]
    twin_house.adopt(2)
    desk = Desk(store, Engine(default_pack()), load_versions(), Pages("http://x/"), lambda: NOON)
    for actor, owner in (("ana", "ana"), ("bia", "bia"), ("ana", "bia"), (None, "ana")):
        for code in CELLS:
            from mutirao.cases.cell import Cell

            await desk.judge(Cell(code, actor, owner, "", "k1"))
    for name in ("ana", "bia"):
        with store.write() as session:
            case = session.scalars(
                select(Case).where(Case.member == name, Case.category == "remote-access").limit(1)
            ).one()
            loaded = record.find_case(session, case.number)
            assert loaded is not None
            granted = permit.grant(session, loaded, name, f"{name} has her own reason", NOON)
            assert isinstance(granted, permit.Granted)
            session.add(
                Exemption(
                    member=name, category="mining", policy_version=2, purpose=f"{name}'s purpose", under_review=True,
                    by="op", granted_at=NOON, ends_at=NOON,
                )
            )  # fmt: skip


def everything(store: Store) -> str:
    """All that the store holds, as text."""
    with store.read() as session:
        return "\n".join(
            repr(tuple(row)) for table in Base.metadata.sorted_tables for row in session.execute(table.select())
        )


async def test_nothing_names_a_person_who_was_forgotten_and_the_other_keeps_all(store: Store) -> None:
    await lived(store)
    with store.read() as session:
        decided = sorted((d.case_id, d.action, d.policy_version) for d in session.scalars(select(Decision)))
        bias = record.record_of(session, "bia")

    gone = personal.forget(store, "ana", NOON, "cli:root")

    text = everything(store)
    assert gone.cases >= 3
    assert "ana" not in text.replace("cli:root", "").lower().replace("analys", "").replace("análise", "")
    assert "'bia'" in text
    assert "bia has her own reason" in text
    with store.read() as session:
        assert sorted((d.case_id, d.action, d.policy_version) for d in session.scalars(select(Decision))) == decided
        assert audit.verify(audit.entries(session)) is None
        after = record.record_of(session, "bia")
        for table in ("cases", "observations", "decisions", "notices", "permits", "exemptions"):
            assert len(after[table]) == len(bias[table]), table
        mine = [o for o in after["observations"] if o["actor"] == "bia"]
        assert mine and all(o["excerpt"] for o in mine)
        for notice in session.scalars(select(Notice).where(Notice.member.like("forgotten-%"))):
            assert all(not text["facts"] for text in notice.texts.values())
            assert notice.texts["en"]["title"]


async def test_forgetting_nobody_changes_nothing(store: Store) -> None:
    await lived(store)
    before = everything(store)

    assert personal.forget(store, "nobody", NOON, "cli:root") == personal.Gone(0, 0)
    assert everything(store) == before


async def test_forgetting_twice_is_fine(store: Store) -> None:
    await lived(store)
    personal.forget(store, "ana", NOON, "cli:root")

    assert personal.forget(store, "ana", NOON, "cli:root") == personal.Gone(0, 0)
    with store.read() as session:
        assert audit.verify(audit.entries(session)) is None


async def test_the_pages_of_a_forgotten_case_still_open(tmp_path: Path) -> None:
    with twin.house(tmp_path) as house:
        number = await house.case()
        personal.forget(house.store, "ana", house.now, "cli:root")
        async with house.browser("olga") as operator:
            page = await operator.get(f"{twin.PREFIX}case/{number}")
        assert page.status_code == 200
        assert "start-a-tunnel" not in page.text
        async with house.browser("ana") as ana:
            assert (await ana.get(f"{twin.PREFIX}case/{number}")).status_code == 404


@pytest.mark.parametrize("name", ["ana%", "_na", "' OR 1=1 --", ""])
async def test_a_name_is_taken_literally(store: Store, name: str) -> None:
    await lived(store)

    assert personal.forget(store, name, NOON, "cli:root") == personal.Gone(0, 0)


async def restricted(store: Store) -> Court:
    """Ana is restricted by her second strike of one cause that hit Bia too; both have been here for long."""
    court = Court(store, with_rules(gpu_strikes=2, compute_strikes=3))
    court.settle("ana", "bia")
    for name in ("ana", "bia"):
        await court.run("mining/pool/evil-pool", name)
    await court.run("password-cracking/crack/hashcat", "ana")
    with store.write() as session:
        for made in session.scalars(select(Member)):
            made.mail, made.person, made.lang = f"{made.name}@example.org", f"{made.name}-key", "en"
    return court


async def test_a_restriction_in_force_keeps_its_name_until_it_has_ended(store: Store) -> None:
    court = await restricted(store)

    gone = personal.forget(store, "ana", NOON, "cli:root")

    assert gone.kept >= 1
    assert court.held(Scope.GPU) is not None
    with store.read() as session:
        assert sanction.unfounded(session, "ana", NOON, court.rules) == []
    court.later(days=8)
    assert personal.forget(store, "ana", court.now, "cli:root").kept == 0
    assert "ana" not in everything(store).replace("cli:root", "").lower().replace("análise", "")
    with store.read() as session:
        assert len(session.scalars(select(Sanction)).all()) == 1
        assert (
            session.scalars(
                select(Letter).join(Notice).where(Notice.member.like("forgotten-%"), Letter.done_at.is_(None))
            ).all()
            == []
        )


async def test_an_open_appeal_waits_for_its_answer(store: Store) -> None:
    court = await restricted(store)
    with store.write() as session:
        row = session.scalars(select(Sanction)).one()
        session.add(
            Appeal(
                case_id=row.case_id, decision_id=row.decision_id, member="ana", author="machine", text="I, ana, object",
                opened_at=NOON, due_at=NOON,
            )
        )  # fmt: skip
    court.later(days=30)

    assert personal.forget(store, "ana", court.now, "cli:root").kept == 1
    with store.write() as session:
        appeal = session.scalars(select(Appeal)).one()
        assert appeal.text == "I, ana, object"
        appeal.answered_at, appeal.answered_by, appeal.outcome, appeal.answer = court.now, "rita", "uphold", "no, ana"
    assert personal.forget(store, "ana", court.now, "cli:root").kept == 0
    with store.read() as session:
        appeal = session.scalars(select(Appeal)).one()
        assert (appeal.text, appeal.answer, appeal.outcome, appeal.answered_by) == ("", None, "uphold", "rita")


async def test_how_many_one_cause_hit_is_counted_with_those_who_were_forgotten(store: Store) -> None:
    court = await restricted(store)
    with store.read() as session:
        cause = session.scalars(select(Case).where(Case.member == "bia")).one().observations[0].cause
        assert cause is not None
        assert member.people_hit(session, cause, NOON, court.rules) == 2

    personal.forget(store, "bia", NOON, "cli:root")

    with store.read() as session:
        assert member.people_hit(session, cause, NOON, court.rules) == 2
        left = session.scalars(select(Member).where(Member.name.like("forgotten-%"))).one()
        assert (left.mail, left.person, left.lang) == (None, None, None)


async def test_time_takes_members_and_words_but_no_restriction_in_force(store: Store) -> None:
    court = await restricted(store)
    with store.write() as session:
        row = session.scalars(select(Sanction)).one()
        row.ends_at = NOON + timedelta(days=450)
        notice = session.scalars(select(Notice).where(Notice.case_id == row.case_id).limit(1)).one()
        session.add(Delivery(notice_id=notice.id, at=NOON, channel="mail", outcome="given up: 550 ana@example.org"))
    personal.expire(store, court.now, timedelta(days=365))
    for _ in range(53):
        court.later(days=7)
        personal.expire(store, court.now, timedelta(days=365))

    assert court.held(Scope.GPU) is not None
    assert "bia" not in everything(store)
    for _ in range(12):
        court.later(days=7)
        personal.expire(store, court.now, timedelta(days=365))

    assert "ana" not in everything(store).lower().replace("análise", "")
    assert court.count(Member) == 0
    assert court.count(Sanction) == 1
    assert court.audit_holds()
