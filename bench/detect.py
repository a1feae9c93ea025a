"""How well the rules recognise disallowed work in a labelled corpus, and what each layer of the detector is worth.

usage: ./run bench detect --manifest CSV --files DIR [--notebooks 5] [--no-ablation]

DIR holds the files as `<sha1>.<kind>`. Definitions are those of the corpus's own scorer: a finding counts from level
warn up in effect; a positive is found when one has its label or a secondary label; `weak` rows are left out; no
repository gives a group more than 8 positives or 150 benign files; intervals are bootstrapped over repositories; a file
without an answer counts as missed. Printed: the scores, the confusion table, each rule's own result, the layers' worth,
the targets (exit status 1 where one is missed). Written: bench/results/detect.json, two plots, and detect.jsonl, which
is what `mutirao scan --format jsonl` says, for that scorer.
"""

import argparse
import ast
import csv
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import exp, lgamma, log, log1p
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import re2

from mutirao import scan
from mutirao.detect import engine as engines
from mutirao.detect.engine import Engine
from mutirao.detect.fact import Kind
from mutirao.detect.finding import Finding, Level
from mutirao.detect.pack import default_pack
from mutirao.detect.promotion import Result
from mutirao.detect.rule import Rule
from mutirao.detect.source.fold import Folder

RESULTS = Path(__file__).parent / "results"
CAP = {"positive": 8, "benign": 150}
BENIGN = {"0": "ordinary benign", "1": "near-topic benign"}
ENOUGH = 10
"""A category with fewer scored files is judged with the other small ones."""
NAMED = {Kind.COMMAND, Kind.IMPORT, Kind.INSTALL, Kind.CLONE}


@dataclass(frozen=True)
class Said:
    """A file's findings as (rule, category, level in effect, level in itself), and whether it could be read."""

    found: tuple[tuple[str, str, Level, Level], ...] = ()
    answered: bool = False

    @property
    def counting(self) -> set[str]:
        """The categories found from level warn up."""
        return {category for _, category, level, _ in self.found if level >= Level.WARN}


class Words:
    """An engine without reading: a rule fires where one of its words stands anywhere in the cell's text."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = [(rule, re2.compile("(?i)" + "|".join(map(engines._anchor, rule.anchors)))) for rule in rules]

    def scan(self, code: str, *_: object) -> tuple[Finding, ...]:
        """A finding for each rule of which a word is there."""
        code = code.encode("utf-8", "replace").decode("utf-8")
        return tuple(
            Finding(rule.id, rule.version, rule.category, rule.level, rule.maturity, 1, "", dict(rule.why))
            for rule, words in self.rules
            if words.search(code)
        )


class Apart:
    """An engine without memory: each cell is judged as if it were the only one."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.engine = Engine(rules)

    def scan(self, code: str, language: str, *_: object) -> tuple[Finding, ...]:
        """What the cell says by itself."""
        return self.engine.scan(code, language)


def _literal(_folder: Folder, node: ast.AST, depth: int = 0) -> Any:
    """What stands there as it stands: no variable, no sum, no decoding."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | bytes):
        return node.value
    if isinstance(node, ast.List | ast.Tuple) and depth == 0:
        return [v for item in node.elts if (v := _literal(_folder, item, 1)) is not None]
    return None


@contextmanager
def _without_folding() -> Iterator[None]:
    with patch.object(Folder, "fold", _literal), patch.object(Folder, "strings", lambda _: {}):
        yield


def _without_names(rules: Iterable[Rule]) -> list[Rule]:
    kept = ((rule, tuple(c for c in rule.capability if not (c.kind in NAMED and c.named))) for rule in rules)
    return [replace(rule, capability=clauses) for rule, clauses in kept if clauses]


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


PACK = default_pack()
LAYERS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "all": (lambda: Engine(PACK), _as_it_is),
    "without reading: the rules' words anywhere in the text": (lambda: Words(PACK), _as_it_is),
    "without folding: literals as they stand": (lambda: Engine(PACK), _without_folding),
    "without memory: each cell by itself": (lambda: Apart(PACK), _as_it_is),
    "without knowledge: no names of tools, packages, repositories": (lambda: Engine(_without_names(PACK)), _as_it_is),
    "without signals: a capability is enough": (lambda: Engine([replace(r, signal=()) for r in PACK]), _as_it_is),
    "without exceptions": (lambda: Engine([replace(r, unless=()) for r in PACK]), _as_it_is),
}
_engines: dict[str, Any] = {}


def _judge(path: Path, layers: tuple[str, ...]) -> tuple[dict[str, Said], dict[str, Any] | None]:
    """The answers of each layer's detector to one file, and the JSON line of the whole one."""
    if not path.is_file():
        return dict.fromkeys(layers, Said()), None
    answers, document = {}, None
    for name in layers:
        make, around = LAYERS[name]
        if name not in _engines:
            _engines[name] = make()
        with around():
            scanned = scan.scan(path, _engines[name])
        document = scanned.document() if name == "all" else document
        found = {(f.rule, str(f.category), scan.level(f), f.level) for _, f in scanned.findings}
        answers[name] = Said(tuple(sorted(found)), answered=True)
    return answers, document


