"""What a member meets inside: each test asks from within a real sandbox."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.sandbox.house import ENV, Guest, House, Refused

pytestmark = pytest.mark.root


def fails(guest: Guest, code: str) -> int | None:
    """The errno of what `code` raises inside."""
    with pytest.raises(Refused) as caught:
        guest(code)
    return caught.value.errno


CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""


def test_the_host_knows_the_member_by_a_uid_of_the_range(guest: Guest, house: House) -> None:
    first, last = house.sandboxes.uids.first, house.sandboxes.uids.last
    status = Path(f"/proc/{guest.running.child_pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert uids == [str(guest.running.uid)] * 4
    assert first <= guest.running.uid <= last


def test_inside_the_member_is_an_ordinary_user(guest: Guest) -> None:
    assert guest("import os; result = [os.getuid(), os.getgid(), os.getgroups()]") == [1000, 1000, []]
    assert guest.shell("id -un")[1].strip() == "member"


def test_two_members_have_different_uids(guest: Guest, neighbour: Guest) -> None:
    assert guest.running.uid != neighbour.running.uid


@pytest.mark.parametrize("capability", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_there_are_no_capabilities(guest: Guest, capability: str) -> None:
    assert status(guest, capability) == "0" * 16


def test_no_new_privileges_can_be_gained(guest: Guest) -> None:
    assert status(guest, "NoNewPrivs") == "1"


def test_a_filter_of_system_calls_is_on(guest: Guest) -> None:
    assert status(guest, "Seccomp") == "2"


def status(guest: Guest, key: str) -> str:
    lines = guest("result = open('/proc/self/status').read()").splitlines()
    return next(str(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def test_every_process_inside_is_walled_as_the_server_is(guest: Guest, house: House) -> None:
    for pid in house.sandboxes.pids(guest.running) - {guest.running.pid}:
        text = Path(f"/proc/{pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in text
        assert "NoNewPrivs:\t1" in text
        assert "Seccomp:\t2" in text


def test_setuid_programs_give_nothing(guest: Guest) -> None:
    setuid = [path for path in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd") if os.access(path, os.X_OK)]
    assert setuid, "a Debian without su, mount and passwd?"
    assert "nosuid" in guest("result = open('/proc/mounts').read()").split(" /usr ")[1].split()[1]
    assert guest.shell("su -c id root </dev/null")[0] != 0
    assert guest.shell("cp /usr/bin/id /tmp/id && chmod u+s /tmp/id && /tmp/id -u")[1].strip() == "1000"


def test_the_environment_is_exactly_what_was_given(guest: Guest) -> None:
    given = guest("result = open('/proc/self/environ').read()").strip("\0").split("\0")
    assert dict(entry.split("=", 1) for entry in given) == ENV | {"PWD": "/home/member"}


def test_secrets_of_the_environment_are_in_no_command_line(guest: Guest, house: House) -> None:
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        assert b"s3cret value" not in words


def test_pid_1_inside_has_no_environment_of_the_host(guest: Guest) -> None:
    assert "s3cret" not in guest.shell("tr '\\0' '\\n' </proc/1/environ")[1]
    assert "SSH" not in guest.shell("tr '\\0' '\\n' </proc/1/environ")[1]


def test_host_processes_are_invisible(guest: Guest) -> None:
    pids = [int(name) for name in guest("import os; result = os.listdir('/proc')") if name.isdigit()]
    assert set(pids) <= set(range(1, 300))
    assert not (Path("/proc") / str(os.getpid()) / "nothing").exists()
    words = guest("import glob; result = [open(p, 'rb').read().decode() for p in glob.glob('/proc/[0-9]*/cmdline')]")
    assert not [line for line in words if "pytest" in line]


def test_host_processes_get_no_signal(guest: Guest) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    try:
        assert fails(guest, f"import os; os.kill({victim.pid}, 9)") == errno.ESRCH
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_another_members_processes_are_out_of_reach(guest: Guest, neighbour: Guest) -> None:
    for pid in neighbour.house.sandboxes.pids(neighbour.running):
        assert fails(guest, f"import os; os.kill({pid}, 0)") == errno.ESRCH


def test_another_members_home_does_not_exist(guest: Guest, neighbour: Guest) -> None:
    neighbour("open('/home/member/diary', 'w').write('bob')")
    assert guest("import os; result = os.listdir('/home')") == ["member"]
    assert guest("import os; result = 'diary' in os.listdir('/home/member')") is False
    for place in (neighbour.running.walls.home, "/run/mutirao"):
        assert fails(guest, f"import os; os.listdir({place!r})") == errno.ENOENT


def test_another_members_files_are_closed_to_this_ones_uid(guest: Guest, neighbour: Guest) -> None:
    """Even outside every wall, file modes alone keep the homes apart."""
    neighbour("open('/home/member/diary', 'w').write('bob')")
    uid = str(guest.running.uid)
    become = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--"]
    assert subprocess.run([*become, "ls", neighbour.running.walls.home], capture_output=True).returncode != 0
    assert subprocess.run([*become, "ls", guest.running.walls.home], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/sudoers",
        "/etc/ssh",
        "/etc/gitconfig",
        "/root",
        "/work",
        "/var/lib",
        "/var/log",
        "/boot",
        "/mnt",
        "/srv",
        "/run/mutirao",
        "/run/systemd",
        "/sys/fs",
        "/sys/kernel",
        "/sys/class",
        "/dev/loop0",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/vda",
    ],
)
def test_of_the_host_this_is_not_there(guest: Guest, path: str) -> None:
    assert fails(guest, f"import os; os.stat({path!r})") == errno.ENOENT


def test_users_and_names_are_not_the_hosts(guest: Guest) -> None:
    users = {line.split(":")[0] for line in guest("result = open('/etc/passwd').read()").splitlines()}
    assert users == {"root", "member", "nobody"}
    assert guest("import socket; result = socket.gethostname()") == "mutirao"
    assert guest("result = open('/etc/machine-id').read()") != read("/etc/machine-id")
    assert guest("result = open('/etc/resolv.conf').read()") == "nameserver 203.0.113.53\n"


def read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else "none"


@pytest.mark.parametrize("path", ["/", "/usr", "/usr/bin", "/etc", "/etc/ssl", "/var", "/run", "/home", "/dev", "/sys"])
def test_the_system_is_read_only(guest: Guest, path: str) -> None:
    assert fails(guest, f"open({path!r} + '/new', 'w')") in (errno.EROFS, errno.EACCES)


def test_writable_are_home_tmp_and_shared_memory_and_nothing_else(guest: Guest) -> None:
    found = guest(
        """
