"""The doctor speaks of everything, breaks on nothing and leaves nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import cgroups, firewall, launch, quota, seccomp
from mutirao.sandbox.doctor import Check, State, examine

NAMES = {
    "python", "root", "programs", "bubblewrap", "control groups", "seccomp", "network", "nftables",
    "address translation", "other firewalls", "forwarding", "name resolution", "homes", "disk", "memory", "BPF", "GPU",
}  # fmt: skip
ROOTLESS_NAMES = {
    "python", "user", "programs", "user namespaces", "pasta", "nftables", "limits", "seccomp", "name resolution", "disk",
    "memory", "BPF", "GPU",
}  # fmt: skip


def standing() -> tuple[object, ...]:
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return (
        {place.name for place in Path("/sys/class/net").iterdir() if "doctor" in place.name or "try" in place.name},
        [line for line in tables.splitlines() if "doctor" in line],
        [str(p) for p in Path("/sys/fs/cgroup").glob("**/*doctor*")],
        Path("/run/netns").exists(),
    )


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Check]:
    return {check.name: check for check in examine(tmp_path / "not" / "yet")}


def test_everything_is_examined(found: dict[str, Check]) -> None:
    assert set(found) == (NAMES if os.geteuid() == 0 else ROOTLESS_NAMES)
    for check in found.values():
        assert check.found
        assert "could not be examined" not in check.found, check
        assert bool(check.do) == (check.state is not State.OK), check


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = standing()
    examine(tmp_path)
    assert standing() == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_hears_of_rootless_mode(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from mutirao.sandbox.doctor import examine\n"
        "for check in examine(): print(check.name, '|', check.state, '|', check.found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import mutirao.sandbox.doctor\n{code}"],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": "src", "PATH": "/usr/bin"},
    )  # fmt: skip
    lines = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    assert set(lines) == ROOTLESS_NAMES
    assert lines["user"].startswith("note | uid 65534: rootless mode. All members are one user of this machine")
    assert lines["user namespaces"].startswith("ok")
    assert lines["nftables"].startswith("ok")
    assert "could not be examined" not in done.stdout


def one(name: str) -> Check:
    return next(check for check in examine() if check.name == name)


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("name", "target", "attribute"),
    [
        ("control groups", cgroups, "detect"),
        ("name resolution", firewall, "host_resolvers"),
        ("homes", quota, "device"),
        ("seccomp", seccomp, "program"),
        ("memory", os, "cpu_count"),
    ],
)
def test_what_breaks_is_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, name: str, target: object, attribute: str
) -> None:
    monkeypatch.setattr(target, attribute, broken)
    assert one(name) == Check(name, State.NOTE, "could not be examined: no such thing", "Report this as a bug.")


def lacking(message: str) -> Callable[..., None]:
    def raise_it(*_: object, **__: object) -> None:
        raise SandboxError(message)

    return raise_it


def test_an_empty_machine_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(launch.ROOT_ENV, "PATH", str(tmp_path))
    monkeypatch.setattr(seccomp, "program", lacking("libseccomp is missing"))
    found = {check.name: check for check in examine(tmp_path)}
    assert found["programs"].state is State.LACK
    assert found["programs"].do == "apt-get install bubblewrap nftables util-linux mount e2fsprogs"
    assert found["bubblewrap"].do == "apt-get install bubblewrap"
    assert found["seccomp"].do == "apt-get install libseccomp2"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.root
def test_no_address_translation_is_a_note_and_no_nftables_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "nft", lacking("nftables refuses our rules (Operation not supported)"))
    assert one("address translation").state is State.NOTE
    assert "routes sandbox.subnet back" in one("address translation").do
    assert one("nftables").state is State.LACK


def test_missing_controllers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "detect", lambda: cgroups.Trees({}, None, frozenset({"pids"})))
    check = one("control groups")
    assert (check.state, check.found) == (State.LACK, "no cpu, memory in v1 or v2")


def test_a_stub_resolver_is_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "host_resolvers", lambda: ())
    assert "sandbox.dns_servers" in one("name resolution").do
