"""What a runtime may use at most, and that only the one who uses more is hurt."""

import errno
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox.house import LIMITS, Guest, House, Refused, spec, until

pytestmark = pytest.mark.root

EATER = "b = []\nwhile True: b.append(bytearray(b'x' * (1 << 20)))"


@pytest.fixture
def busy(house: House) -> Iterator[Guest]:
    """A runtime of its own for each test that breaks something."""
    guest = house.start("busy", limits=replace(LIMITS, memory_mb=128))
    yield guest
    house.run(house.sandboxes.stop(guest.running, 0))


def test_who_eats_the_memory_is_killed_and_the_rest_lives(busy: Guest, house: House) -> None:
    sibling = busy("import subprocess; p = subprocess.Popen(['sleep', '60']); __builtins__['p'] = p; result = p.pid")
    status = busy(f"import subprocess, sys; result = subprocess.run([sys.executable, '-c', {EATER!r}]).returncode")
    assert status == -9
    assert busy(f"import os; os.kill({sibling}, 0); result = 'alive'") == "alive"
    assert house.run(house.sandboxes.poll(busy.running)) is None
    events = house.sandboxes.events(busy.running)
    assert events.oom_kills == 1
    assert 100 << 20 < events.memory_peak_bytes <= 128 << 20


def test_memory_that_hides_in_tmp_counts_too(busy: Guest) -> None:
    with pytest.raises(Refused) as caught:
        busy("f = open('/tmp/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))")
    assert caught.value.errno == errno.ENOSPC
    assert busy("import os; s = os.statvfs('/tmp'); result = s.f_blocks * s.f_frsize") == 64 << 20


def test_kernels_go_before_the_server_whatever_their_size(busy: Guest, house: House) -> None:
    """The server is made the biggest, and still its small child is the one that is killed."""
    busy("__builtins__['ballast'] = bytearray(b'x' * (40 << 20))")
    child = busy("import subprocess; p = subprocess.Popen(['sleep', '60']); __builtins__['p'] = p; result = p.pid")
    house.sandboxes.events(busy.running)
    assert busy(f"result = open('/proc/{child}/oom_score_adj').read().strip()") == "500"
    assert busy("result = open('/proc/self/oom_score_adj').read().strip()") == "0"


def test_a_command_can_declare_itself_expendable(busy: Guest) -> None:
    assert busy.shell("/etc/mutirao/expendable cat /proc/self/oom_score_adj") == (0, "500\n")


def test_a_fork_bomb_ends_at_the_limit_and_the_host_goes_on(busy: Guest, house: House) -> None:
    made = busy(
        """
import os, time, signal
children = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
except OSError as error:
    result = [len(children), error.errno]
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    )
    assert made[1] == errno.EAGAIN
    assert 40 < made[0] < LIMITS.processes
    assert len(house.sandboxes.pids(busy.running)) < 10
    assert busy.answers()
    assert house.sandboxes.events(busy.running).refused_forks > 0


def test_a_fork_bomb_that_goes_on_dies_with_its_runtime(house: House) -> None:
    bomb = house.start("bomber")
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    bomb(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)")
    until(lambda: len(house.sandboxes.pids(bomb.running)) > 30, "the bomb goes off")
    house.run(house.sandboxes.stop(bomb.running, 0.2))
    assert house.sandboxes.pids(bomb.running) == frozenset()


def test_processors_are_shared_out(house: House) -> None:
    slow = house.start("slow", limits=replace(LIMITS, cpus=0.25))
    spin = "import time\ne = time.monotonic() + 1\nc = time.process_time()\nwhile time.monotonic() < e: pass\n"
    used = slow(spin + "result = time.process_time() - c")
    assert used < 0.5
    assert house.sandboxes.events(slow.running).throttled_s > 0
    house.run(house.sandboxes.stop(slow.running, 0))


def test_a_full_home_is_its_owners_trouble_alone(busy: Guest, guest: Guest, house: House) -> None:
    with pytest.raises(Refused) as caught:
        busy("f = open('/home/member/big', 'wb', 0)\nwhile True: f.write(b'x' * (1 << 20))")
    assert caught.value.errno == errno.ENOSPC
    size = busy("import os; result = os.stat('/home/member/big').st_size")
    assert 25 << 20 < size < LIMITS.disk_mb << 20
    guest("open('/home/member/fine', 'w').write('x' * 100000)")
    busy("import os; os.unlink('/home/member/big'); open('/home/member/small', 'w').write('x')")


def test_what_a_server_prints_is_kept_to_a_limit(busy: Guest, house: House) -> None:
    full = busy(
        "import os\ntry:\n    for _ in range(100): os.write(2, b'noise ' * 20000)\n"
        "except OSError as error: result = error.errno"
    )
    assert full == errno.ENOSPC
    assert busy.answers()
    assert "noise" in house.sandboxes.log(busy.running)
    assert len(house.sandboxes.log(busy.running, 1000)) <= 1000
    assert house.run(house.sandboxes.poll(busy.running)) is None
    assert busy("import os; result = os.write(2, b'room again')") == 10
    assert house.sandboxes.log(busy.running).endswith("room again")


def test_limits_that_make_no_sense_are_named() -> None:
    with pytest.raises(Exception, match=r"limit memory_mb is 1: must be at least 32"):
        replace(LIMITS, memory_mb=1)
    with pytest.raises(Exception, match=r"limit cpus is nan"):
        replace(LIMITS, cpus=float("nan"))


def test_more_open_files_than_the_machine_allows_is_no_error(house: House) -> None:
    """Without CAP_SYS_RESOURCE a hard limit can't be raised, only taken as it is."""
    many = house.start("many", limits=replace(LIMITS, open_files=10**9))
    assert many("import resource as r; result = r.getrlimit(r.RLIMIT_NOFILE)[0]") >= 1024
    house.run(house.sandboxes.stop(many.running, 0))


def test_starting_costs_little(house: House) -> None:
    """A bound a hundred times above what is usual: it catches a wait, not a slow machine."""
    began = time.monotonic()
    running = house.run(house.sandboxes.start(spec("quick")))
    assert time.monotonic() - began < 5
    assert Path(running.cgroup).is_dir()
    house.run(house.sandboxes.stop(running, 0))