import os
result = []
for top, directories, files in os.walk("/"):
    if top in ("/proc", "/sys"):
        directories[:] = []
        continue
    try:
        place = os.path.join(top, ".trial")
        open(place, "w").close()
        os.unlink(place)
        result.append(top)
    except OSError:
        pass
"""
    )
    assert sorted(place for place in found if not place.startswith("/tmp/")) == ["/dev/shm", "/home/member", "/tmp"]


def test_settings_of_the_kernel_are_read_only(guest: Guest) -> None:
    for path in ("/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward"):
        assert fails(guest, f"open({path!r}, 'w').write('1')") in (errno.EROFS, errno.EACCES, errno.EPERM)
    assert fails(guest, "open('/proc/sysrq-trigger', 'w').write('h')") is not None


@pytest.mark.parametrize("name", ["keys", "kallsyms", "kmsg", "timer_list"])
def test_files_of_proc_that_tell_about_the_host_are_closed(guest: Guest, name: str) -> None:
    if not (Path("/proc") / name).exists():
        pytest.skip(f"this kernel has no /proc/{name}")
    assert fails(guest, f"open('/proc/{name}')") == errno.EACCES


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("mount", "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)"),
        ("bind mount", "libc.mount(b'/tmp', b'/home/member', None, 4096, None)"),
        ("umount", "libc.umount2(b'/home/member', 2)"),
        ("new user namespace", "libc.unshare(0x10000000)"),
        ("new mount namespace", "libc.unshare(0x00020000)"),
        ("new network namespace", "libc.unshare(0x40000000)"),
        ("setns", "libc.setns(0, 0)"),
        ("clone into a user namespace", "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)"),
        ("bpf", "libc.syscall(321, 0, 0, 0)"),
        ("perf_event_open", "libc.syscall(298, 0, 0, 0, 0, 0)"),
        ("userfaultfd", "libc.syscall(323, 0)"),
        ("keyctl", "libc.syscall(250, 0, -3, 0)"),
        ("add_key", "libc.syscall(248, b'user', b'a', b'b', 1, -3)"),
        ("open_by_handle_at", "libc.syscall(304, 0, 0, 0)"),
        ("reboot", "libc.reboot(0)"),
        ("settimeofday", "libc.settimeofday(bytes(16), None)"),
        ("chroot", "libc.chroot(b'/tmp')"),
        ("pushing input into a terminal", "libc.ioctl(0, 0x5412, b'x')"),
        ("packet socket", "libc.socket(17, 3, 0)"),
        ("crypto socket", "libc.socket(38, 5, 0)"),
        ("vsock", "libc.socket(40, 1, 0)"),
        ("netfilter netlink", "libc.socket(16, 3, 12)"),
    ],
)
def test_the_kernel_refuses(guest: Guest, call: str, code: str) -> None:
    if os.uname().machine != "x86_64" and "syscall(" in code:
        pytest.skip("numbers of x86_64")
    found = guest(
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nr = {code}\nresult = [r, ctypes.get_errno()]"
    )
    assert found == [-1, errno.EPERM], call


@pytest.mark.parametrize("number", [425, 426, 427, 435])
def test_calls_with_a_second_way_are_absent(guest: Guest, number: int) -> None:
    """io_uring and clone3: libuv and glibc do without."""
    found = guest(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"r = libc.syscall({number}, 0, 0, 0, 0)\nresult = [r, ctypes.get_errno()]"
    )
    assert found == [-1, errno.ENOSYS]


def test_raw_sockets_are_refused(guest: Guest) -> None:
    assert fails(guest, "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)") == errno.EPERM


def test_threads_processes_debuggers_and_interfaces_work(guest: Guest) -> None:
    """What the filter leaves alone: it is no use if notebooks break."""
    assert guest.shell("sleep 0.01 & wait; echo done")[1] == "done\n"
    assert guest("import multiprocessing.pool as m; result = m.ThreadPool(3).map(abs, [-1, 2])") == [1, 2]
    assert guest("import socket; result = [n for _, n in socket.if_nameindex()]") == ["lo", "eth0"]
    assert guest("import os; r, w = os.pipe(); os.write(w, b'x'); result = os.read(r, 1).decode()") == "x"
    traced = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
pid = os.fork()
if pid == 0:
    os._exit(0 if libc.ptrace(0, 0, 0, 0) == 0 else 1)
result = os.waitpid(pid, 0)[1]
"""
    assert guest(traced) == 0


