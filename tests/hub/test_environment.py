"""Environments have plain names, are built whole or not at all, and a change of what is in them makes a new one."""

import os
import stat
from pathlib import Path

import pytest

from mutirao.errors import ConfigError
from mutirao.hub import environment

UV = """#!/bin/sh
echo "$@" >>"$UV_LOG"
case "$1 $2" in
  "venv "*) for last; do :; done; mkdir -p "$last/bin" "$last/share/jupyter/kernels/python3"; : >"$last/bin/python" ;;
  "pip sync") [ -z "$UV_FAILS" ] || { echo "no such package: $UV_FAILS" >&2; exit 1; } ;;
  "pip compile") while [ "$1" != -o ]; do shift; done; echo "locked==1" >"$2" ;;
esac
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, and a uv that only writes down what it is asked for."""
    uv = tmp_path / "uv"
    uv.write_text(UV)
    uv.chmod(0o755)
    monkeypatch.setenv("MUTIRAO_UV", str(uv))
    monkeypatch.setenv("MUTIRAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV_LOG", str(tmp_path / "uv.log"))
    monkeypatch.setenv("UV_FAILS", "")
    return tmp_path / "data"


def asked(data: Path) -> int:
    """How often uv was asked for something."""
    log = data.parent / "uv.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "../../etc/passwd",
        "Base",
        "BASE",
        "base.txt",
        "base/../base",
        " base",
        "base\n",
        "1st",
        "-x",
        "x" * 33,
        "bäse",
        ".",
    ],
)
def test_what_is_no_name_is_refused(data: Path, name: str) -> None:
    requirements = data.parent / "requirements.txt"
    requirements.touch()

    with pytest.raises(ConfigError, match="There is no environment called"):
        environment.find(name, data)
    with pytest.raises(ConfigError, match="is no name for an environment"):
        environment.add(name, requirements, data)
    with pytest.raises(ConfigError, match="is no environment that was added here"):
        environment.remove(name, data)
    assert asked(data) == 0


def test_an_unknown_one_is_answered_with_the_known_ones(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"called 'absent': have base, ml\."):
        environment.find("absent", data)


def test_building_twice_does_nothing_the_second_time(data: Path) -> None:
    base = environment.find("base", data)
    assert not base.ready
    environment.build(base)
    assert base.ready
    before = asked(data)

    environment.build(base)

    assert asked(data) == before > 0


def test_our_own_files_are_laid_into_it(data: Path) -> None:
    base = environment.find("base", data)
    environment.build(base)

    start = base.path / "bin" / "mutirao-start"
    assert start.stat().st_mode & stat.S_IXOTH
    spec = (base.path / "share" / "jupyter" / "kernels" / "python3" / "kernel.json").read_text()
    assert str(base.path / "bin" / "python") in spec
    assert "@python@" not in spec


def test_a_plain_one_has_nothing_of_ours(data: Path) -> None:
    base = environment.find("base", data)
    plain = environment.Environment("stock", base.lock, data.parent / "home" / "envs" / "stock", plain=True)
    environment.build(plain)

    assert plain.ready
    assert not (plain.path / "bin" / "mutirao-start").exists()


def test_what_root_built_serves_others_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTIRAO_HOME", str(tmp_path / "mine"))
    mine = environment.find("base", tmp_path).path
    built = tmp_path / "root" / "envs" / mine.name
    built.mkdir(parents=True)
    monkeypatch.setenv("MUTIRAO_SHARED", str(tmp_path / "root"))
    assert environment.find("base", tmp_path).path == mine, "half built is not built"
    (built / ".ready").touch()
    assert environment.find("base", tmp_path).path == built
    mine.mkdir(parents=True)
    assert environment.find("base", tmp_path).path == mine


def test_one_that_was_interrupted_is_built_again_from_nothing(data: Path) -> None:
    base = environment.find("base", data)
    (base.path / "lib").mkdir(parents=True)
    (base.path / "lib" / "half a package").touch()

    environment.build(base)

    assert base.ready
    assert not (base.path / "lib" / "half a package").exists()


def test_one_that_fails_is_not_ready_and_says_why(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = environment.find("base", data)
    monkeypatch.setenv("UV_FAILS", "numqy")
    with pytest.raises(ConfigError, match=r"Environment base can't be built:\nno such package: numqy"):
        environment.build(base)
    assert not base.ready

    monkeypatch.setenv("UV_FAILS", "")
    environment.build(base)
    assert base.ready


def test_uv_that_is_not_there_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUTIRAO_UV")
    monkeypatch.setenv("PATH", str(data.parent / "empty"))
    with pytest.raises(ConfigError, match="uv is not there"):
        environment.build(environment.find("base", data))


def test_a_changed_lock_is_a_new_environment(data: Path) -> None:
    folder = data / "environments"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("numpy==1")
    first = environment.find("mine", data)
    environment.build(first)
    (folder / "mine.txt").write_text("numpy==2")
    second = environment.find("mine", data)

    assert first.path != second.path
    assert first.ready  # runtimes that use it go on
    assert not second.ready


def test_an_operators_own_comes_before_a_shipped_one(data: Path) -> None:
    (data / "environments").mkdir(parents=True)
    (data / "environments" / "base.txt").write_text("mine==1")

    assert environment.find("base", data).lock == data / "environments" / "base.txt"
    environment.remove("base", data)
    assert environment.find("base", data).lock == environment.shipped_locks() / "base.txt"


def test_adding_locks_the_requirements_and_removing_forgets_them(data: Path) -> None:
    requirements = data.parent / "requirements.txt"
    requirements.write_text("locked\n")
    added = environment.add("mine", requirements, data)

    assert added.lock.read_text() == "locked==1\n"
    assert "mine" in environment.names(data)
    environment.remove("mine", data)
    assert environment.names(data) == ["base", "ml"]


def test_adding_what_is_no_file_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file: give a requirements"):
        environment.add("mine", data.parent, data)


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root to see what others see")
def test_what_is_built_can_be_read_by_every_uid(data: Path) -> None:
    before = os.umask(0o077)
    try:
        base = environment.find("base", data)
        environment.build(base)
    finally:
        os.umask(before)
    for path in (base.path.parent, base.path, base.path / "bin" / "mutirao-start", *base.path.rglob("*")):
        assert path.stat().st_mode & 0o004, path
