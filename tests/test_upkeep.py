"""Upkeep signs heads where the chain grew, says what fails, and never stops anything."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from mutirao import config, upkeep
from mutirao.sandbox.doctor import State
from mutirao.store import audit, heads
from mutirao.store.models import Audit
from mutirao.store.store import Store
from mutirao.upkeep import Upkeep

ROOT = Path(upkeep.__file__).parents[1]


@dataclass
class House:
    """An instance's data folder with its chores."""

    data: Path
    store: Store
    settings: config.Settings
    upkeep: Upkeep

    def act(self) -> None:
        with self.store.write() as session:
            audit.append(session, datetime.now(UTC), "x", actor=None, subject="ana", content={})

    def heads(self) -> list[int]:
        return [head.number for head in heads.read(self.settings.heads_file)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    data = tmp_path / "data"
    (data / "store").mkdir(parents=True)
    (data / "logs").mkdir()
    settings = config.Settings.model_validate(
        {
            "service": {"data": data},
            "audit": {"heads": tmp_path / "mount" / "heads.jsonl"},
            "logs": {"max_mb": 1, "keep": 2},
        }
    )
    (tmp_path / "mount").mkdir()
    store = Store(settings.store_url)
    store.migrate()
    made = Upkeep(settings, os.environ | {"PYTHONPATH": str(ROOT)})
    made.prepare()
    yield House(data, store, settings, made)
    store.close()


async def test_a_head_is_signed_only_where_the_chain_grew(house: House) -> None:
    house.act()
    await house.upkeep.sign()
    await house.upkeep.sign()
    house.act()
    house.act()
    signed = await house.upkeep.sign()

    assert house.heads() == [1, 3]
    assert (signed.number, signed.error) == (3, "")
    key = heads.public_key((house.data / "audit" / "key.pub").read_text().strip())
    with house.store.read() as session:
        trusted = heads.trusted(heads.read(house.settings.heads_file), key)
        assert audit.verify(audit.entries(session), trusted) is None


async def test_an_empty_chain_has_no_head(house: House) -> None:
    await house.upkeep.sign()

    assert not house.settings.heads_file.exists()


async def test_a_mount_that_is_gone_is_said_and_made_up_for(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.act()
    mount = house.settings.heads_file.parent
    mount.rmdir()
    with caplog.at_level(logging.ERROR):
        failed = await house.upkeep.sign()
    assert "No such file" in failed.error
    assert "can't be signed" in caplog.text
    assert upkeep.examine(house.settings)[0].state is State.LACK

    mount.mkdir()
    healed = await house.upkeep.sign()
    assert (healed.number, healed.error) == (1, "")
    assert upkeep.examine(house.settings)[0].state is State.OK


async def test_a_database_that_is_away_is_said(house: House) -> None:
    house.act()
    house.upkeep.environment["MUTIRAO_DATABASE"] = "sqlite:////nonexistent/x.sqlite"

    assert "can't be opened" in (await house.upkeep.sign()).error


async def test_a_chain_that_was_changed_behind_a_head_is_noticed_at_the_next(house: House) -> None:
    for _ in range(3):
        house.act()
    await house.upkeep.sign()
    with house.store.write() as session:
        session.execute(delete(Audit).where(Audit.id == 3))
    signed = await house.upkeep.sign()

    assert "entry 3 is not the one that was signed" in signed.error
    assert house.heads() == [3]


async def test_personal_data_expires_by_the_chore(house: House) -> None:
    with house.store.write() as session:
        old = datetime.now(UTC) - timedelta(days=400)
        audit.append(session, old, "case.open", actor=None, subject="ana", content={})
    await house.upkeep.sweep()
    await house.upkeep.sweep()

    with house.store.read() as session:
        acts = list(session.scalars(select(Audit.act).order_by(Audit.id)))
        assert acts == ["erased", "privacy.sweep", "privacy.sweep", "privacy.erase"]
        assert audit.verify(audit.entries(session)) is None


async def test_zero_days_keep_for_ever(house: House) -> None:
    settings = house.settings.model_copy(update={"privacy": config.Privacy(keep_days=0)})
    await Upkeep(settings, house.upkeep.environment).sweep()

    with house.store.read() as session:
        assert session.scalars(select(Audit)).all() == []


def test_logs_are_cut_by_the_configured_size(house: House) -> None:
    log = house.data / "logs" / "hub.log"
    log.write_bytes(b"x" * (2 << 20))
    house.upkeep.cut_logs()

    assert (house.data / "logs" / "hub.log.1").stat().st_size == 2 << 20
    assert log.read_bytes().strip(b"\0") == b""


def test_the_key_stays_and_is_its_owner_s(house: House) -> None:
    before = (house.data / "audit" / "key.pub").read_text()
    house.upkeep.prepare()

    assert (house.data / "audit" / "key.pub").read_text() == before
    assert (house.data / "audit" / "key").stat().st_mode & 0o777 == 0o600


def test_a_damaged_state_counts_as_none(house: House) -> None:
    for text in ("", "{", "[]", json.dumps({"what": 1})):
        upkeep.state_file(house.data).write_text(text)
        assert upkeep.last_signed(house.data) == upkeep.Signed()