def interval(by_repository: list[list[bool]], rounds: int = 1000) -> tuple[float, float]:
    """The 95 % bootstrap interval of the rate, whole repositories drawn with replacement."""
    rng = random.Random(0)
    rates = []
    for _ in range(rounds):
        flat = [hit for hits in rng.choices(by_repository, k=len(by_repository)) for hit in hits]
        rates.append(mean(flat))
    rates.sort()
    return rates[int(0.025 * rounds)], rates[int(0.975 * rounds) - 1]


def upper(hits: int, of: int) -> float:
    """The exact one-sided 95 % upper bound of a rate (Clopper and Pearson)."""
    low, high = hits / of, 1.0
    while high - low > 1e-7 and hits < of:
        rate = (low + high) / 2
        ways = (lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1) for k in range(hits + 1))
        tail = sum(exp(way + k * log(rate) + (of - k) * log1p(-rate)) for k, way in enumerate(ways))
        low, high = (rate, high) if tail > 0.05 else (low, rate)
    return high


def labels(row: dict[str, str]) -> set[str]:
    """The categories of which a hit counts."""
    return {row["label"], *filter(None, row["secondary_labels"].split(";"))}


def scored(rows: list[dict[str, str]]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows that count, each with its group: a category or one of the two kinds of benign."""
    taken: Counter[tuple[str, str]] = Counter()
    for row in sorted(rows, key=lambda r: r["sha1"]):
        benign = row["label"] == "benign"
        if not benign and row["evidence"] == "weak":
            continue
        group = BENIGN["1" if row["hard"] == "1" else "0"] if benign else row["label"]
        taken[row["repo"], group] += 1
        if taken[row["repo"], group] <= CAP["benign" if benign else "positive"]:
            yield group, row


def score(rows: list[dict[str, str]], said: dict[str, Said], rounds: int = 1000) -> dict[str, Any]:
    """Rates by group, and what the targets speak of."""
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    unanswered = 0
    for group, row in scored(rows):
        answer = said[row["sha1"]]
        unanswered += not answer.answered
        counting = answer.counting
        hits[group][row["repo"]].append(bool(counting if row["label"] == "benign" else counting & labels(row)))
    groups: dict[str, dict[str, Any]] = {}
    for group, found in hits.items():
        flat = [hit for of in found.values() for hit in of]
        groups[group] = {
            "hits": sum(flat),
            "files": len(flat),
            "repositories": len(found),
            "rate": mean(flat),
            "interval": interval(list(found.values()), rounds),
            "by_repository": mean(mean(of) for of in found.values()),
        }
    recalls = {g: row for g, row in groups.items() if g not in BENIGN.values()}
    large = {g: row for g, row in recalls.items() if row["files"] >= ENOUGH}
    small = [hit for g in recalls if g not in large for of in hits[g].values() for hit in of]
    files = sum(row["files"] for row in recalls.values())
    benign = [said[row["sha1"]] for row in rows if row["label"] == "benign"]
    stops = sum(any(level is Level.STOP for _, _, level, _ in answer.found) for answer in benign)
    return {
        "groups": dict(sorted(groups.items(), key=lambda entry: (entry[0] in BENIGN.values(), entry[0]))),
        "macro_recall": mean(row["rate"] for row in large.values()),
        "macro_recall_by_repository": mean(row["by_repository"] for row in large.values()),
        "worst": min((row["rate"], group) for group, row in large.items()),
        "small_pooled": mean(small) if small else None,
        "small_files": len(small),
        "pooled_recall": sum(row["hits"] for row in recalls.values()) / files,
        "pooled_files": files,
        "stops_on_benign": stops,
        "alarms_on_benign_uncapped": sum(bool(answer.counting) for answer in benign),
        "unanswered": unanswered,
    }


def consequences(result: dict[str, Any], notebooks: float) -> dict[str, float]:
    """What the rates mean for a house: alarms per 1,000 member-days, and precision at 1 % prevalence."""
    row = result["groups"][BENIGN["0"]]
    rate, most, recall = row["rate"], upper(row["hits"], row["files"]), result["macro_recall"]
    precision = {name: 0.01 * recall / (0.01 * recall + 0.99 * r) for name, r in (("at", rate), ("worst", most))}
    return {
        "notebooks_a_member_day": notebooks,
        "alarms_per_1000_member_days": 1000 * notebooks * rate,
        "alarms_per_1000_member_days_upper": 1000 * notebooks * most,
        "precision_at_1_percent": precision["at"],
        "precision_at_1_percent_lower": precision["worst"],
    }


def targets(result: dict[str, Any]) -> list[tuple[str, float, str, float, bool]]:
    """Each target of the issue: what, measured, comparison, bound, met."""
    groups = result["groups"]
    rows: list[tuple[str, float | None, str, float]] = [
        ("macro recall", result["macro_recall"], ">=", 0.95),
        (f"worst category ({result['worst'][1]})", result["worst"][0], ">=", 0.85),
        ("small categories pooled", result["small_pooled"], ">=", 0.75),
        (
            "mean over repositories below macro recall",
            result["macro_recall"] - result["macro_recall_by_repository"],
            "<=",
            0.05,
        ),
        ("false alarms, ordinary", groups[BENIGN["0"]]["rate"], "<=", 0.002),
        ("false alarms, near-topic", groups[BENIGN["1"]]["rate"], "<=", 0.015),
        ("stops on benign files", result["stops_on_benign"], "<=", 0),
    ]
    return [
        (name, value, sign, bound, value >= bound if sign == ">=" else value <= bound)
        for name, value, sign, bound in rows
        if value is not None
    ]


def confusion(rows: list[dict[str, str]], said: dict[str, Said]) -> dict[str, dict[str, int]]:
    """Scored files by group and by what was found in them; a file with several categories stands in each."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for group, row in scored(rows):
        table[group].update(said[row["sha1"]].counting or {"nothing"})
    return {group: dict(sorted(found.items())) for group, found in sorted(table.items())}


def rules(rows: list[dict[str, str]], said: dict[str, Said]) -> dict[str, dict[str, Any]]:
    """Each rule's own result over every file but the weak ones, whatever its maturity, and what it has earned by it."""
    scores = [row for row in rows if row["label"] == "benign" or row["evidence"] != "weak"]
    of = Counter(category for row in scores for category in labels(row))
    out = {}
    for rule in PACK:
        hits, repositories, other, benign = 0, set(), 0, 0
        for row in scores:
            if not any(name == rule.id and own >= Level.WARN for name, _, _, own in said[row["sha1"]].found):
                continue
            if row["label"] == "benign":
                benign += 1
            elif rule.category in labels(row):
                hits += 1
                repositories.add(row["repo"])
            else:
                other += 1
        result = Result(hits, len(repositories), other, benign)
        out[rule.id] = {
            "category": str(rule.category),
            "level": rule.level.key,
            "maturity": str(rule.maturity),
            **{key: getattr(result, key) for key in Result.__slots__},
            "precision": result.precision,
            "coverage": hits / of[rule.category] if of[rule.category] else None,
            "earns": str(result.earns(rule.level)),
        }
    return out


def show(document: dict[str, Any]) -> None:
    """Print it all."""
    result = document["result"]
    for group, row in result["groups"].items():
        kind = "false alarms" if group in BENIGN.values() else "recall"
        low, high = row["interval"]
        print(
            f"{group:18} {kind:12} {row['hits']:5}/{row['files']:<5} {row['rate']:8.4f}  [{low:.3f}, {high:.3f}]   "
            f"by repository {row['by_repository']:.4f} of {row['repositories']}"
        )
    pooled = f"{result['pooled_recall']:.4f} of {result['pooled_files']}"
    print(f"macro recall {result['macro_recall']:.4f}   pooled {pooled}   without an answer {result['unanswered']}")
    means = document["consequences"]
    print(
        f"at {means['notebooks_a_member_day']:g} notebooks a member and day: "
        f"{means['alarms_per_1000_member_days']:.2f} alarms per 1,000 member-days "
        f"(at most {means['alarms_per_1000_member_days_upper']:.1f}, 95 %); precision at 1 % prevalence "
        f"{means['precision_at_1_percent']:.3f} (at least {means['precision_at_1_percent_lower']:.3f})"
    )
    print("\nfound in files of each group:")
    for group, found in document["confusion"].items():
        print(f"  {group:18} {', '.join(f'{name} {count}' for name, count in found.items())}")
    print(f"\n{'rule':38} {'level':5} {'maturity':8} hits repos other benign precision coverage earns")
    for name, row in document["rules"].items():
        rates = [f"{row[key]:9.3f}" if row[key] is not None else f"{'-':>9}" for key in ("precision", "coverage")]
        print(
            f"{name:38} {row['level']:5} {row['maturity']:8} {row['hits']:4} {row['repositories']:5} {row['other']:5} "
            f"{row['benign']:6} {' '.join(rates)} {row['earns']}"
        )
    order = ("shadow", "warn", "stable")
    for name, row in document["rules"].items():
        if row["maturity"] == "shadow" and row["earns"] != "shadow":
            print(f"shadow rule {name} qualifies: {row['earns']}")
        elif row["maturity"] == "shadow":
            print(f"shadow rule {name} does not qualify: {row['benign']} benign files")
        elif order.index(row["maturity"]) > order.index(row["earns"]):
            print(f"rule {name} is {row['maturity']} and has earned {row['earns']}")
    print(f"\n{'layers':62} macro  small ordinary near-topic stops")
    for name, row in document["layers"].items():
        small = "-" if row["small_pooled"] is None else f"{row['small_pooled']:.3f}"
        print(
            f"{name:62} {row['macro_recall']:.3f} {small:>6} {row['ordinary']:8.4f} {row['near_topic']:10.4f} "
            f"{row['stops_on_benign']:5}"
        )
    print()
    for name, value, sign, bound, met in document["targets"]:
        print(f"{'met   ' if met else 'MISSED'}  {name}: {value:.4f} (target {sign} {bound:g})")


def plot(document: dict[str, Any]) -> None:
    """Recall by category with its interval, and the layers' worth."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    groups = list(document["result"]["groups"].items())[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for at, (group, row) in enumerate(groups):
        low, high = row["interval"]
        colour = "#b3541e" if group in BENIGN.values() else "#1f6f6b"
        axes.plot([low, high], [at, at], color=colour, linewidth=2)
        axes.plot(row["rate"], at, "o", color=colour)
        axes.plot(row["by_repository"], at, "|", color=colour, markersize=14)
    named = [f"{g} ({row['hits']} of {row['files']})" for g, row in groups]
    axes.set_yticks(range(len(groups)), named)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("recall (benign: false alarms), 95 % interval over repositories\nbar: mean over repositories")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(RESULTS / "detect-recall.png", dpi=110)
    layers = list(document["layers"].items())[::-1]
    if len(layers) > 1:
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
        at = list(range(len(layers)))
        left.barh(at, [row["macro_recall"] for _, row in layers], color="#1f6f6b")
        left.set_xlabel("macro recall")
        left.set_yticks(at, [name.partition(":")[0] for name, _ in layers])
        for key, shift, colour in (("ordinary", 0.2, "#d9a27a"), ("near_topic", -0.2, "#b3541e")):
            values = [100 * row[key] for _, row in layers]
            right.barh([y + shift for y in at], values, 0.4, color=colour, label=key.replace("_", "-"))
        right.set_xlabel("false alarms, % of benign files")
        right.legend(frameon=False)
        figure.savefig(RESULTS / "detect-layers.png", dpi=110)


def main() -> None:
    """Judge, score, print, write; exit status 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--notebooks", type=float, default=5, help="notebooks that a member opens on a day (5)")
    parser.add_argument("--no-ablation", action="store_true", help="leave the layers' worth out")
    options = parser.parse_args()
    with options.manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    layers = ("all",) if options.no_ablation else tuple(LAYERS)
    said: dict[str, dict[str, Said]] = {name: {} for name in layers}
    RESULTS.mkdir(exist_ok=True)
    paths = [options.files / f"{row['sha1']}.{row['kind']}" for row in rows]
    with (
        ProcessPoolExecutor(mp_context=get_context("fork")) as pool,
        (RESULTS / "detect.jsonl").open("w") as lines,
    ):
        answers = pool.map(_judge, paths, [layers] * len(paths), chunksize=8)
        for number, (row, (answer, line)) in enumerate(zip(rows, answers, strict=True), 1):
            for name in layers:
                said[name][row["sha1"]] = answer[name]
            if line is not None:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            if sys.stderr.isatty():
                print(f"\r{number} of {len(rows)} files", end="", file=sys.stderr)
    result = score(rows, said["all"])
    compared = {name: result if name == "all" else score(rows, said[name], rounds=1) for name in layers}
    document = {
        "bench": "detect",
        "result": result,
        "consequences": consequences(result, options.notebooks),
        "confusion": confusion(rows, said["all"]),
        "rules": rules(rows, said["all"]),
        "layers": {
            name: {
                **{key: found[key] for key in ("macro_recall", "small_pooled", "stops_on_benign")},
                "ordinary": found["groups"][BENIGN["0"]]["rate"],
                "near_topic": found["groups"][BENIGN["1"]]["rate"],
            }
            for name, found in compared.items()
        },
        "targets": targets(result),
    }
    show(document)
    (RESULTS / "detect.json").write_text(json.dumps(document, indent=2) + "\n")
    plot(document)
    sys.exit(not all(met for *_, met in document["targets"]))


if __name__ == "__main__":
    main()
