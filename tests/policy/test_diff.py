"""A diff shows what was added, removed and changed, to the word."""

from dataclasses import replace

import pytest

from mutirao.policy.category import Category
from mutirao.policy.clause import Clause, Part
from mutirao.policy.diff import Mark, compare, diff
from mutirao.policy.version import PolicyVersion, load_versions


def with_clause(version: PolicyVersion, clause: Clause) -> PolicyVersion:
    return replace(version, clauses={**version.clauses, clause.category: clause})


def test_the_article_day_is_one_added_clause() -> None:
    found = diff(load_versions()[1], load_versions()[2])
    assert [clause.category for clause in found.added] == [Category.DEEPFAKE]
    assert (found.removed, found.changed) == ((), ())


def test_backwards_the_same_clause_is_removed() -> None:
    found = diff(load_versions()[2], load_versions()[1])
    assert [clause.category for clause in found.removed] == [Category.DEEPFAKE]
    assert found.added == ()


def test_a_version_does_not_differ_from_itself() -> None:
    assert diff(load_versions()[2], load_versions()[2]).empty


def test_a_changed_line_shows_its_words_and_the_others_stay() -> None:
    old = load_versions()[1]
    clause = old.clauses[Category.P2P]
    ban = {lang: text.replace("torrents", "torrents and magnets") for lang, text in clause.ban.items()}
    (change,) = diff(old, with_clause(old, replace(clause, ban=ban))).changed
    marks = {line.part: line.mark for line in change.lines("en")}
    assert marks.pop(Part.BAN) is Mark.CHANGED
    assert set(marks.values()) == {Mark.SAME}
    (line,) = [line for line in change.lines("en") if line.part is Part.BAN]
    assert [run.text for run in line.words if run.mark is Mark.ADDED] == [" and magnets"]


def test_a_change_in_one_language_alone_is_a_change() -> None:
    old = load_versions()[1]
    clause = old.clauses[Category.DOS]
    found = diff(old, with_clause(old, replace(clause, ban={**clause.ban, "pt-BR": "Outro texto."})))
    assert {line.mark for line in found.changed[0].lines("en")} == {Mark.SAME}
    assert Mark.CHANGED in {line.mark for line in found.changed[0].lines("pt-BR")}


def test_added_and_removed_examples_are_lines_of_their_own() -> None:
    old = load_versions()[1]
    clause = old.clauses[Category.DOS]
    extra = {"en": "One more", "pt-BR": "Mais um"}
    (change,) = diff(
        old, with_clause(old, replace(clause, allowed=(*clause.allowed, extra), disallowed=clause.disallowed[1:]))
    ).changed
    lines = change.lines("en")
    assert [line.words[0].text for line in lines if line.mark is Mark.ADDED] == ["One more"]
    assert [line.words[0].text for line in lines if line.mark is Mark.REMOVED] == [clause.disallowed[0]["en"]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "new"),
        ("old", ""),
        ("a b c", "a x c"),
        ("a  b", "a b"),
        ("não, nunca.", "nunca, não!"),
        ("é", "é"),
    ],
)
def test_both_texts_can_be_read_back_from_the_runs(before: str, after: str) -> None:
    runs = compare(before, after)
    assert "".join(run.text for run in runs if run.mark is not Mark.ADDED) == before
    assert "".join(run.text for run in runs if run.mark is not Mark.REMOVED) == after
