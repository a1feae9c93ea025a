"""What root does between the walls and bubblewrap, as it is asked of the machine's own programs."""

import resource

import pytest

from mutirao.sandbox import launch
from mutirao.sandbox.spec import Walls
from tests.sandbox.house import spec

WALLS = Walls("1f", "ada", "", 200_000, "172.29.0.2", 8888, "mut1", "/run/net", "/run/home", ("/sys/fs/cgroup/x", "/y"))


@pytest.mark.parametrize(
    ("hard", "core", "files"),
    [(resource.RLIM_INFINITY, "1:1", "512:512"), (0, "0:0", "0:0"), (300, "1:1", "300:300"), (10**6, "1:1", "512:512")],
)
def test_limits_are_lowered_and_never_raised(monkeypatch: pytest.MonkeyPatch, hard: int, core: str, files: str) -> None:
    """A core limit of one byte keeps a crash from the host's handler; zero would only keep it from a file."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (0, hard))
    words = launch._enter_as_root(WALLS, spec("ada"))
    assert f"--core={core}" in words
    assert f"--nofile={files}" in words


def test_bubblewrap_starts_last_and_as_the_member() -> None:
    words = launch._enter_as_root(WALLS, spec("ada"))
    order = [
        words.index(w) for w in ("/sys/fs/cgroup/x/cgroup.procs", "/y/cgroup.procs", "prlimit", "nsenter", "setpriv")
    ]
    assert order == sorted(order)
    become = words[words.index("setpriv") :]
    assert become[1:6] == ["--reuid", "200000", "--regid", "200000", "--clear-groups"]
    assert "--no-new-privs" in become
    assert "s3cret value" not in words
