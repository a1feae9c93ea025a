"""The gate may die at any statement and at either side of any commit: what is written is whole, and written once.

A child process judges a cell and kills itself (SIGKILL) at one chosen moment; for every moment there is.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from mutirao.cases import adoption, permit
from mutirao.cases.action import Action
from mutirao.cases.cell import Cell
from mutirao.cases.desk import Desk
from mutirao.cases.wording import Pages
from mutirao.detect.finding import Finding, Level
from mutirao.errors import StoreError
from mutirao.policy.category import Category
from mutirao.policy.version import load_versions
from mutirao.store import audit
from mutirao.store.models import Audit, Case, Decision, Delivery, Notice, Observation, Tally
from mutirao.store.store import Store
from tests.cases.test_desk import Reader, finding

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MOMENTS = 200
"""More than any judgement has; a child that lives through all of them has reached the end."""

MATTERS: dict[str, tuple[Finding, ...]] = {
    "stop": (finding(Category.MINING),),
    "hold": (finding(Category.REMOTE_ACCESS),),
    "two matters": (finding(Category.MINING), finding(Category.P2P)),
    "note": (finding(Category.MINING, Level.NOTE),),
}
TOLD = {"stop": 1, "hold": 1, "two matters": 2}


def desk(url: str, matter: str) -> Desk:
    reader = Reader({"code": MATTERS[matter]})
    return Desk(Store(url), reader, load_versions(), Pages("http://hub/"), lambda: NOON)  # type: ignore[arg-type]


def judge(url: str, matter: str, at_moment: Callable[[], None] | None = None) -> Any:
    """Judge the cell once; `at_moment` is called before and after each statement and each commit."""
    made = desk(url, matter)
    if at_moment:
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(made.store.engine, name, lambda *_: at_moment())
        connection_commit = made.store.engine.dialect.do_commit

        def commit(connection: Any) -> None:
            connection_commit(connection)
            at_moment()

        made.store.engine.dialect.do_commit = commit  # type: ignore[method-assign]
    try:
        return made._decide(Cell("code", "ana", "ana", "", "k1"), MATTERS[matter])
    finally:
        made.store.close()


def dies_at(moment: int, work: Callable[[Callable[[], None]], Any]) -> bool:
    """Do `work` in a child that is killed at that moment; False where it had ended before."""
    child = os.fork()
    if child == 0:
        left = moment

        def at_moment() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            work(at_moment)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@dataclass(frozen=True)
class Books:
    """How many rows of each kind there are."""

    decisions: int
    notices: int
    deliveries: int
    observations: int
    cases: int
    seen: int


def books(url: str) -> Books:
    """Count, and check what must hold whatever happened."""
    store = Store(url)
    with store.read() as session:

        def rows(model: type) -> int:
            return session.scalar(select(func.count()).select_from(model)) or 0

        assert audit.verify(session.scalars(select(Audit).order_by(Audit.id))) is None
        told = list(session.scalars(select(Decision.notice_id)))
        assert sorted(told) == sorted(session.scalars(select(Notice.id))), "a decision or a notice stands alone"
        acts = list(session.scalars(select(Audit.act).where(Audit.act.like("cell.%"))))
        assert len(acts) == len(told), "the audit tells another story"
        found = Books(
            len(told),
            rows(Notice),
            rows(Delivery),
            rows(Observation),
            rows(Case),
            session.scalar(select(func.sum(Case.seen))) or 0,
        )
    store.close()
    assert found.decisions == found.notices == found.deliveries == found.observations == found.seen
    return found


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], str]:
    """A new database each time, with a policy in force."""
    template = tmp_path / "template.sqlite"
    store = Store(f"sqlite:///{template}")
    store.migrate()
    with store.write() as session:
        adoption.adopt(
            session,
            2,
            known={1, 2},
            effective_from=NOON.replace(year=2025),
            now=NOON.replace(year=2025),
            by="t",
            reason="r",
        )
    store.close()
    count = 0

    def make() -> str:
        nonlocal count
        count += 1
        place = tmp_path / f"{count}.sqlite"
        place.write_bytes(template.read_bytes())
        return f"sqlite:///{place}"

    return make


@pytest.mark.parametrize("matter", TOLD)
def test_a_gate_that_dies_while_it_judges_writes_all_or_nothing(fresh: Callable[[], str], matter: str) -> None:
    """And the same cell again, as its sender would, is written down once more and no oftener."""
    outcomes = []
    for moment in range(1, MOMENTS):
        url = fresh()
        if not dies_at(moment, lambda at, url=url: judge(url, matter, at)):
            break
        after_death = books(url).decisions
        assert after_death in (0, TOLD[matter]), f"torn at moment {moment}"
        assert judge(url, matter).action is not Action.ALLOW
        assert books(url).decisions == after_death + TOLD[matter], f"after a retry at moment {moment}"
        outcomes.append(after_death)
    else:
        raise AssertionError("never reached the end")

    # Nothing is there before the commit and all of it after: once it has happened it stays so.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == 0
    assert outcomes[-1] == TOLD[matter]
    assert len(outcomes) > 15


def test_a_repeat_that_dies_leaves_the_first_run_as_it_was(fresh: Callable[[], str]) -> None:
    for moment in range(1, MOMENTS):
        url = fresh()
        judge(url, "stop")
        if not dies_at(moment, lambda at, url=url: judge(url, "stop", at)):
            break
        found = books(url)
        assert found.decisions in (1, 2)
        assert found.cases == 1
    else:
        raise AssertionError("never reached the end")


def test_an_error_at_any_statement_writes_nothing_and_refuses_the_cell(fresh: Callable[[], str]) -> None:
    """A full disk, a database that went away: judging fails as a whole, and the gate then runs no cell."""

    class Broken(Exception):
        pass

    for moment in range(1, MOMENTS):
        url = fresh()
        left = moment

        def at_moment() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Broken

        try:
            judge(url, "two matters", at_moment)
            break
        except (Broken, StoreError):
            # After the commit it is written, though the gate did not hear of it: it is told on the member's page.
            assert books(url).decisions in (0, 2)
    else:
        raise AssertionError("never reached the end")


def test_a_permit_is_granted_and_used_whole(fresh: Callable[[], str]) -> None:
    """The held cell runs once for a reason that was given, whenever the gate dies."""
    for moment in range(1, MOMENTS):
        url = fresh()
        judge(url, "hold")
        store = Store(url)
        with store.write() as session:
            case = session.scalars(select(Case)).one()
            granted = permit.grant(session, case, "ana", "I test the server of my own course here.", NOON)
            assert isinstance(granted, permit.Granted)
        store.close()
        if not dies_at(moment, lambda at, url=url: judge(url, "hold", at)):
            break
        assert judge(url, "hold").action is Action.ALLOW
    else:
        raise AssertionError("never reached the end")


def test_what_is_only_counted_is_counted_once(fresh: Callable[[], str]) -> None:
    for moment in range(1, MOMENTS):
        url = fresh()
        if not dies_at(moment, lambda at, url=url: judge(url, "note", at)):
            break
        store = Store(url)
        with store.read() as session:
            assert (session.scalar(select(func.sum(Tally.count))) or 0) in (0, 1)
            assert session.scalar(select(func.count()).select_from(Decision)) == 0
        store.close()
    else:
        raise AssertionError("never reached the end")
