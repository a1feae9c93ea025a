"""How fast a scan is: against Python's own parser, against hostile input, over many files, against other code scanners.

usage: ./run bench scan --manifest CSV --files DIR [--peer-files 300]

DIR holds the files as `<sha1>.<kind>`. Cells are those of the files that `ast.parse` takes; larger texts are such cells
put one after another to 100 kB. Each text is read three times by each side in turn, and the least processor time
counts. Other scanners get some files of the manifest as scripts, cells one after another with shell lines as
`get_ipython().system(…)`, and so do we in that comparison; semgrep has no rules of its own offline, so it gets eight.
Printed: times, ratios, the targets (exit status 1 where one is missed). Written: bench/results/scan.json.
"""

import argparse
import ast
import csv
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.detect.test_fuzz import NASTY, PADDED

from mutirao import scan
from mutirao.detect.engine import Engine
from mutirao.detect.pack import default_pack
from mutirao.detect.source.cell import split_lines
from mutirao.errors import ScanError, TooLongError

RESULTS = Path(__file__).parent / "results"
SMALL, LARGE = 4_096, 100_000
ENGINE = Engine(default_pack())
LIMIT_MS, LIMIT_MB = 250, 200
CALLS = ("os.system($X)", "subprocess.run(...)", "subprocess.Popen(...)", "eval($X)", "exec($X)")
CALLS += ("get_ipython().system($X)", "base64.b64decode($X)", "requests.get(...)")


def cells(paths: Iterable[Path]) -> list[str]:
    """The Python cells of the files that Python's own parser takes as they stand."""
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        try:
            listed = scan.notebook_cells(text) if path.suffix == ".ipynb" else [(text, scan.SUFFIXES[path.suffix])]
        except (ValueError, RecursionError, ScanError):
            continue
        found += [code for code, language in listed if language == "python" and code.strip() and parses(code)]
    return found


def parses(code: str) -> bool:
    """Whether it is plain Python."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def joined(pieces: list[str], size: int) -> list[str]:
    """The cells put together to texts of about `size` bytes."""
    out, held = [], ""
    for piece in pieces:
        if "__future__" in piece or len(piece) > size // 4:
            continue
        held += piece + "\n"
        if len(held) >= size:
            out.append(held)
            held = ""
    return [text for text in out if parses(text)]


def walk(code: str) -> int:
    """Python's parser, and one walk over all that it found."""
    return sum(1 for _ in ast.walk(ast.parse(code)))


def ours(code: str) -> None:
    """One scan, as the gate does it."""
    with suppress(TooLongError):
        ENGINE.scan(code)


def times_ms(texts: list[str], *sides: Callable[[str], object]) -> list[list[float]]:
    """For each side, the least of three processor times for each text, in turns."""
    out: list[list[float]] = [[] for _ in sides]
    gc.collect()
    gc.disable()
    for text in texts:
        least = [float("inf")] * len(sides)
        for _ in range(3):
            for at, side in enumerate(sides):
                start = time.process_time_ns()
                side(text)
                least[at] = min(least[at], (time.process_time_ns() - start) / 1e6)
        for at, value in enumerate(least):
            out[at].append(value)
    gc.enable()
    return out