def test_the_server_holds_no_file_of_the_host_but_its_log(guest: Guest) -> None:
    found = guest("import os; result = {n: os.readlink(f'/proc/1/fd/{n}') for n in os.listdir('/proc/1/fd')}")
    assert {int(number) for number in found} <= {0, 1, 2} | {
        int(number)
        for number, target in found.items()
        if target.startswith(("anon_inode:[eventfd]", "anon_inode:[signalfd]"))
    }
    fresh = guest(
        "import subprocess; result = subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True).stdout"
    )
    assert fresh.split() == ["0", "1", "2", "3"], "the fourth is the listing itself"


def test_a_crash_sends_nothing_to_the_hosts_handler(guest: Guest) -> None:
    assert max(guest("import resource as r; result = list(r.getrlimit(r.RLIMIT_CORE))")) <= 1


def test_shared_memory_and_semaphores_work_and_are_private(guest: Guest, neighbour: Guest) -> None:
    guest("from multiprocessing.shared_memory import SharedMemory as S; S(name='x', create=True, size=10).close()")
    assert fails(neighbour, "import os; os.stat('/dev/shm/x')") == errno.ENOENT


def test_a_terminal_can_be_opened(guest: Guest) -> None:
    assert guest("import os, pty; a, b = pty.openpty(); result = os.isatty(b)") is True


def test_open_files_are_limited(guest: Guest) -> None:
    assert guest("import resource as r; result = list(r.getrlimit(r.RLIMIT_NOFILE))") == [512, 512]


def test_namespaces_are_the_sandboxs_own(guest: Guest, neighbour: Guest) -> None:
    for kind in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup"):
        here, there, mine = (
            Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
            for pid in (guest.running.child_pid, neighbour.running.child_pid, "self")
        )
        assert len({here, there, mine}) == 3, kind


def test_the_four_keys_of_a_sandbox_are_true(guest: Guest) -> None:
    running = guest.running
    assert Path(f"/proc/{running.child_pid}/ns/net").stat().st_ino == running.netns_inode
    assert Path(f"/proc/{running.child_pid}/ns/pid").stat().st_ino == running.pidns_inode
    assert str(running.child_pid) in (Path(running.cgroup) / "cgroup.procs").read_text().split()
    assert Path(running.walls.home).stat().st_uid == running.uid
