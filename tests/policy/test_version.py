"""The shipped versions of the policy are whole, and a wrong file is refused with advice."""

from datetime import date
from pathlib import Path

import pytest

from mutirao.errors import PolicyError
from mutirao.language import LANGUAGES
from mutirao.policy.category import Category
from mutirao.policy.clause import Part
from mutirao.policy.version import load_versions, read_version

TEXT = "{en: Text, pt-BR: Texto}"
CLAUSE = f"""\
    title: {TEXT}
    ban: {TEXT}
    allowed: [{TEXT}]
    disallowed: [{TEXT}]
    why: {{harm: {TEXT}, law: {TEXT}, scarce: {TEXT}}}
"""
SOURCE = f"""\
number: 1
announced: 2026-01-01
effective: 2026-01-15
summary: {TEXT}
always_allowed: {TEXT}
clauses:
  p2p:
{CLAUSE}"""


def test_policy_1_holds_the_eight_older_bans_and_policy_2_adds_deepfakes() -> None:
    versions = load_versions()
    assert list(versions) == [1, 2]
    assert set(Category) - set(versions[1].clauses) == {Category.DEEPFAKE}
    assert list(versions[2].clauses) == list(Category)


def test_policy_2_is_announced_two_weeks_before_it_takes_effect() -> None:
    version = load_versions()[2]
    assert (version.announced, version.effective) == (date(2026, 10, 1), date(2026, 10, 15))


@pytest.mark.parametrize("number", load_versions())
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_exists_in_every_language(number: int, lang: str) -> None:
    version = load_versions()[number]
    assert version.summary[lang]
    assert version.always_allowed[lang]
    for clause in version.clauses.values():
        lines = clause.text(lang).lines()
        assert {part for part, _ in lines} == set(Part)
        assert all(text for _, text in lines)
        assert len(clause.allowed) >= 3
        assert len(clause.disallowed) >= 3


@pytest.mark.parametrize("number", load_versions())
def test_no_text_was_left_untranslated(number: int) -> None:
    for clause in load_versions()[number].clauses.values():
        pairs = zip(clause.text("en").lines(), clause.text("pt-BR").lines(), strict=True)
        assert [en for (_, en), (_, pt) in pairs if en == pt] == []


def test_a_ban_is_one_sentence() -> None:
    for clause in load_versions()[2].clauses.values():
        for lang in LANGUAGES:
            ban = clause.text(lang).ban
            assert ban.endswith(".")
            assert ban.count(". ") == 0


def test_a_version_is_based_on_the_older_one_without_repeating_it() -> None:
    old, new = load_versions()[1], load_versions()[2]
    assert all(new.clauses[category] is clause for category, clause in old.clauses.items())
    assert new.always_allowed is old.always_allowed


def test_a_clause_may_be_removed() -> None:
    base = {1: read_version(SOURCE + f"  dos:\n{CLAUSE}", "1.yaml", {})}
    source = f"number: 2\nbased_on: 1\nremoved: [dos]\nannounced: 2026-02-01\neffective: 2026-02-15\nsummary: {TEXT}\n"
    assert list(read_version(source + "clauses: {}", "2.yaml", base).clauses) == [Category.P2P]


def test_the_digest_changes_with_any_text() -> None:
    digests = {read_version(SOURCE, "1.yaml", {}).digest}
    for n in range(SOURCE.count("Texto")):
        at = [i for i in range(len(SOURCE)) if SOURCE.startswith("Texto", i)][n]
        digests.add(read_version(SOURCE[:at] + "Outro" + SOURCE[at + 5 :], "1.yaml", {}).digest)
    assert len(digests) == 1 + SOURCE.count("Texto")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("number: 1", "number: one", "1.yaml.number is 'one': must be a whole number"),
        ("number: 1", "number: true", "1.yaml.number is True: must be a whole number"),
        ("number: 1\n", "", "1.yaml.number is missing"),
        ("announced:", "anounced:", "1.yaml.announced is missing"),
        ("effective: 2026-01-15", "effective: 2025-12-31", "1.yaml.effective is 2025-12-31, before 2026-01-01"),
        ("effective: 2026-01-15", "effective: soon", "1.yaml.effective is 'soon': must be a date"),
        ("  p2p:", "  p2q:", "1.yaml.clauses names 'p2q': must be one of file-hosting, p2p"),
        ("clauses:\n", "clause:\n", "1.yaml.clauses is missing: add a mapping"),
        (
            "summary: {en: Text",
            "summry: 1\nsummary: {en: Text",
            "1.yaml.summry is not a known key: did you mean 'summary'",
        ),
        ("    ban: {en: Text, ", "    ban: {", "1.yaml.clauses.p2p.ban.en is missing: add a text"),
        ("    ban: {en: Text", "    ban: {en: 3", "1.yaml.clauses.p2p.ban.en is 3: must be a text"),
        ("    ban: {en: Text", "    ban: {en: ''", "1.yaml.clauses.p2p.ban.en is empty"),
        ("    ban: {en: Text", '    ban: {en: "a\\u0007b"', "1.yaml.clauses.p2p.ban.en holds line breaks or control"),
        ("    ban: {en: Text", "    ban: {en: " + "x" * 1001, "1.yaml.clauses.p2p.ban.en has 1001 characters"),
        ("    ban: {en: Text", "    ban: {fr: Texte, en: Text", "1.yaml.clauses.p2p.ban.fr is not a known key"),
        ("    ban: {en: Text, pt-BR: Texto}", "    ban: Text", "1.yaml.clauses.p2p.ban is 'Text': must be a mapping"),
        (f"allowed: [{TEXT}]\n    dis", "allowed: []\n    dis", "1.yaml.clauses.p2p.allowed is empty"),
        (
            "why: {harm:",
            "why: {harms: 1, harm:",
            "1.yaml.clauses.p2p.why.harms is not a known key: did you mean 'harm'",
        ),
        ("number: 1", "number: 1\nbased_on: 7", "1.yaml.based_on is 7: must be an older one, none yet"),
        ("number: 1", "number: 1\nnumber: 2", "1.yaml: key 'number' is written twice"),
        ("number: 1", "number: 1\nremoved: [dos]", "1.yaml.removed names 'dos', which the older version doesn't have"),
        ("number: 1", "number: [1", "1.yaml is not YAML"),
        ("number: 1", "number: !!python/object:os.system 1", "1.yaml is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_advice(old: str, new: str, message: str) -> None:
    assert old in SOURCE
    with pytest.raises(PolicyError) as caught:
        read_version(SOURCE.replace(old, new, 1), "1.yaml", {})
    assert message in str(caught.value)


@pytest.mark.parametrize("source", ["", "[]", "just words", "null"])
def test_a_file_that_is_no_mapping_is_refused(source: str) -> None:
    with pytest.raises(PolicyError, match="must be a mapping"):
        read_version(source, "1.yaml", {})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["2.yaml"], "2.yaml has number 1: name and number must agree"),
        (["1.yaml", "draft.yaml"], "draft.yaml is not the name of a policy version"),
        (["1.yaml", "01.yaml"], "has number 1: name and number must agree|comes after version 1"),
    ],
)
def test_files_are_named_by_their_number(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text(SOURCE)
    with pytest.raises(PolicyError, match=message):
        load_versions(tmp_path)


def test_a_gap_in_the_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(SOURCE)
    (tmp_path / "3.yaml").write_text(SOURCE.replace("number: 1", "number: 3"))
    with pytest.raises(PolicyError, match=r"3\.yaml comes after version 1: number it 2"):
        load_versions(tmp_path)
