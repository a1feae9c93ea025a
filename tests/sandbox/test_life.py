"""A runtime's life: started, found again, stopped; and that nothing of it is left."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import cgroups, homes, launch, machine, processes
from mutirao.sandbox.sandboxes import Sandboxes
from mutirao.sandbox.spec import HOME, ReadOnly, Running, from_json, to_json
from tests.sandbox.house import HUB_PORT, LIMITS, Guest, House, spec, until

pytestmark = pytest.mark.root

SLEEPER = ("/bin/sleep", "300")


def standing(mark: str) -> dict[str, list[str]]:
    """Everything on this machine that carries `mark`."""
    groups = [str(p) for p in Path("/sys/fs/cgroup").glob("**/mutirao-*/**/") if mark in str(p)]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if mark in line]
    links = [place.name for place in Path("/sys/class/net").iterdir() if mark in place.name]
    tables = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    addresses = subprocess.run(["ip", "addr"], capture_output=True, text=True, check=True).stdout
    return {
        "groups": groups,
        "mounts": mounts,
        "links": links,
        "tables": [line for line in tables.splitlines() if mark in line],
        "loops": [line for line in loops.splitlines() if mark in line],
        "routes": [line for line in routes.splitlines() if mark in line],
        "addresses": [line for line in addresses.splitlines() if mark in line],
        "run": [
            f"{top}/{name}" for top, _, names in os.walk("/run/mutirao") for name in ("", *names) if mark in top + name
        ],
    }


def names_of(sandboxes: Sandboxes) -> tuple[str, ...]:
    """What only this instance's things are called; its four digits alone occur in the names of any package's files."""
    instance = sandboxes.instance
    return (f"mutirao-{instance}", f"mutirao_{instance}", f"mut{instance}", f"/run/mutirao/{instance}")


def of_uids(first: int, last: int) -> list[int]:
    """The processes that run as members; a zombie has ended and waits for init, however slow that is."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            seen = processes.stat(int(place.name))
            if first <= place.stat().st_uid <= last and seen and seen.state not in "ZX":
                found.append(int(place.name))
        except FileNotFoundError:
            continue
    return found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    """A service of its own for each test, with its own range of uids and addresses."""
    sandboxes = fresh(tmp_path)
    with asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        house = House(sandboxes, runner)
        try:
            yield house
        finally:
            runner.run(sandboxes.teardown(grace_s=0))


def fresh(data: Path) -> Sandboxes:
    """The same service in another life: a new process knows only what is written down."""
    return Sandboxes(data, subnet="172.30.0.0/24", uid_first=310_000, uid_count=50, hub_ports=(HUB_PORT,))


def test_after_a_stop_nothing_of_the_runtime_is_left(own: House) -> None:
    running = own.start("ada").running
    before = standing(running.id)
    assert before["groups"] and before["mounts"] and before["links"] and before["tables"] and before["run"]
    own.run(own.sandboxes.stop(running))
    assert not any(standing(running.id).values()), standing(running.id)
    assert not any(line for line in standing(running.walls.home)["mounts"])
    assert not of_uids(310_000, 310_049)
    assert not Path(f"/proc/{running.pid}").exists()


def test_after_a_teardown_nothing_of_the_service_is_left(own: House, tmp_path: Path) -> None:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    for name in ("ada", "bob"):
        own.start(name)
    marks = (*names_of(own.sandboxes), "172.30.0", str(tmp_path))
    assert all(any(standing(mark).values()) for mark in marks)
    own.run(own.sandboxes.teardown(grace_s=0))
    assert not Path("/run/mutirao", own.sandboxes.instance).exists()
    for mark in marks:
        assert not any(standing(mark).values()), standing(mark)
    assert not of_uids(310_000, 310_049)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() <= forwarding


