"""What `mutirao scan` prints: text for people, JSON lines for programs, SARIF 2.1.0 for code hosts."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from mutirao import __version__
from mutirao.detect.finding import Level
from mutirao.detect.rule import Rule
from mutirao.scan import Scanned, level

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_SARIF_LEVELS = {Level.NOTE: "note", Level.WARN: "warning", Level.STOP: "error"}


def text(scanned: Iterable[Scanned], *, explain: bool = False) -> Iterator[str]:
    """A line a file and one a finding; `explain` adds what the member would be told."""
    for file in scanned:
        yield f"{file.path}: {file.level}"
        for cell, finding in file.findings:
            yield f"  {level(finding).key}  cell {cell}, line {finding.line}: {finding.rule}: {finding.excerpt}"
            if explain:
                yield f"    {finding.why['en']}"
        yield from (f"  not judged: {reason}" for reason in file.unread)
        yield from (f"  {remark}" for remark in file.remarks)


def jsonl(scanned: Iterable[Scanned]) -> Iterator[str]:
    """One JSON object a file."""
    return (json.dumps(file.document(), ensure_ascii=False) for file in scanned)


def sarif(scanned: Iterable[Scanned], rules: Iterable[Rule]) -> Iterator[str]:
    """One document (https://docs.oasis-open.org/sarif/sarif/v2.1.0/); what was not judged is a notification."""
    described = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why["en"]},
            "defaultConfiguration": {"level": _SARIF_LEVELS[rule.level]},
            "properties": {"tags": [str(rule.category)], "maturity": str(rule.maturity)},
        }
        for rule in rules
    ]
    found: list[dict[str, Any]] = []
    unread: list[dict[str, Any]] = []
    for file in scanned:
        found += _results(file)
        unread += ({"level": "error", "message": {"text": why}, "locations": [_location(file)]} for why in file.unread)
    run = {
        "tool": {"driver": {"name": "mutirao", "version": __version__, "rules": described}},
        "invocations": [{"executionSuccessful": not unread, "toolExecutionNotifications": unread}],
        "results": found,
    }
    yield json.dumps({"$schema": SARIF, "version": "2.1.0", "runs": [run]}, ensure_ascii=False, indent=1)


def _results(file: Scanned) -> Iterator[dict[str, Any]]:
    for cell, finding in file.findings:
        where = _location(file)
        if file.path.suffix.lower() == ".ipynb":  # a cell's line is no line of the file
            where["logicalLocations"] = [{"name": f"cell {cell}, line {finding.line}"}]
        else:
            where["physicalLocation"]["region"] = {"startLine": finding.line}
        yield {
            "ruleId": finding.rule,
            "level": _SARIF_LEVELS[level(finding)],
            "message": {"text": f"Cell {cell}, line {finding.line}: {finding.why['en']}"},
            "locations": [where],
        }


def _location(file: Scanned) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": quote(file.path.as_posix())}}}
