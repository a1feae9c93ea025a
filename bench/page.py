"""Writes docs/why/detection-results.md and its pictures from what `./run bench detect` and `scan` measured last.

usage: ./run bench page
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
PICTURES = ("detect-recall.png", "detect-layers.png")

INTRODUCTION = """# How well the rules recognise things

Written by `./run bench page` from what `./run bench detect` and `./run bench scan` measured. The method is in
[detection](detection.md).

## The files and their labels

Real public notebooks and scripts made for Colab, Kaggle or Jupyter, {files} of them scored, each with a label: one
of nine categories, or benign. Disallowed files were read by a person, with their helper files and their repository.
Benign ones come from known teaching and research collections, taken as listed; a sweep looked for surprises and
what it hit was read. *Near-topic* files are benign and about a disallowed subject: detection research, teaching,
price analysis, security data sets, face recognition.

A file counts as found when a finding from level `warn` up has its label or a secondary one; toolboxes have several.
Files that only make sense beside their repository are not scored. No repository gives a group more than 8 disallowed or
150 benign files. Intervals are at 95 %, bootstrapped over repositories.

What this can't tell:

- **The rules were tuned on these files: the figures are optimistic.** A set from other repositories is kept apart.
- Public repositories are not what members write. People who hide don't publish; who publishes often wants to be found.
- The labels are judgements. Lessons with nmap or sqlmap, lessons that guess one password, and movers between clouds are
  open doubts.
- A category with few repositories says little about its next one: read the interval and the mean over repositories.
- The alarms among {ordinary} ordinary files still allow a rate of up to {upper:.2%}.
"""

EACH_RULE = """## Each rule

*Hits* are files of the rule's category, *other* are disallowed for another reason (mostly toolboxes), *benign* are
false alarms, over all scored files without the cap. *Precision* is hits among all three, *coverage* hits among the
category's files. *Earns* is what the [rule of promotion](../howto/write-a-rule.md#5-promotion) allows.
"""
MEANS = """With {notebooks:g} notebooks a member and day that means {alarms:.1f} false alarms per 1,000 member-days,
at most {most:.1f}. If one notebook in a hundred is disallowed, {right:.0%} of the alarms are right, at
least {least:.0%}. (Both bounds: the exact one-sided 95 % bound of the rate among ordinary files.)
"""


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def share(value: float | None, places: int = 3) -> str:
    """A rate, or a dash where there is none."""
    return "–" if value is None else f"{value:.{places}f}"


def _targets(rows: list[list[Any]]) -> Iterator[str]:
    signs = {">=": "at least", "<=": "at most"}
    yield from table(
        ["measure", "measured", "target", ""],
        [
            [name, f"{value:.4g}", f"{signs[sign]} {bound:g}", "met" if met else "**missed**"]
            for name, value, sign, bound, met in rows
        ],
    )


def detection(document: dict[str, Any]) -> Iterator[str]:
    """Recall and false alarms, layers, confusion, rules."""
    groups, means = document["result"]["groups"], document["consequences"]
    ordinary = groups["ordinary benign"]["files"]
    upper = means["alarms_per_1000_member_days_upper"] / means["notebooks_a_member_day"] / 1000
    files = sum(row["files"] for row in groups.values())
    yield INTRODUCTION.format(files=f"{files:,}", ordinary=ordinary, upper=upper)
    yield "## Result\n"
    rows = []
    for name, row in groups.items():
        measure = "false alarms" if name in ("ordinary benign", "near-topic benign") else "recall"
        low, high = row["interval"]
        rows.append(
            [
                name,
                measure,
                f"{row['hits']} of {row['files']}",
                share(row["rate"]),
                f"{low:.3f}–{high:.3f}",
                f"{share(row['by_repository'])} of {row['repositories']}",
            ]
        )
    yield from table(["group", "measure", "files", "rate", "interval", "mean over repositories"], rows)
    yield "![Recall by category](../images/detect-recall.png)\n"
    yield from _targets(document["targets"])
    yield MEANS.format(
        notebooks=means["notebooks_a_member_day"],
        alarms=means["alarms_per_1000_member_days"],
        most=means["alarms_per_1000_member_days_upper"],
        right=means["precision_at_1_percent"],
        least=means["precision_at_1_percent_lower"],
    )
    yield "## What each layer is worth\n"
    yield from table(
        [
            "detector",
            "macro recall",
            "small categories",
            "alarms, ordinary",
            "alarms, near-topic",
            "benign files stopped",
        ],
        [
            [
                name,
                share(row["macro_recall"]),
                share(row["small_pooled"]),
                f"{row['ordinary']:.2%}",
                f"{row['near_topic']:.2%}",
                str(row["stops_on_benign"]),
            ]
            for name, row in document["layers"].items()
        ],
    )
    yield "![The layers' worth](../images/detect-layers.png)\n"
    yield "## What was found in the files of each group\n\nA file with several categories stands in each.\n"
    yield from table(
        ["group", "found"],
        [[name, ", ".join(f"{k} {v}" for k, v in found.items())] for name, found in document["confusion"].items()],
    )
    yield EACH_RULE
    yield from table(
        ["rule", "level", "maturity", "hits", "repositories", "other", "benign", "precision", "coverage", "earns"],
        [
            [
                f"`{name}`",
                row["level"],
                row["maturity"],
                *(str(row[key]) for key in ("hits", "repositories", "other", "benign")),
                share(row["precision"], 2),
                share(row["coverage"], 2),
                row["earns"],
            ]
            for name, row in document["rules"].items()
        ],
    )


def speed(document: dict[str, Any]) -> Iterator[str]:
    """Times against Python's parser, on hostile input, and against other scanners."""
    yield "## Speed\n\nProcessor time of one scan, and of `ast.parse` with one walk of the same text in the same run.\n"
    yield from table(
        ["texts", "ours p50", "p99", "`ast` p50", "p99", "ratio p50", "p99"],
        [
            [
                f"{name} ({row['texts']})",
                *(f"{row[side][key]:.3f} ms" for side in ("ours", "ast") for key in ("p50_ms", "p99_ms")),
                *(f"{row['ratio'][key]:.2f}" for key in ("p50_ms", "p99_ms")),
            ]
            for name, row in document["sizes"].items()
        ],
    )
    slowest = sorted(document["hostile"].items(), key=lambda entry: -entry[1]["ms"])[:5]
    yield f"The slowest of {len(document['hostile'])} hostile inputs, each in a process of its own:\n"
    rows = [[name, f"{row['ms']:.0f} ms", f"{row['mb']:.0f} MB", row["said"]] for name, row in slowest]
    yield from table(["input", "time", "memory", "outcome"], rows)
    if document["peers"]:
        yield "The same scripts, read by each in one run, start included:\n"
        rows = [[name, f"{r['wall_s']:.1f} s", f"{r['cpu_s']:.1f} s"] for name, r in document["peers"].items()]
        yield from table(["scanner", "wall time", "processor time"], rows)
    yield from _targets(document["targets"])


def main() -> None:
    """Write the page."""
    lines = list(detection(json.loads((RESULTS / "detect.json").read_text())))
    if (RESULTS / "scan.json").exists():
        lines += speed(json.loads((RESULTS / "scan.json").read_text()))
    (DOCS / "why" / "detection-results.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    for picture in PICTURES:
        if (RESULTS / picture).exists():
            shutil.copy(RESULTS / picture, DOCS / "images" / picture)


if __name__ == "__main__":
    main()
