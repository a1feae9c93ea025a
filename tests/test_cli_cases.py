"""The commands about cases do what the pages do, name who did it, and say why not."""

import json
from pathlib import Path

import pytest

from mutirao import cli
from mutirao.cases import exemption, incident
from mutirao.cases.ladder import Scope
from mutirao.policy.category import Category
from mutirao.store.models import Audit
from tests.cases.court import Court
from tests.database import migrated


@pytest.fixture
def court(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Court:
    """A court whose store the commands find; as root they would step down to an uid that can't read a test's folder."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "store").mkdir()
    made = Court(migrated(tmp_path / "store" / "mutirao.sqlite"))
    from datetime import UTC, datetime

    made.now = datetime.now(UTC)
    return made


@pytest.fixture
def mutirao(court: Court, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> str:
        cli.main([*words, "--data", str(tmp_path)])
        return capsys.readouterr().out

    return run


def refused(capsys: pytest.CaptureFixture[str], mutirao, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        mutirao(*words)
    assert ended.value.code == 1
    return capsys.readouterr().err


async def test_a_case_is_shown_and_that_somebody_looked_is_recorded(court: Court, mutirao, capsys) -> None:
    await court.run("mining")
    (line,) = mutirao("case", "list").splitlines()
    number = line.split("\t")[0]
    assert mutirao("case", "list", "--member", "bia") == ""

    shown = json.loads(mutirao("case", "show", number, "--by", "rev"))

    assert shown["member"] == "ana"
    assert [made["action"] for made in shown["decisions"]] == ["stop"]
    with court.store.read() as session:
        entry = session.query(Audit).order_by(Audit.id.desc()).first()
        assert (entry.act, entry.actor, entry.subject) == ("case.read", "rev", "ana")
    assert "There is no case M-1999-000001" in refused(capsys, mutirao, "case", "show", "M-1999-000001", "--by", "rev")


async def test_a_restriction_is_listed_and_lifted(court: Court, mutirao, capsys) -> None:
    await court.run("mining/a")
    await court.run("mining/b")
    (line,) = mutirao("sanction", "list").splitlines()
    number = line.split("\t")[0]
    assert line.split("\t")[1:3] == ["ana", "gpu"]

    assert "Nobody decides about themselves" in refused(
        capsys, mutirao, "sanction", "lift", number, "--by", "ana", "--why", "I want to"
    )
    assert "--why must be" in refused(capsys, mutirao, "sanction", "lift", number, "--by", "rev", "--why", "no")
    assert "Lifted: gpu of ana" in mutirao(
        "sanction", "lift", number, "--by", "rev", "--why", "It was a lecture", "--give-back"
    )

    assert court.held(Scope.GPU) is None
    assert mutirao("sanction", "list") == ""
    assert "has ended or was lifted" in refused(
        capsys, mutirao, "sanction", "lift", number, "--by", "rev", "--why", "It was a lecture"
    )


async def test_one_command_reverses_an_incident(court: Court, mutirao, capsys) -> None:
    court.settle(*"abcde")
    for name in "abcde":
        await court.run("mining/pkg/evil", actor=name)
    (line,) = mutirao("incident", "list").splitlines()
    number = line.split("\t")[0]
    assert "open\t5 people" in line

    assert "5 members are told" in mutirao(
        "incident", "reverse", number, "--by", "op", "--why", "A package was poisoned"
    )

    assert sum(court.strikes(name) for name in "abcde") == 0
    assert court.texts("a")[-1] == "We were wrong, and we are sorry"
    assert "closed already" in refused(capsys, mutirao, "incident", "confirm", number, "--by", "op", "--why", "Or not")
    with court.store.read() as session:
        assert incident.all_of(session, open_only=True) == []


async def test_a_purpose_is_granted_or_refused(court: Court, mutirao, capsys) -> None:
    with court.write() as session:
        for category in (Category.DEEPFAKE, Category.P2P):
            exemption.request(session, court.office, "ana", category, "A course about how to find them", court.now)
    one, two = (line.split("\t")[0] for line in mutirao("exemption", "list").splitlines())

    assert "Granted" in mutirao("exemption", "grant", one, "--by", "rev", "--why", "A good course", "--days", "5")
    assert "Refused" in mutirao("exemption", "refuse", two, "--by", "rev", "--why", "Not needed for it")

    assert mutirao("exemption", "list") == ""
    assert [line.split("\t")[4] for line in mutirao("exemption", "list", "--member", "ana").splitlines()] == [
        "refused",
        "granted",
    ]
    assert "answered already" in refused(capsys, mutirao, "exemption", "grant", one, "--by", "rev", "--why", "Again")
