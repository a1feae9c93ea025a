"""`mutirao scan` judges files on disk cell by cell, and says what it could not judge."""

import json
from pathlib import Path

import pytest

from mutirao import cli, scan
from mutirao.detect.engine import Engine
from mutirao.detect.pack import default_pack

ENGINE = Engine(default_pack())
ACT = "!hashcat -m 0 -a 0 h.txt w.txt"


def notebook(*cells: str, language: str = "python") -> str:
    """A notebook of format 4 with these code cells."""
    made = [{"cell_type": "markdown", "metadata": {}, "source": [ACT]}]
    made += [
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": code.splitlines(keepends=True)} for code in cells
    ]
    return json.dumps({"cells": made, "metadata": {"kernelspec": {"language": language}}, "nbformat": 4}, indent=1)


def test_a_notebook_is_judged_cell_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a file, with the level in effect; markdown does not count."""
    (tmp_path / "a.ipynb").write_text(notebook("x = 1", f"y = 2\n{ACT}"))
    (tmp_path / "b.py").write_text("print('hashcat -m 0')\n")
    (tmp_path / "c.sh").write_text("qbittorrent-nox -d --webui-port=8080\n")
    (tmp_path / "notes.txt").write_text(ACT)

    with pytest.raises(SystemExit):
        cli.main(["scan", "--format", "jsonl", str(tmp_path)])

    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(Path(row["path"]).name, row["level"]) for row in said] == [
        ("a.ipynb", "stop"),
        ("b.py", "clear"),
        ("c.sh", "stop"),
    ]
    assert {(f["category"], *f["where"].values()) for f in said[0]["findings"]} == {("password-cracking", 2, 2)}


def test_a_rule_that_may_only_warn_never_says_stop(tmp_path: Path) -> None:
    path = tmp_path / "a.sh"
    path.write_text("hydra -l admin -P words.txt ssh://203.0.113.5\n")
    scanned = scan.scan(path, ENGINE)

    assert scanned.level == "warn"


def test_the_kernel_s_language_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(notebook("hashcat -m 0 -a 0 h.txt w.txt", language="bash"))

    assert scan.scan(path, ENGINE).level == "stop"


@pytest.mark.parametrize(
    "text",
    [
        notebook("x = 1", ACT)[:-40],
        notebook("x = 1", ACT).replace('"nbformat"', '<<<<<<< HEAD\n"nbformat"'),
        f"import os\n{ACT}\n",
    ],
    ids=["cut off", "a merge's marks", "no JSON at all"],
)
def test_a_broken_notebook_is_read_as_far_as_it_goes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    scanned = scan.scan(path, ENGINE)

    assert scanned.level == "stop"
    assert "read as far as it goes" in scanned.remarks[0]
    assert scanned.unread == ()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"cells": 3}', '{"cells": [1, {"cell_type": "code"}]}', "[" * 100_000]
)
def test_odd_documents_are_no_fault(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(text)

    assert scan.scan(path, ENGINE).level == "clear"


def test_what_is_too_long_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.py"
    path.write_text("#" * 250_001)

    with pytest.raises(SystemExit):
        cli.main(["scan", str(path)])

    assert "not judged: cell 1: A cell of 250001 characters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"), [("absent.ipynb", "is not there"), ("a.txt", "is none of .ipynb, .py, .sh")]
)
def test_a_file_that_is_none_is_refused(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("x")

    with pytest.raises(SystemExit):
        cli.main(["scan", str(tmp_path / name)])

    assert words in capsys.readouterr().err
