"""Notebooks and scripts on disk, judged as the gate would judge their cells: one answer a file."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import re2

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.detect.memory import Memory
from mutirao.errors import ScanError, TooLongError

SUFFIXES = {".ipynb": "", ".py": "python", ".sh": "bash"}
"""What is read, and the language of a file that is one cell."""
FEW = 16
"""So many files are not worth a second process."""
_engine = Engine(())
"""The engine of a process that was forked to judge files."""
_LITERAL = r'"(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_SOURCE = re2.compile(rf'"(?:source|input)"\s*:\s*(\[\s*(?:{_LITERAL}\s*,?\s*)*|{_LITERAL})')
_STRING = re2.compile(_LITERAL.replace('"(', '"((').replace(')*"', ')*)"'))
_CODE_KIND = re2.compile(r'"cell_type"\s*:\s*"code"')


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file's findings, each with the number of its cell (from 1); `unread` says what was not judged, and why.

    `remarks` say how a file was read that is not what its name says.
    """

    path: Path
    cells: int
    findings: tuple[tuple[int, Finding], ...]
    unread: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """The gravest level that counts: clear, note, warn or stop."""
        return max(level(f) for _, f in self.findings).key if self.findings else "clear"

    def document(self) -> dict[str, Any]:
        """What `mutirao scan --format jsonl` prints for the file."""
        found = [
            {
                "category": str(finding.category),
                "rule": finding.rule,
                "level": level(finding).key,
                "where": {"cell": cell, "line": finding.line},
                "why": finding.why["en"],
            }
            for cell, finding in self.findings
        ]
        return {"path": str(self.path), "level": self.level, "findings": found}


def level(finding: Finding) -> Level:
    """The level that a finding has in effect: a rule in shadow only counts, one that may only warn does not stop."""
    highest = {Maturity.SHADOW: Level.NOTE, Maturity.WARN: Level.WARN, Maturity.STABLE: Level.STOP}
    return min(finding.level, highest[finding.maturity])


def files(places: list[Path]) -> Iterator[Path]:
    """Every notebook and script that is named or lies below a folder that is named, in order. Raises ScanError."""
    for place in places:
        if place.is_dir():
            yield from (p for p in sorted(place.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file())
        elif not place.is_file():
            raise ScanError(f"{place} is not there: name notebooks, scripts, or folders that hold them.")
        elif place.suffix.lower() not in SUFFIXES:
            raise ScanError(f"{place} is none of {', '.join(SUFFIXES)}: only these are read.")
        else:
            yield place


def scan(path: Path, engine: Engine) -> Scanned:
    """The file's findings; a file or cell that can't be judged is named in `unread`, never taken as read."""
    found: list[tuple[int, Finding]] = []
    unread: list[str] = []
    remarks: list[str] = []
    number = 0
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        return Scanned(path, 0, (), (str(error),))
    language = SUFFIXES[path.suffix.lower()]
    try:
        cells = [(text, language)] if language else notebook_cells(text)
    except (ValueError, RecursionError, ScanError) as error:
        remarks.append(f"no notebook, read as far as it goes: {error}")
        cells = salvaged(text)
    memory = Memory()
    for number, (code, language) in enumerate(cells, 1):
        try:
            found += ((number, finding) for finding in engine.scan(code, language, memory))
        except TooLongError as error:
            unread.append(f"cell {number}: {error}")
    return Scanned(path, number, tuple(found), tuple(unread), tuple(remarks))


def scan_all(paths: Sequence[Path], engine: Engine, processes: int | None = None) -> Iterator[Scanned]:
    """Every file's findings, in the order given, with a process for each core where there are many files.

    A file that makes a process fail is one that was not judged; the others are.
    """
    processes = min(processes or os.cpu_count() or 1, len(paths) // FEW + 1)
    if processes == 1:
        yield from (_judged(path, engine) for path in paths)
        return
    with ProcessPoolExecutor(processes, get_context("fork"), _take, (engine,)) as pool:
        yield from pool.map(_judge, paths, chunksize=FEW // 2)


def _take(engine: Engine) -> None:
    global _engine
    _engine = engine


def _judge(path: Path) -> Scanned:
    return _judged(path, _engine)


def _judged(path: Path, engine: Engine) -> Scanned:
    try:
        return scan(path, engine)
    except Exception as error:
        return Scanned(path, 0, (), (f"{type(error).__name__}: {error}",))


def notebook_cells(text: str) -> list[tuple[str, str]]:
    """Source and language of the code cells of a notebook of format 3 or 4.

    Raises ValueError or RecursionError for what is no JSON, ScanError for what is no notebook.
    """
    book = json.loads(text)
    if not isinstance(book, dict):
        raise ScanError("no notebook: the document is no object.")
    language = _language(book)
    sheets = book.get("worksheets")
    sources = [book, *(sheets if isinstance(sheets, list) else [])]
    cells = []
    for source in sources:
        listed = source.get("cells") if isinstance(source, dict) else None
        for cell in listed if isinstance(listed, list) else []:
            if isinstance(cell, dict) and cell.get("cell_type") == "code":
                code = cell.get("source", cell.get("input", ""))
                code = "".join(str(line) for line in code) if isinstance(code, list) else str(code)
                cells.append((code, str(cell.get("language") or language)))
    return cells


def salvaged(text: str) -> list[tuple[str, str]]:
    """The code cells of a notebook whose JSON is broken, a merge's marks in it, say; text without any is one cell."""
    cells = []
    for found in _SOURCE.finditer(text):
        kinds = text.rfind('"cell_type"', 0, found.start())
        if _CODE_KIND.match(text, kinds if kinds >= 0 else 0):
            lines = (json.loads(f'"{line}"', strict=False) for line in _STRING.findall(found.group(1)))
            cells.append(("".join(lines), "python"))
    return cells if cells or text.lstrip().startswith("{") else [(text, "python")]


def _language(book: dict[str, Any]) -> str:
    """The kernel's language as the notebook states it; Python where it doesn't."""
    metadata = book.get("metadata")
    for key, name in (("kernelspec", "language"), ("language_info", "name")):
        part = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(part, dict) and isinstance(part.get(name), str) and part[name]:
            return str(part[name])
    return "python"
