"""The systemd unit: what it says, that systemd takes it, and that nothing is enabled unasked."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from mutirao import unit
from mutirao.errors import ConfigError


@pytest.fixture(autouse=True)
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUTIRAO_RUN", raising=False)


def values(prefix: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.Paths(prefix).unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_is_written_and_nothing_is_enabled(tmp_path: Path) -> None:
    said = unit.install(tmp_path, Path("/etc/mutirao/mutirao.toml"), enable=False)

    assert said[0] == f"Wrote {tmp_path}/etc/systemd/system/mutirao.service."
    assert "Nothing was enabled" in said[1]
    found = values(tmp_path)
    assert found["ExecStart"][0].endswith("-m mutirao up --config /etc/mutirao/mutirao.toml")
    assert (found["Type"], found["KillMode"], found["Delegate"]) == (["notify"], ["mixed"], ["yes"])
    assert unit.Paths(tmp_path).unit.stat().st_mode & 0o777 == 0o644


def test_from_a_checkout_it_starts_through_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTIRAO_RUN", "/srv/my mutirão/100%/run")
    unit.install(tmp_path, None, enable=False)

    assert values(tmp_path)["ExecStart"] == ['"/srv/my mutirão/100%%/run" up']


def test_nothing_gives_it_a_mount_namespace(tmp_path: Path) -> None:
    """A second start would not see which homes are mounted, and could mount one twice."""
    unit.install(tmp_path, None, enable=False)
    isolating = (
        "Private",
        "Protect",
        "ReadOnly",
        "ReadWrite",
        "Inaccessible",
        "Bind",
        "TemporaryFileSystem",
        "Root",
        "Mount",
        "Dynamic",
    )

    assert [key for key in values(tmp_path) if key.startswith(isolating)] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd")
def test_systemd_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "with space" / "run"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("MUTIRAO_RUN", str(program))
    unit.install(tmp_path, Path("/etc/mutirao/mutirao.toml"), enable=False)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit.Paths(tmp_path).unit)], capture_output=True, text=True, check=False
    )

    ours = [line for line in (done.stdout + done.stderr).splitlines() if "mutirao" in line]
    assert ours == []


def test_installing_twice_is_fine_and_another_s_unit_is_left_alone(tmp_path: Path) -> None:
    unit.install(tmp_path, None, enable=False)
    unit.install(tmp_path, None, enable=False)
    unit.Paths(tmp_path).unit.write_text("[Service]\nExecStart=/bin/true\n")

    for act in (lambda: unit.install(tmp_path, None, enable=False), lambda: unit.uninstall(tmp_path)):
        with pytest.raises(ConfigError, match="was not written by"):
            act()


def test_uninstalling_takes_the_unit_away_and_twice_is_fine(tmp_path: Path) -> None:
    unit.install(tmp_path, None, enable=False)

    assert unit.uninstall(tmp_path)[-1].startswith("Removed")
    assert not unit.Paths(tmp_path).unit.exists()
    assert "nothing to do" in unit.uninstall(tmp_path)[0]


def test_enabling_without_systemd_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="systemd does not run here"):
        unit.install(tmp_path, None, enable=True)


@pytest.mark.parametrize("name", ["socket", "@abstract-mutirao-test"])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    address = name if name.startswith("@") else str(tmp_path / name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0" + address[1:] if address.startswith("@") else address)
        ear.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        unit.notify("READY=1")
        assert ear.recv(100) == b"READY=1"


def test_where_systemd_did_not_ask_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    unit.notify("READY=1")