def compare(texts: list[str]) -> dict[str, Any]:
    """Median and p99 of both, and their ratios."""
    mine, parser = times_ms(texts, ours, walk)
    rows = {}
    for name, samples in (("ours", mine), ("ast", parser)):
        cuts = statistics.quantiles(samples, n=100)
        rows[name] = {"p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(samples)}
    ratios = {key: rows["ours"][key] / rows["ast"][key] for key in ("p50_ms", "p99_ms")}
    return {"texts": len(texts), **rows, "ratio": ratios}


def _hostile(code: str, language: str, pipe: Connection) -> None:
    def memory_kb(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = memory_kb("VmRSS")
    start = time.process_time()
    try:
        ENGINE.scan(code, language)
        said = "read"
    except TooLongError:
        said = "too long to judge"
    pipe.send((1000 * (time.process_time() - start), (memory_kb("VmHWM") - before) / 1024, said))


def hostile() -> dict[str, dict[str, Any]]:
    """Each hostile input in a process of its own: processor time, memory over what stood, and what came of it."""
    context = get_context("fork")
    inputs = {**NASTY, **{f"padded: {name}": code for name, code in PADDED.items()}}
    out = {}
    for name, code in inputs.items():
        code += "\n# xmrig"  # a word that is looked for, so that nothing leaves before it is parsed
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_hostile, args=(code, "python", theirs))
        process.start()
        theirs.close()
        try:
            ms, mb, said = mine.recv() if mine.poll(60) else (60_000.0, 0.0, "hung")
        except EOFError:
            ms, mb, said = 0.0, 0.0, "crashed"
        process.kill()
        process.join()
        out[name] = {"ms": ms, "mb": mb, "said": said}
    return out


def timed(arguments: list[str], accepted: tuple[int, ...], **variables: str) -> dict[str, float]:
    """A command's wall time and its own and its children's processor time; raises where it fails."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(arguments, env=os.environ | variables, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode not in accepted:
        raise SystemExit(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": wall, "cpu_s": cpu, "lines": done.stdout.count("\n")}


def our_command(*arguments: str) -> list[str]:
    """The real command."""
    return [sys.executable, "-m", "mutirao", "scan", "--format", "jsonl", *arguments]


def script(path: Path) -> str:
    """A notebook or script as one plain Python text."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        listed = scan.notebook_cells(text) if path.suffix == ".ipynb" else [(text, "python")]
    except (ValueError, RecursionError, ScanError):
        listed = scan.salvaged(text)
    parts = []
    for code, _ in listed:
        code, magics = split_lines(code)
        lines = code.split("\n")
        for magic in magics:
            at = magic.line - 1
            lines[at] = lines[at].replace("pass", f"get_ipython().system({magic.text!r})")
        parts.append("\n".join(lines))
    return "\n".join(parts)


def peers(paths: list[Path], binaries: Path) -> dict[str, dict[str, float]]:
    """Wall and processor time of each scanner over the same scripts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        folder.mkdir()
        for path in paths:
            (folder / f"{path.stem}.py").write_text(script(path), encoding="utf-8", errors="replace")
        rules = [
            {"id": f"r{n}", "languages": ["python"], "severity": "WARNING", "message": "m", "pattern": pattern}
            for n, pattern in enumerate(CALLS)
        ]
        config = Path(name) / "rules.json"
        config.write_text(json.dumps({"rules": rules}))
        path = f"{binaries}:{os.environ['PATH']}"
        nowhere = "http://127.0.0.1:9"  # guarddog asks three sites for lists at its start; that is not what is measured
        semgrep = ["scan", "--config", str(config), "--metrics", "off", "--disable-version-check", "--quiet", "--json"]
        semgrep += ["--no-git-ignore", str(folder)]
        return {
            "ours": timed(our_command(str(folder)), (0, 1, 2)),
            "bandit": timed([str(binaries / "bandit"), "-q", "-r", "-f", "json", str(folder)], (0, 1)),
            "guarddog": timed(
                [str(binaries / "guarddog"), "pypi", "scan", str(folder), "--output-format", "json"],
                (0,),
                HTTPS_PROXY=nowhere,
                HTTP_PROXY=nowhere,
            ),
            "semgrep": timed([str(binaries / "semgrep"), *semgrep], (0,), PATH=path),
        }


def main() -> None:
    """Measure, print, write; exit status 1 where a target is missed."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--peer-files", type=int, default=300, help="how many files all scanners get (300; 0: none)")
    options = parser.parse_args()
    with options.manifest.open(newline="") as file:
        named = [options.files / f"{row['sha1']}.{row['kind']}" for row in csv.DictReader(file)]
    paths = sorted(path for path in named if path.is_file())
    plain = cells(paths)
    small = [code for code in plain if len(code.encode()) <= SMALL]
    sizes = {
        "cells to 4 kB": compare(small[:: max(len(small) // 4000, 1)]),
        "100 kB": compare(joined(plain, LARGE)[:60]),
    }
    worst = hostile()
    whole = timed(our_command(*map(str, paths)), (0, 1, 2)) | {"files": len(paths), "cores": os.cpu_count() or 1}
    others = {}
    if options.peer_files:
        others = peers(paths[:: max(len(paths) // options.peer_files, 1)], Path(os.environ["MUTIRAO_PEERS"]))
    targets: list[tuple[str, float, str, float]] = [
        (f"{name}, {key[:3]}, ours / ast", row["ratio"][key], "<=", 3)
        for name, row in sizes.items()
        for key in row["ratio"]
    ]
    targets += [
        ("slowest hostile input, ms", max(row["ms"] for row in worst.values()), "<=", LIMIT_MS),
        ("most memory for a hostile input, MB", max(row["mb"] for row in worst.values()), "<=", LIMIT_MB),
        ("hostile inputs that crash or hang", sum(r["said"] in ("hung", "crashed") for r in worst.values()), "<=", 0),
        ("all files, s", whole["wall_s"], "<=", 60),
    ]
    for name, times in (("semgrep", 50), ("guarddog", 10), ("bandit", 10)):
        if others:
            targets.append(
                (f"{name} / ours, wall time", others[name]["wall_s"] / others["ours"]["wall_s"], ">=", times)
            )
    judged = [(*row, row[1] <= row[3] if row[2] == "<=" else row[1] >= row[3]) for row in targets]
    for name, row in sizes.items():
        print(f"{name} ({row['texts']} texts)")
        for side in ("ours", "ast"):
            print(f"  {side:5} p50 {row[side]['p50_ms']:9.3f} ms   p99 {row[side]['p99_ms']:9.3f} ms")
        print(f"  ratio p50 {row['ratio']['p50_ms']:9.2f}      p99 {row['ratio']['p99_ms']:9.2f}")
    for name, row in sorted(worst.items(), key=lambda entry: -entry[1]["ms"]):
        print(f"  {name:44} {row['ms']:8.1f} ms {row['mb']:7.1f} MB  {row['said']}")
    cores = f"{whole['cores']} cores ({whole['cpu_s']:.1f} s of processor)"
    print(f"all {whole['files']} files: {whole['wall_s']:.1f} s on {cores}")
    for name, row in others.items():
        print(f"  {name:9} {row['wall_s']:8.2f} s   processor {row['cpu_s']:8.2f} s")
    for name, value, sign, bound, met in judged:
        print(f"{'met   ' if met else 'MISSED'}  {name}: {value:.2f} (target {sign} {bound:g})")
    RESULTS.mkdir(exist_ok=True)
    result = {"bench": "scan", "sizes": sizes, "hostile": worst, "all": whole, "peers": others, "targets": judged}
    (RESULTS / "scan.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(not all(met for *_, met in judged))


if __name__ == "__main__":
    main()
