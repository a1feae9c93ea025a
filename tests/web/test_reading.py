"""An operator's look at another's case stands in the audit, once an hour; a member's own look does not."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from mutirao.cases.record import record_of
from mutirao.store import audit
from mutirao.store.models import Audit
from tests.web.twin import PREFIX, House, house


def looks(at: House) -> list[tuple[str | None, str | None, str]]:
    with at.store.read() as session:
        assert audit.verify(audit.entries(session)) is None
        found = session.scalars(select(Audit).where(Audit.act == "case.read").order_by(Audit.id))
        return [(entry.actor, entry.subject, (entry.content or {})["case"]) for entry in found]


@pytest.mark.parametrize("path", ["case", "api/cases"])
async def test_an_operator_s_look_is_written_once_an_hour(tmp_path: Path, path: str) -> None:
    with house(tmp_path) as at:
        number = await at.case()
        async with at.browser("olga") as operator:
            for step in (timedelta(0), timedelta(minutes=59), timedelta(minutes=2), timedelta(days=-1)):
                at.now += step
                assert (await operator.get(f"{PREFIX}{path}/{number}")).status_code == 200
        assert looks(at) == [("olga", "ana", number)] * 3


async def test_each_case_counts_for_itself(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        one = await at.case()
        at.now += timedelta(days=1)
        two = await at.case()
        async with at.browser("olga") as operator:
            for number in (one, two, one):
                await operator.get(f"{PREFIX}case/{number}")
        assert looks(at) == [("olga", "ana", one), ("olga", "ana", two)]


async def test_a_member_s_own_look_and_a_refused_one_leave_nothing(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        number = await at.case()
        for name in ("ana", "bia"):
            async with at.browser(name) as browser:
                await browser.get(f"{PREFIX}case/{number}")
        assert looks(at) == []


async def test_where_nobody_knows_who_ran_it_the_owner_is_told(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        number = await at.case(member=None)
        async with at.browser("olga") as operator:
            await operator.get(f"{PREFIX}case/{number}")
        async with at.browser("ana") as owner:
            await owner.get(f"{PREFIX}case/{number}")
        assert looks(at) == [("olga", "ana", number)]


async def test_the_member_sees_who_looked(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        number = await at.case()
        async with at.browser("olga") as operator:
            await operator.get(f"{PREFIX}case/{number}")
        with at.store.read() as session:
            acts = [(entry["act"], entry["actor"]) for entry in record_of(session, "ana")["audit"]]
    assert ("case.read", "olga") in acts
