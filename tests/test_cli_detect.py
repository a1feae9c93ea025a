"""`mutirao rules` shows the rules, tries their cases, and says what a result on a corpus has earned them."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mutirao import cli
from mutirao.detect.finding import Level, Maturity
from mutirao.detect.pack import default_pack
from mutirao.detect.promotion import Result


def test_every_rule_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["rules", "list"])

    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [r.id for r in default_pack()]


def test_a_rule_says_all_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    rule = default_pack()[0]
    cli.main(["rules", "explain", rule.id])
    out = capsys.readouterr().out

    assert all(why in out for why in rule.why.values())
    assert all(case.splitlines()[0] in out for case in (*rule.fires, *rule.quiet))


def test_a_misspelt_rule_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["rules", "explain", "mining-pool-adress"])

    assert "did you mean 'mining-pool-address'?" in capsys.readouterr().err


def test_the_shipped_cases_hold(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["rules", "test"])

    assert capsys.readouterr().out.startswith(f"{len(default_pack())} rules, ")


def test_a_case_that_does_not_hold_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).parents[1] / "rules" / "mining" / "mining-pool-address.yaml"
    rule = yaml.safe_load(source.read_text())
    rule["cases"] = {"fires": ["x = 1"], "quiet": [rule["cases"]["fires"][0]]}
    shutil.copytree(source.parents[1] / "lists", tmp_path / "lists")
    (tmp_path / "mining").mkdir()
    (tmp_path / "mining" / source.name).write_text(yaml.safe_dump(rule))

    with pytest.raises(SystemExit):
        cli.main(["rules", "test", "--rules", str(tmp_path)])

    said = capsys.readouterr().err
    assert "mining-pool-address: firing case 1 does not fire it." in said
    assert "mining-pool-address: quiet case 1 fires mining-pool-address." in said


@pytest.mark.parametrize(
    ("result", "level", "earned"),
    [
        (Result(), Level.STOP, Maturity.WARN),
        (Result(hits=9, repositories=9, benign=1), Level.WARN, Maturity.SHADOW),
        (Result(hits=1, repositories=1), Level.WARN, Maturity.STABLE),
        (Result(other=5), Level.WARN, Maturity.WARN),
        (Result(hits=9, repositories=1), Level.STOP, Maturity.WARN),
        (Result(hits=2, repositories=2), Level.STOP, Maturity.WARN),
        (Result(hits=3, repositories=2), Level.STOP, Maturity.STABLE),
    ],
)
def test_a_rule_earns_what_its_result_allows(result: Result, level: Level, earned: Maturity) -> None:
    assert result.earns(level) is earned


def test_a_corpus_result_is_shown_beside_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = next(r for r in default_pack() if r.level is Level.STOP)
    path = tmp_path / "detect.json"
    path.write_text(json.dumps({"rules": {rule.id: {"hits": 4, "repositories": 2, "other": 1, "benign": 0}}}))
    cli.main(["rules", "explain", rule.id, "--result", str(path)])

    assert "4 hits in 2 repositories, 1 other, 0 benign: earns stable" in capsys.readouterr().out


def test_a_result_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text("[]")

    with pytest.raises(SystemExit):
        cli.main(["rules", "list", "--result", str(path)])

    assert "no result of ./run bench detect" in capsys.readouterr().err
