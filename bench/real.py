"""Forty real notebooks, cell by cell, through the running service: who is stopped, who is told, what lacks a download.

usage: ./run bench real [--manifest MANIFEST.csv] [--clones FOLDER] [--benign 20] [--near 10] [--disallowed 10]

MANIFEST labels files by repository and commit (`repo, commit, path, label, hard, evidence, sha1, kind`); by default the
corpus beside this checkout. CLONES holds git clones as owner+name, bare or not; by default any folder beside this
checkout that holds such. The files are read from git and kept in memory alone: none of them enters the project.
The choice is the same in every run: repositories and categories in turn, by sha1. The runtimes have no network at all,
so nothing leaves the machine; a cell that fails for want of a package, a file or the network is told apart from one
that fails by itself. Written: bench/results/real.json with every verdict. Exit status 1 where a benign cell was stopped
or a disallowed notebook met no notice.
"""

import argparse
import asyncio
import csv
import hashlib
import itertools
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.flows.service import PASSWORD, running

from bench.client import Kernel, Member, Ran

RESULTS = Path(__file__).parent / "results"
CELL_TIMEOUT_S = 8.0
NOTEBOOK_TIMEOUT_S = 90.0
WITHOUT_NETWORK = "tcp_ports = []\ndns = false\n"
LACKS = (
    "ModuleNotFoundError",
    "No module named",
    "FileNotFoundError",
    "No such file or directory",
    "not found",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Could not resolve host",
    "Network is unreachable",
    "Connection refused",
    "Max retries exceeded",
    "URLError",
    "ConnectionError",
    "Could not find a version",
    "unable to resolve",
    "Operation not permitted",
    "NameError",
)
"""How a cell says that something was not downloaded, by itself or by a cell before it."""


class Outcome(StrEnum):
    """What became of a cell."""

    OK = "ok"
    WARNED = "warned"
    NOT_RUN = "not run"
    LACKS_DOWNLOAD = "lacks a download"
    FAILED = "failed by itself"
    TIMED_OUT = "interrupted"
    JUDGED_ONLY = "judged only"


@dataclass(frozen=True, slots=True)
class Row:
    """One file of the manifest."""

    repo: str
    commit: str
    path: str
    label: str
    near: bool
    sha1: str


@dataclass(slots=True)
class Walk:
    """One notebook's way through the service."""

    row: Row
    outcomes: list[Outcome] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def told(self) -> bool:
        """True where at least one cell met a notice."""
        return Outcome.WARNED in self.outcomes or Outcome.NOT_RUN in self.outcomes or bool(self.notices)


def read(manifest: Path, clones: Path) -> list[Row]:
    """The notebooks of the manifest that have a clone; those whose label only makes sense elsewhere are left out."""
    rows = []
    with manifest.open(newline="") as file:
        for entry in csv.DictReader(file):
            weak = entry["label"] != "benign" and entry["evidence"] != "self"
            if entry["kind"] == "ipynb" and not weak and clone(clones, entry["repo"]) is not None:
                near = entry["hard"] == "1"
                rows.append(Row(entry["repo"], entry["commit"], entry["path"], entry["label"], near, entry["sha1"]))
    return sorted(rows, key=lambda row: row.sha1)


def clone(clones: Path, repo: str) -> Path | None:
    """The git directory of a clone, where there is one."""
    plus = clones / repo.replace("/", "+")
    return next(
        (place for place in (plus / "repo" / ".git", plus / "repo", plus / ".git", plus) if (place / "HEAD").exists()),
        None,
    )