def test_a_teardown_that_meets_a_stuck_mount_harms_no_home(own: House, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = own.start("ada")
    guest(f"open('{HOME}/thesis', 'w').write('all of it')")
    home = guest.running.walls.home
    with monkeypatch.context() as stuck:
        stuck.setattr(homes, "unmount", lambda place: None)
        own.run(own.sandboxes.teardown(grace_s=0))
    try:
        assert (Path(home) / "thesis").read_text() == "all of it"
    finally:
        for point in sorted((p for p in homes.mount_points() if own.sandboxes.instance in p), reverse=True):
            subprocess.run(["umount", "-l", point], check=True)
        own.run(own.sandboxes.teardown(grace_s=0))
        assert not Path("/run/mutirao", own.sandboxes.instance).exists()


def test_prepare_stop_and_teardown_may_be_said_twice(own: House, tmp_path: Path) -> None:
    running = own.start("ada").running
    own.run(own.sandboxes.prepare())
    assert own.run(own.sandboxes.poll(running)) is None
    own.run(own.sandboxes.stop(running, 0))
    own.run(own.sandboxes.stop(running, 0))
    own.run(fresh(tmp_path).teardown())
    own.run(fresh(tmp_path).teardown())
    own.run(own.sandboxes.prepare())


def test_the_home_outlives_the_runtime(own: House) -> None:
    first = own.start("ada")
    first(f"import os; os.mkdir('{HOME}/work'); open('{HOME}/work/n.ipynb', 'w').write('mine')")
    own.run(own.sandboxes.stop(first.running, 0))
    second = own.start("ada")
    assert second(f"result = open('{HOME}/work/n.ipynb').read()") == "mine"
    assert second.running.uid == first.running.uid
    assert second.running.address != first.running.address
    assert oct(Path(second.running.walls.home).stat().st_mode & 0o7777) == "0o700"


def test_two_runtimes_of_one_member_share_the_home_until_the_last_stops(own: House) -> None:
    one, two = own.start("ada"), own.start("ada", server="gpu")
    assert one.running.walls.home == two.running.walls.home
    one(f"open('{HOME}/x', 'w').write('1')")
    own.run(own.sandboxes.stop(one.running, 0))
    assert two(f"result = open('{HOME}/x').read()") == "1"
    own.run(own.sandboxes.stop(two.running, 0))
    assert not standing(two.running.walls.home)["mounts"]


def test_a_home_grows_with_its_limit(own: House) -> None:
    size = "import os; s = os.statvfs('/home/member'); result = s.f_blocks * s.f_frsize >> 20"
    small = own.start("ada")
    small(f"open('{HOME}/kept', 'w').write('x')")
    assert small(size) < LIMITS.disk_mb
    own.run(own.sandboxes.stop(small.running, 0))
    big = own.start("ada", limits=replace(LIMITS, disk_mb=120))
    assert big(size) > 90
    assert big(f"result = open('{HOME}/kept').read()") == "x"
    own.run(own.sandboxes.stop(big.running, 0))
    again = own.start("ada")
    assert again(size) > 90, "and never shrinks"


def test_a_server_that_ends_gives_its_status(own: House) -> None:
    for argv, code in (
        (("/bin/sh", "-c", "sleep 0.1; exit 7"), 7),
        (("/bin/sh", "-c", "sleep 0.1; kill -9 $$"), 137),
        (("/bin/true",), 0),
    ):
        try:
            running = own.run(own.sandboxes.start(spec("ada", argv=argv)))
        except SandboxError:
            assert argv == ("/bin/true",), "which may be over before it is seen to run"
            continue
        until(lambda: own.run(own.sandboxes.poll(running)) is not None, "it ends")  # noqa: B023
        assert own.run(own.sandboxes.poll(running)) == code
        own.run(own.sandboxes.stop(running))


def test_children_die_with_the_server(own: House) -> None:
    running = own.run(own.sandboxes.start(spec("ada", argv=("/bin/sh", "-c", "setsid sleep 300 & sleep 0.2"))))
    until(lambda: own.run(own.sandboxes.poll(running)) is not None, "it ends")
    until(lambda: not of_uids(310_000, 310_049), "its children too", 2)


def test_a_server_is_asked_before_it_is_killed(own: House) -> None:
    code = f"trap 'echo bye >{HOME}/last; exit 0' TERM; touch {HOME}/ready; while :; do sleep 0.05; done"
    running = own.run(own.sandboxes.start(spec("ada", argv=("/bin/sh", "-c", code))))
    until((Path(running.walls.home) / "ready").exists, "the trap is set")
    own.run(own.sandboxes.stop(running, 5))
    after = own.start("ada")
    assert after(f"result = open('{HOME}/last').read()") == "bye\n"


def test_a_server_that_will_not_go_is_killed(own: House) -> None:
    code = f"trap '' TERM INT HUP; touch {HOME}/ready; while :; do sleep 1; done"
    running = own.run(own.sandboxes.start(spec("ada", argv=("/bin/sh", "-c", code))))
    until((Path(running.walls.home) / "ready").exists, "the trap is set")
    own.run(own.sandboxes.stop(running, 0.2))
    assert not of_uids(310_000, 310_049)


def test_the_status_is_known_to_another_process_too(own: House, tmp_path: Path) -> None:
    running = own.run(own.sandboxes.start(spec("ada", argv=("/bin/sh", "-c", "sleep 0.3; exit 5"))))
    other = fresh(tmp_path)
    assert own.run(other.poll(running)) is None
    until(lambda: own.run(own.sandboxes.poll(running)) is not None, "it ends")
    assert own.run(other.poll(from_json(Running, to_json(running)))) == 5


def test_a_service_that_comes_back_finds_its_runtimes(own: House, tmp_path: Path) -> None:
    kept = own.start("ada")
    dead = own.start("bob")
    os.kill(dead.running.child_pid, signal.SIGKILL)
    until(lambda: own.run(own.sandboxes.poll(dead.running)) is not None, "it ends")
    later = fresh(tmp_path)
    assert own.run(later.recover()) == (kept.running,)
    own.run(later.prepare())
    assert kept.answers()
    assert not any(standing(dead.running.id).values())
    third = own.run(later.start(spec("cal")))
    assert third.address not in (kept.running.address, dead.running.address)
    assert third.uid == 310_002
    own.run(later.stop(third, 0))
    own.run(later.stop(kept.running, 0))
    assert not any(standing(kept.running.id).values())


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02, 0.04])
def test_a_start_that_nobody_waits_for_any_more_is_undone(own: House, delay_s: float) -> None:
    async def give_up() -> None:
        task = asyncio.create_task(own.sandboxes.start(spec("ada", argv=SLEEPER)))
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    own.run(give_up())
    place = Path("/run/mutirao") / own.sandboxes.instance
    own.run(own.sandboxes._threads.settle())
    assert not [*place.glob("*.json"), *place.glob("runtime-*")]
    assert not of_uids(310_000, 310_049)


