"""Nobody can ask the pages without end: 429 says how long to wait, and others go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mutirao.web.app import PREFIX
from mutirao.web.limit import Limits, TooMany
from tests.web import twin
from tests.web.access import REASON
from tests.web.twin import House


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Time stands still, so that no bucket fills again."""
    with twin.house(tmp_path, limits=Limits(clock=Clock())) as fresh:
        yield fresh


async def test_reasons_are_taken_a_few_at_a_time(house: House) -> None:
    number = await house.case()
    async with house.browser("ana") as ana, house.browser("bia") as bia:
        codes = [(await ana.post(f"{PREFIX}case/{number}", data={"reason": REASON})).status_code for _ in range(40)]
        assert set(codes) == {403, 429}
        assert codes.index(429) == 30
        refused = await ana.post(f"{PREFIX}case/{number}", data={"reason": REASON})
        assert 0 < int(refused.headers["retry-after"]) <= 10
        assert "That was too often" in refused.text
        assert (await ana.get(f"{PREFIX}me")).status_code == 200
        assert (await bia.post(f"{PREFIX}case/{number}", data={"reason": REASON})).status_code == 404


async def test_a_members_script_is_slowed_and_its_neighbours_not(house: House) -> None:
    async with (
        house.browser(authorization="token ana-token") as ana,
        house.browser(authorization="token bia-token") as bia,
    ):
        codes = [(await ana.get(f"{PREFIX}api/me")).status_code for _ in range(310)]
        assert codes == [200] * 300 + [429] * 10
        refused = await ana.get(f"{PREFIX}api/me")
        assert refused.json() == {"detail": "too-many"}
        assert refused.headers["retry-after"] == "1"
        assert (await bia.get(f"{PREFIX}api/me")).status_code == 200


def scope(address: str, forwarded: str = "") -> dict[str, object]:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return {"type": "http", "client": (address, 1), "headers": headers}


def test_an_address_that_floods_waits_and_can_not_pass_for_another() -> None:
    limits = Limits(clock=Clock())
    for number in range(1500):
        limits.address(scope("127.0.0.1", f"198.51.100.{number % 250}, 203.0.113.9"))
    with pytest.raises(TooMany):
        limits.address(scope("127.0.0.1", "198.51.100.251, 203.0.113.9"))
    limits.address(scope("127.0.0.1", "203.0.113.10"))


def test_a_trusted_proxys_word_counts() -> None:
    limits = Limits(trusted=("10.0.0.1",), clock=Clock())
    for _ in range(1500):
        limits.address(scope("127.0.0.1", "203.0.113.9, 10.0.0.1"))
    with pytest.raises(TooMany):
        limits.address(scope("127.0.0.1", "203.0.113.9, 10.0.0.1"))
    limits.address(scope("127.0.0.1", "203.0.113.10, 10.0.0.1"))