def content(row: Row, clones: Path) -> bytes:
    """The file as it is at the manifest's commit."""
    place = clone(clones, row.repo)
    assert place is not None
    command = ["git", "--git-dir", str(place), "cat-file", "blob", f"{row.commit}:{row.path}"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    if hashlib.sha1(data).hexdigest() != row.sha1:
        raise ValueError(f"{row.repo} {row.path} differs from the manifest")
    return data


def beside(name: str) -> Path | None:
    """A folder beside this checkout that holds `name`."""
    parent = Path(__file__).parents[2]
    return next((folder for folder in sorted(parent.iterdir()) if (folder / name).exists()), None)


def choose(rows: Iterable[Row], clones: Path, count: int) -> list[Row]:
    """`count` rows that are notebooks indeed, one from each (label, repository) in turn, labels first."""
    chosen: list[Row] = []
    for row in in_turn(rows):
        if len(chosen) == count:
            break
        try:
            cells(content(row, clones))
        except (ValueError, AttributeError, subprocess.CalledProcessError) as error:
            print(f"left out: {row.repo} {row.path} ({type(error).__name__}: {error})", file=sys.stderr)
        else:
            chosen.append(row)
    return chosen


def in_turn(rows: Iterable[Row]) -> Iterator[Row]:
    """All rows, one from each (label, repository) in turn, labels first."""
    by_label: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_label[row.label][row.repo].append(row)

    def one_label(repos: dict[str, list[Row]]) -> Iterator[Row]:
        for layer in itertools.zip_longest(*repos.values()):
            yield from (row for row in layer if row is not None)

    layers = itertools.zip_longest(*(one_label(by_label[label]) for label in sorted(by_label)))
    return (row for layer in layers for row in layer if row is not None)


def cells(data: bytes) -> list[str]:
    """The code cells of a notebook of format 3 or 4."""
    book = json.loads(data.decode("utf-8", errors="replace"))
    found = book.get("cells") or [cell for sheet in book.get("worksheets", []) for cell in sheet.get("cells", [])]
    texts = [cell.get("source", cell.get("input", "")) for cell in found if cell.get("cell_type") == "code"]
    return [text for text in ("".join(text) if isinstance(text, list) else text for text in texts) if text.strip()]


def outcome(ran: Ran) -> Outcome:
    """What became of a cell, from what the client saw."""
    if ran.refused:
        return Outcome.NOT_RUN
    if ran.warned:
        return Outcome.WARNED
    if ran.reply["status"] == "ok":
        failed = [line for line in LACKS[3:] if line in ran.text]
        return Outcome.LACKS_DOWNLOAD if failed else Outcome.OK
    if ran.reply["status"] == "error":
        said = f"{ran.reply.get('ename')}: {ran.reply.get('evalue')}"
        if "KeyboardInterrupt" in said:
            return Outcome.TIMED_OUT
        return Outcome.LACKS_DOWNLOAD if any(mark in said for mark in LACKS) else Outcome.FAILED
    return Outcome.FAILED


async def walk(member: Member, row: Row, clones: Path) -> Walk:
    """Send a notebook's cells one after another to a fresh kernel."""
    result = Walk(row)
    number = await member.new_kernel()
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        async with member.kernel(number) as kernel:
            for code in cells(content(row, clones)):
                late = clock() - began > NOTEBOOK_TIMEOUT_S
                ran = await run(member, number, kernel, "if False:\n    pass\n" + code if late else code, late)
                found = outcome(ran)
                result.outcomes.append(found)
                if found in (Outcome.NOT_RUN, Outcome.WARNED):
                    cards = [content["data"].get("text/plain", "") for content in ran.contents("display_data")]
                    result.notices += [
                        card.splitlines()[0] + " | " + card.splitlines()[2] for card in cards if "\n\n" in card
                    ]
    except (ConnectionError, TimeoutError) as error:
        print(f"  the kernel went away: {error!r}", file=sys.stderr)
        result.outcomes.append(Outcome.FAILED)
    await member.request("DELETE", f"api/kernels/{number}")
    return result


async def run(member: Member, number: str, kernel: Kernel, code: str, late: bool) -> Ran:
    """Run a cell for a few seconds; one that takes longer is interrupted, and one that won't stop loses its kernel."""
    interrupting = asyncio.create_task(_interrupt(member, number, 0.2 if late else CELL_TIMEOUT_S))
    try:
        return await kernel.run(code, timeout_s=CELL_TIMEOUT_S * 3)
    finally:
        interrupting.cancel()


async def _interrupt(member: Member, number: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    while True:
        await member.request("POST", f"api/kernels/{number}/interrupt")
        await asyncio.sleep(1)


async def walk_all(url: str, rows: list[Row], clones: Path) -> list[Walk]:
    """Every notebook, one after another, in one member's runtime."""
    walks = []
    async with Member(url, "reader", PASSWORD) as member:
        await member.start({"environment": "base", "size": "medium"})
        for number, row in enumerate(rows, 1):
            result = await walk(member, row, clones)
            counts = ", ".join(f"{count} {name}" for name, count in Counter(result.outcomes).items())
            print(
                f"{number:3}/{len(rows)} {row.label:18} {'near' if row.near else '':5} {row.repo[:45]:45} {counts}",
                flush=True,
            )
            walks.append(result)
        await member.stop()
    return walks


def main() -> int:
    """Choose, walk, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--clones", type=Path)
    parser.add_argument("--benign", type=int, default=20)
    parser.add_argument("--near", type=int, default=10)
    parser.add_argument("--disallowed", type=int, default=10)
    options = parser.parse_args()
    shared = beside("corpus/dev.csv")
    manifest = options.manifest or (shared / "corpus" / "dev.csv" if shared else None)
    if manifest is None or not manifest.is_file():
        print("There is no manifest: name one with --manifest.", file=sys.stderr)
        return 2
    with manifest.open(newline="") as file:
        repos = sorted({entry["repo"] for entry in csv.DictReader(file)})
    clones = options.clones or next((found for repo in repos if (found := beside(repo.replace("/", "+")))), None)
    if clones is None:
        print(f"No repository of {manifest} is cloned: name a folder of clones with --clones.", file=sys.stderr)
        return 2
    rows = read(manifest, clones)
    benign = choose((row for row in rows if row.label == "benign" and not row.near), clones, options.benign)
    near = choose((row for row in rows if row.label == "benign" and row.near), clones, options.near)
    disallowed = choose((row for row in rows if row.label != "benign"), clones, options.disallowed)
    chosen = [*benign, *near, *disallowed]
    if not chosen:
        print(f"{clones} holds no notebook of {manifest}.", file=sys.stderr)
        return 2
    # The sandbox section comes last in the service's file, so these keys belong to it.
    with running("10.141.0.0/16", WITHOUT_NETWORK) as service:
        walks = asyncio.run(walk_all(service.url, chosen, clones))
    stopped = [entry for entry in walks if entry.row.label == "benign" and Outcome.NOT_RUN in entry.outcomes]
    warned = [entry for entry in walks if entry.row.label == "benign" and Outcome.WARNED in entry.outcomes]
    silent = [entry for entry in walks if entry.row.label != "benign" and not entry.told]
    totals = Counter(found for entry in walks for found in entry.outcomes)
    print(
        f"\n{len(walks)} notebooks of {len({entry.row.repo for entry in walks})} repositories, "
        f"{sum(totals.values())} cells:"
    )
    for name, count in totals.most_common():
        print(f"  {name:18} {count}")
    print(f"benign notebooks with a cell not run: {len(stopped)}; with a warning: {len(warned)}")
    print(f"disallowed notebooks without a notice: {len(silent)} of {len(disallowed)}")
    for entry in (*stopped, *warned, *silent):
        print(f"  {entry.row.label} {entry.row.repo} {entry.row.path} {entry.notices[:2]}")
    RESULTS.mkdir(exist_ok=True)
    record = [
        {
            "repo": entry.row.repo,
            "sha1": entry.row.sha1,
            "label": entry.row.label,
            "near": entry.row.near,
            "cells": [str(found) for found in entry.outcomes],
            "notices": entry.notices,
        }
        for entry in walks
    ]
    summary = {"bench": "real", "totals": {str(key): value for key, value in totals.items()}, "notebooks": record}
    (RESULTS / "real.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return 1 if stopped or silent else 0


if __name__ == "__main__":
    sys.exit(main())