def test_without_any_v2_tree_everything_is_still_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines with v1 alone have no cgroup.kill: the processes are killed one by one until none is left."""
    trees = cgroups.detect()
    if trees.kind != "v1":
        pytest.skip("this machine has no v1 controllers")
    monkeypatch.setattr(cgroups, "detect", lambda: replace(trees, v2=None, v2_controllers=frozenset()))
    sandboxes = fresh(tmp_path)
    with asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        try:
            guest = House(sandboxes, runner).start("ada")
            code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
            guest(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)")
            until(lambda: len(sandboxes.pids(guest.running)) > 30, "the bomb goes off")
            assert "unified" not in guest.running.cgroup
            sandboxes._kill(guest.running.walls, None)
            until(lambda: not of_uids(310_000, 310_049), "all are killed", 2)
            runner.run(sandboxes.stop(guest.running, 0))
            assert not any(standing(guest.running.id).values())
        finally:
            runner.run(sandboxes.teardown(0))


def test_walls_of_a_service_that_died_half_way_are_swept(own: House, tmp_path: Path) -> None:
    walls = own.run(own.sandboxes.build(spec("ada")))
    assert any(standing(walls.id).values())
    assert own.run(fresh(tmp_path).recover()) == ()
    assert not any(standing(walls.id).values())


def test_remains_without_a_record_are_found_by_their_marks(own: House, tmp_path: Path) -> None:
    running = own.start("ada").running
    (Path("/run/mutirao") / own.sandboxes.instance / f"{running.id}.json").write_text('{"walls": {"id"')
    assert own.run(fresh(tmp_path).recover()) == ()
    assert not any(standing(running.id).values())
    assert not of_uids(310_000, 310_049)


def test_a_reused_pid_is_nobodys_runtime(own: House) -> None:
    running = own.start("ada").running
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        forged = replace(running, pid=stranger.pid, child_pid=stranger.pid)
        assert own.run(own.sandboxes.poll(forged)) is not None
        own.run(own.sandboxes.stop(forged, 0))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("pid", [0, -1, 1])
def test_pids_that_mean_everybody_hit_nobody(pid: int) -> None:
    assert not processes.kill(pid, 12345, signal.SIGKILL)
    assert not processes.alive(pid, 12345)


NAMES = ["../../x", "üser", "a" * 255, "", "a\0b", "a\nb", "a b", "-rf", "~", "日本", "A", "a", "\ud800", "'; reboot #"]


def test_no_name_is_too_strange(own: House) -> None:
    running = [own.run(own.sandboxes.start(spec(name, argv=SLEEPER))) for name in NAMES]
    assert len({r.uid for r in running}) == len(NAMES)
    assert len({r.walls.home for r in running}) == len(NAMES)
    homes = Path("/run/mutirao") / own.sandboxes.instance / "homes"
    assert {Path(r.walls.home).parent for r in running} == {homes}
    assert own.sandboxes.uids.all() == {name: r.uid for name, r in zip(NAMES, running, strict=True)}
    for one in running:
        own.run(own.sandboxes.stop(one, 0))


def test_twenty_runtimes_stand_at_once(own: House) -> None:
    async def crowd() -> list[Running]:
        return list(await asyncio.gather(*(own.sandboxes.start(spec(f"member-{n}")) for n in range(20))))

    running = own.run(crowd())
    guests = [Guest(one, own) for one in running]
    for guest in guests:
        guest.wait()
    assert len({guest.running.address for guest in guests}) == 20
    assert len({guest.running.uid for guest in guests}) == 20
    for number, guest in enumerate(guests):
        guest(f"open('{HOME}/who', 'w').write('{number}')")
    assert [guest(f"result = open('{HOME}/who').read()") for guest in guests] == [str(n) for n in range(20)]


def test_an_environment_below_a_closed_directory_is_still_readable(own: House, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    environment = closed / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to("/usr/bin/python3")
    closed.chmod(0o700)
    guest = own.start("ada", environment=environment, argv=(f"{environment}/bin/python", *spec("x").argv[1:]))
    assert guest(f"import os; result = os.listdir('{environment}')") == ["bin"]
    assert guest(f"import os; result = os.access('{environment}', os.W_OK)") is False
    assert guest("import sys; result = sys.executable") == f"{environment}/bin/python"


def test_files_of_the_host_can_be_shown_read_only(own: House, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.json").write_text("{}")
    (tmp_path / "note").write_text("hello")
    shown = (ReadOnly(tmp_path / "conf", "/etc/jupyter"), ReadOnly(tmp_path / "note", "/opt/mutirao/note"))
    guest = own.start("ada", read_only=shown)
    assert guest("result = open('/etc/jupyter/a.json').read() + open('/opt/mutirao/note').read()") == "{}hello"
    assert guest.shell("echo x >/etc/jupyter/b")[0] != 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"argv": ("/usr/bin/no-such-server",)}, r"did not start .*No such file"),
        ({"argv": ("/etc/passwd",)}, r"did not start .*Permission denied"),
        ({"environment": Path("/no/such/env")}, r"/no/such/env is to be shown to 'ada', but it does not exist"),
    ],
)
def test_a_server_that_cant_start_is_an_error_that_says_why(
    own: House, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SandboxError, match=message):
        own.run(own.sandboxes.start(spec("ada", **changes)))
    assert not standing(f"/run/mutirao/{own.sandboxes.instance}/runtime-")["mounts"]
    assert not of_uids(310_000, 310_049)


def test_a_range_without_a_free_uid_says_so(tmp_path: Path) -> None:
    sandboxes = Sandboxes(tmp_path, subnet="172.31.0.0/24", uid_first=320_000, uid_count=1)
    with asyncio.Runner() as runner:
        runner.run(sandboxes.prepare())
        try:
            runner.run(sandboxes.start(spec("ada", argv=SLEEPER)))
            with pytest.raises(SandboxError, match=r"no host uid is left for 'bob': all 1 of 320000-320000"):
                runner.run(sandboxes.start(spec("bob", argv=SLEEPER)))
        finally:
            runner.run(sandboxes.teardown(0))


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "small", str(small)], check=True)
    sandboxes = Sandboxes(small, subnet="172.31.0.0/24", uid_first=320_000, uid_count=9)
    try:
        with asyncio.Runner() as runner:
            runner.run(sandboxes.prepare())
            try:
                with pytest.raises(SandboxError, match=r"is full \(\d+ MB free, 64 needed\).*Free some space"):
                    runner.run(sandboxes.start(spec("ada", argv=SLEEPER)))
                assert not any(standing(mark)["mounts"] for mark in names_of(sandboxes))
            finally:
                runner.run(sandboxes.teardown(0))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with asyncio.Runner() as runner, pytest.raises(SandboxError, match=r"need root .*: start the service with sudo"):
        runner.run(Sandboxes(tmp_path, subnet="172.31.0.0/24").prepare())


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(launch.ROOT_ENV, "PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="bwrap is missing: install the package bubblewrap"):
        machine.need_programs()


def test_no_user_namespaces_is_an_error_that_names_the_switches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setitem(launch.ROOT_ENV, "PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxError, match=r"can't make user namespaces .*user\.max_user_namespaces"):
        machine.need_user_namespaces(200_000)


def test_a_server_sees_the_hubs_address_as_its_caller(own: House) -> None:
    guest = own.start("ada")
    callers = guest("result = [line.split()[2].split(':')[0] for line in list(open('/proc/net/tcp'))[1:]]")
    assert "01001EAC" in callers, "172.30.0.1 as the kernel writes it"
    found = json.loads(subprocess.run(["ip", "-j", "route"], capture_output=True, check=True).stdout)
    mine = next(route for route in found if route["dst"] == guest.running.address)
    assert mine["prefsrc"] == own.sandboxes.hub_address
