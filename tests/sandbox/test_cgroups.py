"""Both kinds of control groups, on trees of ordinary files that stand for the kernel's."""

from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox.cgroups import Cgroups, Trees, detect
from mutirao.sandbox.spec import Events, Limits

LIMITS = Limits(memory_mb=512, cpus=1.5, processes=100, open_files=1024, disk_mb=100)

V1 = """\
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
"""


def tree(place: Path, controllers: str = "cpuset cpu io memory pids") -> Path:
    """A v2 tree as the kernel shows it, with our parent in it."""
    for directory in (place, place / "mutirao-test"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.controllers").write_text(controllers + "\n")
        (directory / "cgroup.subtree_control").write_text("")
        (directory / "cgroup.procs").write_text("")
    return place


def test_v1_is_found_one_controller_at_a_time() -> None:
    trees = detect(V1)
    assert trees.v1 == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "memory": Path("/sys/fs/cgroup/memory"),
        "pids": Path("/sys/fs/cgroup/pids"),
    }
    assert (trees.v2, trees.kind, trees.lacking()) == (None, "v1", ())


def test_v2_is_found_with_what_it_offers(tmp_path: Path) -> None:
    trees = detect(f"cgroup2 {tree(tmp_path)} cgroup2 rw,nosuid 0 0\n")
    assert (trees.kind, trees.lacking(), trees.roots()) == ("v2", (), (tmp_path,))


def test_an_empty_v2_tree_beside_v1_serves_for_killing(tmp_path: Path) -> None:
    trees = detect(V1 + f"cgroup2 {tree(tmp_path, 'hugetlb')} cgroup2 rw 0 0\n")
    assert trees.kind == "v1"
    assert trees.roots()[0] == tmp_path
    assert len(trees.roots()) == 4


def test_controllers_shared_out_between_both_are_each_used_where_they_are(tmp_path: Path) -> None:
    trees = detect(V1 + f"cgroup2 {tree(tmp_path, 'memory pids')} cgroup2 rw 0 0\n")
    assert trees.lacking() == ()
    assert trees.roots() == (tmp_path, Path("/sys/fs/cgroup/cpu,cpuacct"))


def test_what_is_missing_is_named() -> None:
    trees = detect("cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\nnonsense\n")
    assert trees.lacking() == ("cpu", "memory")
    with pytest.raises(SandboxError, match="no control group for cpu, memory: runtimes can't be limited"):
        Cgroups("test", trees).prepare()


def test_v2_gets_its_limits(tmp_path: Path) -> None:
    tree(tmp_path)
    groups = Cgroups("test", Trees({}, tmp_path, frozenset({"cpu", "memory", "pids"})))
    groups.prepare()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (tmp_path / "mutirao-test" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    groups.make("r1", LIMITS)
    (place,) = map(Path, groups.places("r1"))
    assert place == tmp_path / "mutirao-test" / "r1"
    assert (place / "memory.max").read_text() == str(512 << 20)
    assert (place / "memory.swap.max").read_text() == "0"
    assert (place / "cpu.max").read_text() == "150000 100000"
    assert (place / "pids.max").read_text() == "100"


def test_controllers_already_handed_down_are_left_alone(tmp_path: Path) -> None:
    tree(tmp_path)
    for directory in (tmp_path, tmp_path / "mutirao-test"):
        (directory / "cgroup.subtree_control").write_text("cpu io memory pids")
    Cgroups("test", Trees({}, tmp_path, frozenset({"cpu", "memory", "pids"}))).prepare()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "cpu io memory pids"


def test_v1_gets_its_limits(tmp_path: Path) -> None:
    v1 = {name: tmp_path / name for name in ("cpu", "memory", "pids")}
    for place in v1.values():
        place.mkdir()
    groups = Cgroups("test", Trees(v1, None, frozenset()))
    groups.prepare()
    groups.make("r1", LIMITS)
    places = groups.places("r1")
    assert places == tuple(str(v1[name] / "mutirao-test" / "r1") for name in ("cpu", "memory", "pids"))
    read = {p.name: p.read_text() for place in places for p in Path(place).iterdir()}
    assert read == {
        "memory.limit_in_bytes": str(512 << 20),
        "memory.memsw.limit_in_bytes": str(512 << 20),
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "pids.max": "100",
    }


V2_FILES = {
    "memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n",
    "memory.current": "1000\n",
    "memory.peak": "2000\n",
    "pids.events": "max 4\n",
    "cpu.stat": "usage_usec 5\nnr_throttled 1\nthrottled_usec 1500000\n",
}
V1_FILES = {
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "memory.usage_in_bytes": "1000\n",
    "memory.max_usage_in_bytes": "2000\n",
    "pids.events": "max 4\n",
    "cpu.stat": "nr_periods 9\nnr_throttled 1\nthrottled_time 1500000000\n",
}


@pytest.mark.parametrize("files", [V1_FILES, V2_FILES], ids=["v1", "v2"])
def test_events_read_the_same_from_both(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = Cgroups("test", Trees({}, None, frozenset())).events((str(tmp_path),))
    assert found == Events(3, 1000, 2000, 4, 1.5)


def test_events_of_a_runtime_that_is_gone_are_zero(tmp_path: Path) -> None:
    assert Cgroups("test", Trees({}, None, frozenset())).events((str(tmp_path / "gone"),)) == Events()


def test_a_missing_control_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"refuses cpu, memory, pids .*Run as root outside a container"):
        Cgroups("test", Trees({}, tmp_path, frozenset({"cpu", "memory", "pids"}))).prepare()
