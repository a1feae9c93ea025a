"""The commands about detection: `mutirao scan` judges files, `mutirao rules` shows and tries the rules."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutirao.errors import MutiraoError, RuleError

if TYPE_CHECKING:
    from mutirao.detect.rule import Rule
    from mutirao.scan import Scanned

MANY = 50
"""From so many files on, a terminal shows how far a scan is."""


def add(group: Callable[[str, str], Any], command: Callable[..., Any], commands: Any) -> None:
    """Add every command to the parser."""
    own: Any = (("--rules",), {"type": Path, "help": "a folder of rules of your own instead of the shipped ones"})
    command(
        commands,
        "scan",
        scan,
        (("paths",), {"type": Path, "nargs": "+", "help": "notebooks, .py and .sh files, or folders that hold them"}),
        (
            ("--format",),
            {
                "choices": ("text", "jsonl", "sarif"),
                "default": "text",
                "help": "text, one JSON object a file, or one SARIF document",
            },
        ),
        (("--explain",), {"action": "store_true", "help": "with text: what the member would be told"}),
        own,
    )
    rules = group("rules", "the rules as they are shipped")
    result: Any = (
        ("--result",),
        {"type": Path, "help": "detect.json of ./run bench detect: what rules have earned"},
    )
    command(rules, "list", rules_list, own, result)
    command(rules, "test", rules_test, own)
    command(rules, "explain", rules_explain, (("id",), {"help": "the rule's name"}), own, result)


def scan(options: argparse.Namespace) -> None:
    """Judge notebooks and scripts on disk by the rules, without running anything."""
    from mutirao import report, scan
    from mutirao.detect.engine import Engine
    from mutirao.detect.finding import Level

    worst, missed = 0, False
    try:
        rules = _rules(options)
        paths = list(scan.files(options.paths))
    except MutiraoError as error:
        print(f"mutirao: {error}", file=sys.stderr)
        sys.exit(2)

    def watched() -> "Iterator[Scanned]":
        nonlocal worst, missed
        for number, scanned in enumerate(scan.scan_all(paths, Engine(rules)), 1):
            worst = max([worst, *(scan.level(finding) for _, finding in scanned.findings)])
            missed = missed or bool(scanned.unread)
            _progress(number, len(paths))
            if options.format != "text":
                for reason in (*scanned.unread, *scanned.remarks):
                    print(f"mutirao: {scanned.path}: {reason}", file=sys.stderr)
            yield scanned

    writers = {
        "text": lambda: report.text(watched(), explain=options.explain),
        "jsonl": lambda: report.jsonl(watched()),
        "sarif": lambda: report.sarif(watched(), rules),
    }
    for line in writers[options.format]():
        print(line)
    sys.stdout.flush()
    if missed or worst >= Level.WARN:
        sys.exit(2 if missed else 1)


def _progress(done: int, of: int) -> None:
    if of < MANY or not sys.stderr.isatty() or sys.stdout.isatty():
        return
    filled = 30 * done // of
    end = "\n" if done == of else ""
    print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done} of {of} files", end=end, file=sys.stderr, flush=True)


def rules_list(options: argparse.Namespace) -> None:
    """List the rules that are shipped: name, category, level, maturity, title."""
    earned = _results(options)
    for rule in _rules(options):
        standing = f"\t{earned(rule)}" if options.result else ""
        print(f"{rule.id}\t{rule.category}\t{rule.level.key}\t{rule.maturity}\t{rule.title}{standing}")


def rules_test(options: argparse.Namespace) -> None:
    """Run every rule's own cases: the firing ones fire it, the quiet ones raise no alarm from any rule."""
    from mutirao.detect.engine import Engine
    from mutirao.detect.finding import Level

    rules = _rules(options)
    engine = Engine(rules)
    faults = []
    for rule in rules:
        for number, case in enumerate(rule.fires, 1):
            if rule.id not in {f.rule for f in engine.scan(case)}:
                faults.append(f"{rule.id}: firing case {number} does not fire it.")
        for number, case in enumerate(rule.quiet, 1):
            loud = sorted({f.rule for f in engine.scan(case) if f.level >= Level.WARN})
            if loud:
                faults.append(f"{rule.id}: quiet case {number} fires {', '.join(loud)}.")
    if faults:
        raise RuleError("\n  ".join(["Not every case holds.", *faults]))
    cases = sum(len(rule.fires) + len(rule.quiet) for rule in rules)
    print(f"{len(rules)} rules, {cases} cases: all hold.")


def rules_explain(options: argparse.Namespace) -> None:
    """Print all that a rule says of itself."""
    from mutirao.detect.clause import nearest

    rules = {rule.id: rule for rule in _rules(options)}
    rule = rules.get(options.id)
    if rule is None:
        raise RuleError(f"There is no rule {options.id!r}; {nearest(options.id, list(rules))}")
    print(f"{rule.id} {rule.version}: {rule.title}\n{rule.category}, level {rule.level.key}, maturity {rule.maturity}")
    if options.result:
        print(_results(options)(rule))
    for language, why in rule.why.items():
        print(f"\n{language}: {why}")
    parts = {
        "Known false alarms": rule.false_alarms,
        "Known misses": rule.known_misses,
        "Fires on": rule.fires,
        "Leaves alone": rule.quiet,
    }
    for title, entries in parts.items():
        if entries:
            print(f"\n{title}:")
        for entry in entries:
            print("  - " + entry.rstrip().replace("\n", "\n    "))


def _rules(options: argparse.Namespace) -> "tuple[Rule, ...]":
    from mutirao.detect.pack import default_pack, load_pack

    return load_pack(options.rules) if options.rules else default_pack()


def _results(options: argparse.Namespace) -> "Callable[[Rule], str]":
    from mutirao.detect.promotion import Result, results

    if not options.result:
        return lambda _rule: ""
    try:
        measured = results(json.loads(options.result.read_text()))
    except ValueError as error:
        raise RuleError(f"{options.result} is no JSON: {error}.") from None

    def standing(rule: "Rule") -> str:
        found = measured.get(rule.id, Result())
        return (
            f"{found.hits} hits in {found.repositories} repositories, {found.other} other, {found.benign} benign: "
            f"earns {found.earns(rule.level)}"
        )

    return standing
