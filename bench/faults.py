"""Kernels go on and notices are told exactly once while every part of the service is killed again and again.

usage: ./run bench faults [--runtimes 20] [--kills 20] [--seed N]

So many members run counting cells through proxy and gate, every seventh a disallowed one, while hub, proxy, gate,
pages, broker and forwarder are each killed (SIGKILL) so many times, at random. Clients reconnect. Afterwards every
count must be there once, every refusal must have exactly one decision and one notice, and the audit must verify.
Printed: a table. Written: bench/results/faults.json. Exit status 1 where anything was lost or doubled.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from tests.flows.service import PASSWORD, Service, running
from tests.flows.test_restart import MARKS, parts

from bench.client import Kernel, Member
from mutirao.cases.cell import Cell

RESULTS = Path(__file__).parent / "results"
EVERY = 7
MOST_REFUSALS = 15
"""Past fifty rows of one matter in a day the desk only counts; this cell meets three rules, so a member stays below."""
PATIENCE_S = 180
AWAY = (aiohttp.ClientError, TimeoutError, ConnectionError, OSError)


@dataclass
class Player:
    """One member at one kernel: what was sent, what was answered, what went wrong."""

    name: str
    kernel: str = ""
    counted: int = 0
    seen: list[str] = field(default_factory=list)
    """Digests of the disallowed cells whose refusal was shown."""
    unseen: list[str] = field(default_factory=list)
    """Of those whose connection broke before an answer."""
    broken: int = 0
    longest_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    lost: bool = False


def disallowed(player: Player, attempt: int) -> str:
    """A cell that is not run, and that differs each time."""
    return f"!./xmrig -o stratum+tcp://pool.example.org:3333 -u {player.name}-{attempt}"


async def play(member: Member, player: Player, over: asyncio.Event, pause_s: float) -> None:
    """Run cells until it is over, through as many connections as it takes."""
    attempt = 0
    sure = True
    broke_at: float | None = None
    while not over.is_set():
        try:
            async with member.kernel(player.kernel) as kernel:
                if not sure:
                    await settle(kernel, player)
                    sure = True
                if broke_at is not None:
                    player.longest_s = max(player.longest_s, time.monotonic() - broke_at)
                    broke_at = None
                while not over.is_set():
                    attempt += 1
                    if attempt % EVERY == 0 and len(player.seen) + len(player.unseen) < MOST_REFUSALS:
                        await refuse(kernel, player, attempt)
                    else:
                        sure = False
                        ran = await kernel.run(f"seen.append({player.counted}); print(len(seen))", timeout_s=20)
                        player.counted += 1
                        sure = True
                        if ran.text.strip() != str(player.counted):
                            player.wrong.append(f"count {player.counted} printed {ran.text.strip()!r}")
                    await asyncio.sleep(pause_s)
        except AWAY:
            if broke_at is None:
                player.broken += 1
                broke_at = time.monotonic()
            await asyncio.sleep(0.1)


async def refuse(kernel: Kernel, player: Player, attempt: int) -> None:
    """Run a disallowed cell, and keep whether its notice was shown."""
    code = disallowed(player, attempt)
    digest = Cell(code, actor=None, owner="", server="", kernel="").digest
    player.unseen.append(digest)
    ran = await kernel.run(code, timeout_s=20)
    if not ran.refused:
        player.wrong.append(f"a disallowed cell was not refused: {ran.text[:100]!r}")
    elif "M-" not in ran.text:
        # Judging failed, which is said honestly and recorded nowhere: the cell is no loss, and no notice either.
        return
    player.unseen.remove(digest)
    player.seen.append(digest)


async def settle(kernel: Kernel, player: Player) -> None:
    """After a broken connection: did the cell that was under way run? The kernel knows."""
    counted = int((await kernel.run("print(len(seen))", timeout_s=20)).text)
    if counted not in (player.counted, player.counted + 1):
        player.wrong.append(f"the kernel counted {counted} where {player.counted} or one more had been sent")
    player.counted = counted


async def kill_all(service: Service, kills: int, chance: random.Random) -> Counter[str]:
    """Kill every part so many times, in random order, at random moments."""
    victims = [name for name in MARKS for _ in range(kills)]
    chance.shuffle(victims)
    done: Counter[str] = Counter()
    for name in victims:
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        async with asyncio.timeout(PATIENCE_S):
            while not (found := parts(service, MARKS[name])):
                await asyncio.sleep(0.05)
        os.kill(chance.choice(found), signal.SIGKILL)
        done[name] += 1
        print(f"\r{sum(done.values())} of {len(victims)} killed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return done


async def campaign(
    service: Service, runtimes: int, kills: int, seed: int
) -> tuple[list[Player], Counter[str], list[str]]:
    """Everybody starts, everything is killed, everybody checks; the last is what does not work at the end."""
    players = [Player(f"m{number:02}") for number in range(runtimes)]
    members = [Member(service.url, player.name, PASSWORD, keep_alive=False) for player in players]
    over = asyncio.Event()
    try:
        for member, player in zip(members, players, strict=True):
            await member.login()
            await member.start(timeout_s=PATIENCE_S)
            player.kernel = await member.new_kernel()
            async with member.kernel(player.kernel) as kernel:
                await kernel.run("seen = []")
        playing = [
            asyncio.create_task(play(member, player, over, runtimes / 40))
            for member, player in zip(members, players, strict=True)
        ]
        done = await kill_all(service, kills, random.Random(seed))
        over.set()
        await asyncio.gather(*playing)
        await asyncio.gather(*(check(member, player) for member, player in zip(members, players, strict=True)))
        return players, done, await still(members)
    finally:
        for member in members:
            await member.http.close()


async def check(member: Member, player: Player) -> None:
    """The same kernel, with every count once and in order."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with member.kernel(player.kernel) as kernel:
                text = (await kernel.run("print(seen)", timeout_s=20)).text
            break
        except AWAY:
            if time.monotonic() > deadline:
                player.lost = True
                return
            await asyncio.sleep(0.2)
    found = json.loads(text)
    # The last cell may have been under way when it was over.
    if found not in (list(range(player.counted)), list(range(player.counted + 1))):
        player.wrong.append(f"the kernel holds {len(found)} counts, {player.counted} were answered")


