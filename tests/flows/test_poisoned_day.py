"""The poisoned package day, and the class of thirty, at the running service; crowd.py says what is simulated."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.flows.crowd import Crowd, gathered, settle, sql
from tests.flows.service import Service, running

WAIT_S = 60.0
WORDS = ("anton", "berta", "caesar", "dora", "emil", "frida")


def own_ways(number: int) -> tuple[str, ...]:
    """What one real offender does beside the package: three other matters, three strikes, each by a way of their own.

    Were they the same for all five, they would be one more cause that hits many, and one more incident.
    """
    word = WORDS[number]
    return (
        f"!python3 start.py UDP {word}.example.org:80 100 3600",
        f"!hashcat -m 1000 -a 0 {word}.txt rockyou.txt",
        f"!transmission-cli {word}.torrent",
    )


@pytest.fixture
def house() -> Iterator[Service]:
    # The shipped rule of one strike a day would spread the offenders' climb over three days.
    with running("10.162.0.0/16", "[cases]\nstrikes_a_day = 5\n") as service:
        yield service


def poison(number: int) -> str:
    """What the package has everybody run, each with a folder, a port and a name of their own."""
    return f"!/home/member/env{number}/bin/xmrig -o stratum+tcp://pool.example.org:3333 -u member{number} -p x"


def restricted(service: Service) -> set[str]:
    """Who is restricted now, by the operator's command."""
    return {line.split("\t")[1] for line in service.command("sanction", "list").splitlines()}


async def told_in_the_notebook(crowd: Crowd, name: str) -> None:
    """Their next clean cells run, and one of them brings the apology."""
    async with asyncio.timeout(WAIT_S):
        while True:
            (ran,) = await crowd.run(name, "1 + 1")
            assert not ran.refused
            if "We were wrong, and we are sorry" in ran.text:
                return


@pytest.mark.parametrize(
    ("people", "hit", "offenders"),
    [(30, 20, 2), pytest.param(300, 200, 5, marks=pytest.mark.campaign)],
    ids=["small", "whole"],
)
async def test_the_poisoned_package_day(house: Service, people: int, hit: int, offenders: int) -> None:
    names = [f"m{number:03}" for number in range(people)]
    victims, bad = names[:hit], names[hit - offenders : hit]
    innocent = [name for name in victims if name not in bad]
    settle(house, names)
    async with gathered(house, names) as crowd:
        # One of the victims had a strike of their own before: the package makes it two, and restricts their GPUs.
        early = innocent[0]
        assert (await crowd.run(early, own_ways(-1)[0], poison(0)))[1].refused
        assert restricted(house) == {early}
        sql(house, "UPDATE sanction SET begins_at = datetime(begins_at, '-2 hours')")

        ran = await crowd.all_run({name: poison(number) for number, name in enumerate(victims) if name != early})
        assert all(found.refused for found in ran.values())
        # Refused for what it is: a cell that found no judge in time is refused too, and counts for nobody.
        assert {name: found.text for name, found in ran.items() if "M-2" not in found.text} == {}
        assert restricted(house) == set()
        (line,) = house.command("incident", "list").splitlines()
        assert "\topen\t" in line
        assert f"{hit} people" in line

        for number, name in enumerate(bad):
            assert all(found.refused for found in await crowd.run(name, *own_ways(number)))
        assert restricted(house) == set(bad)
        # They climbed their own ladder, to its top: no code of theirs runs.
        scopes = sql(house, "SELECT member, scope FROM sanction WHERE lifted_at IS NULL AND incident_id IS NULL")
        assert {member for member, scope in scopes if scope == "compute"} == set(bad)
        async with asyncio.timeout(WAIT_S):
            for name in bad:
                while not (await crowd.run(name, "1 + 1"))[0].refused:
                    pass
        clean = await crowd.all_run(dict.fromkeys((name for name in names if name not in bad), "1 + 1"))
        assert not any(found.refused for found in clean.values())

        said = house.command(
            "incident",
            "reverse",
            line.split("\t")[0],
            "--by",
            "olga",
            "--why",
            "The package was poisoned, not the people.",
        )
        assert f"{hit} members are told" in said
        assert restricted(house) == set(bad)
        for name in innocent:
            await told_in_the_notebook(crowd, name)

    told = sql(house, "SELECT member FROM notice WHERE action = 'reverse'")
    assert sorted(member for (member,) in told) == victims
    # Nothing of the package is left on anybody: no strike but the offenders' own and the early one's, no restriction.
    live = sql(
        house, "SELECT member, count(*) FROM strike WHERE void_at IS NULL AND incident_id IS NULL GROUP BY member"
    )
    assert {member: int(count) for member, count in live} == {early: 1} | dict.fromkeys(bad, 3)
    ((given,),) = sql(house, f"SELECT sum(given_back_s) FROM sanction WHERE member = '{early}'")
    assert int(given) >= 7200
    assert {member for (member,) in sql(house, 'SELECT DISTINCT member FROM "case"')} == set(victims)
    assert "all in order" in house.command("audit", "verify")


async def test_in_a_class_of_thirty_behind_one_address_one_offender_is_touched_alone(house: Service) -> None:
    pupils = [f"pupil{number:02}" for number in range(30)]
    settle(house, pupils)
    offender = pupils[7]
    async with gathered(house, pupils) as crowd:
        assert all(found.refused for found in await crowd.run(offender, *own_ways(0)))
        assert restricted(house) == {offender}
        async with asyncio.timeout(WAIT_S):
            while not (await crowd.run(offender, "1 + 1"))[0].refused:
                pass
        others = await crowd.all_run(dict.fromkeys((name for name in pupils if name != offender), "1 + 1"))
        assert not any(found.refused or found.warned for found in others.values())

    assert sql(house, 'SELECT DISTINCT member FROM "case"') == [[offender]]
    assert sql(house, "SELECT name FROM member WHERE person IS NOT NULL") == []
    assert house.command("incident", "list") == ""