async def still(members: list[Member]) -> list[str]:
    """What does not work when all is over: pages, hub, and a runtime too many or too few."""
    wrong = []
    async with asyncio.timeout(PATIENCE_S):
        for path in ("hub/home", "services/mutirao/me"):
            while True:
                with suppress(*AWAY):
                    async with members[0].http.get(members[0].hub / path) as answer:
                        if answer.ok:
                            break
                await asyncio.sleep(0.2)
    standing = len(list(Path("/run/mutirao").glob("*/*.json")))
    if standing != len(members):
        wrong.append(f"{standing} runtimes stand, {len(members)} were started")
    return wrong


@dataclass
class Books:
    """What the database says of the refusals."""

    decisions: int
    notices: int
    missing: int
    """Refusals that were shown, and have no decision and notice."""
    doubled: int
    unshown: int
    """Written, but the connection broke before it was shown: the member finds it on their page."""
    strangers: int


def books(database: Path, players: list[Player]) -> Books:
    """Compare what was shown with what was written; one decision's observations share its case and its time."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT o.digest, count(DISTINCT d.id), count(DISTINCT d.notice_id) FROM observation o "
            "LEFT JOIN decision d ON d.case_id = o.case_id AND d.at = o.at GROUP BY o.digest"
        ).fetchall()
        (decisions,) = connection.execute("SELECT count(*) FROM decision").fetchone()
        (notices,) = connection.execute("SELECT count(*) FROM notice").fetchone()
    written = {digest: (decided, told) for digest, decided, told in rows}
    seen = {digest for player in players for digest in player.seen}
    unseen = {digest for player in players for digest in player.unseen}
    return Books(
        decisions,
        notices,
        missing=sum(written.get(digest) is None or min(written[digest]) < 1 for digest in seen),
        doubled=sum(max(pair) > 1 for pair in written.values()) + abs(decisions - notices),
        unshown=sum(digest in written for digest in unseen),
        strangers=len(set(written) - seen - unseen),
    )


def main() -> int:
    """Play, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", type=int, default=20)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    began = time.monotonic()
    with running("10.144.0.0/16") as service:
        players, done, wrong = asyncio.run(campaign(service, options.runtimes, options.kills, options.seed))
        found = books(service.data / "store" / "mutirao.sqlite", players)
        audit = service.command("audit", "verify").strip()
    counts = sum(player.counted for player in players)
    wrong += [f"{player.name}: {said}" for player in players for said in player.wrong]
    lost = sum(player.lost for player in players)
    rows: list[tuple[str, object]] = [
        ("runtimes", options.runtimes),
        *((f"{name} killed", done[name]) for name in MARKS),
        ("counting cells run", counts),
        ("connections that broke", sum(player.broken for player in players)),
        ("longest way back, s", round(max(player.longest_s for player in players), 1)),
        ("kernels lost", lost),
        ("counts lost or doubled", len(wrong)),
        ("refusals shown", sum(len(player.seen) for player in players)),
        ("decisions / notices", f"{found.decisions} / {found.notices}"),
        ("notices lost", found.missing),
        ("notices doubled", found.doubled + found.strangers),
        ("written, connection broke before shown", found.unshown),
        ("audit", audit),
        ("minutes", round((time.monotonic() - began) / 60, 1)),
        ("seed", options.seed),
    ]
    for name, value in rows:
        print(f"{name:40} {value}")
    for said in wrong:
        print(f"  {said}")
    RESULTS.mkdir(exist_ok=True)
    record = {"bench": "faults", **dict(rows), "wrong": wrong}
    (RESULTS / "faults.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return 1 if lost or wrong or found.missing or found.doubled or found.strangers else 0


if __name__ == "__main__":
    sys.exit(main())
