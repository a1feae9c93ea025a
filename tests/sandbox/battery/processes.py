"""Processes of others, rights that were given up, and namespaces that would give them back."""

import errno

from tests.sandbox.battery.attempt import Attempt, Control, gives, refused

NOBODY = refused(errno.ESRCH)
DENIED = refused(errno.EPERM)

FLAGS = {
    "user": 0x10000000, "mount": 0x00020000, "pid": 0x20000000, "network": 0x40000000, "ipc": 0x08000000,
    "names": 0x04000000, "control groups": 0x02000000, "clock": 0x00000080,
}  # fmt: skip

NAMESPACES = (
    *(Attempt("namespaces", f"a {kind} namespace by unshare", f'call("unshare", {flag}); result = "made"', DENIED) for kind, flag in FLAGS.items()),
    *(Attempt("namespaces", f"a {kind} namespace by clone", f"""
pid = call("clone", {flag} | 17, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
result = "made"
""", DENIED) for kind, flag in FLAGS.items() if kind in ("user", "mount", "network")),
    Attempt("namespaces", "a user namespace by clone3", """
pid = call("clone3", struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
result = "made"
""", refused(errno.ENOSYS), lacking=frozenset()),
    Attempt("namespaces", "flags hidden in the upper half", 'call("unshare", 0x10000000 | 1 << 40); result = "made"', DENIED, Control.NONE),
    *(Attempt("namespaces", f"joining pid 1's {kind}", f'call("setns", os.open("/proc/%d/ns/{kind}" % F["first"], os.O_RDONLY), 0); result = "joined"', refused(errno.EPERM, errno.EACCES)) for kind in ("mnt", "net", "cgroup")),
    Attempt("namespaces", "joining by a pidfd", 'call("setns", os.pidfd_open(F["first"]), 0x00020000); result = "joined"', DENIED),
)  # fmt: skip

PROCESSES = (
    Attempt("processes", "a signal to the host", 'os.kill(F["victim"], 0); result = "sent"', NOBODY),
    Attempt("processes", "a signal to a neighbour", 'os.kill(F["neighbour_pid"], 0); result = "sent"', NOBODY),
    Attempt("processes", "a signal to a group of the host", 'os.killpg(F["victim"], 0); result = "sent"', NOBODY),
    Attempt("processes", "host processes in /proc", """
result = any(b"battery-" + b"victim" in open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/cmdline"))
""", gives(False)),
    Attempt("processes", "a descriptor for the host's process", 'os.pidfd_open(F["victim"]); result = "opened"', NOBODY),
    Attempt("processes", "tracing the host", """
call("ptrace", 0x4206, F["victim"], 0, 0)
result = "traced"
""", NOBODY),
    Attempt("processes", "what pid 1 may do", """
lines = open("/proc/1/status").read().splitlines()
result = [line.split()[1] for line in lines if line.startswith(("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp:"))]
""", gives(["0" * 16, "0" * 16, "0" * 16, "1", "2"])),
    Attempt("processes", "reading the host's memory", """
buffer = ctypes.create_string_buffer(8)
local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
call("process_vm_readv", F["victim"], local, 1, local, 1, 0)
""", NOBODY, Control.NONE),
    Attempt("processes", "folders and sockets out of pid 1", """
result = []
pidfd = os.pidfd_open(1)
for number in range(64):
    try:
        kind = os.fstat(call("pidfd_getfd", pidfd, number, 0)).st_mode
    except OSError:
        continue
    if stat.S_ISDIR(kind) or stat.S_ISSOCK(kind) or stat.S_ISBLK(kind):
        result.append(number)
""", gives([]), Control.NONE),
    Attempt("processes", "comparing kernel objects", 'call("kcmp", os.getpid(), os.getpid(), 0, 0, 0); result = "same"', DENIED),
    Attempt("processes", "becoming root", 'os.setuid(0); result = os.getuid()', refused(errno.EPERM, errno.EINVAL)),
    Attempt("processes", "becoming another member", 'os.setresuid(F["neighbour_uid"], -1, -1); result = "became"', refused(errno.EPERM, errno.EINVAL)),
    Attempt("processes", "another group", 'os.setgid(0); result = os.getgid()', refused(errno.EPERM, errno.EINVAL)),
    Attempt("processes", "more groups", 'os.setgroups([0, 4, 5]); result = os.getgroups()', DENIED),
    Attempt("processes", "capabilities again", """
call("capset", struct.pack("II", 0x20080522, 0), struct.pack("6I", 1 << 21, 1 << 21, 0, 0, 0, 0))
result = "set"
""", DENIED),
    Attempt("processes", "ambient capabilities", """
if libc.prctl(47, 2, 21, 0, 0):
    raise OSError(ctypes.get_errno(), "prctl")
""", DENIED, Control.NONE),
    Attempt("processes", "security bits", """
if libc.prctl(28, 0, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "prctl")
""", DENIED),
    Attempt("processes", "new privileges allowed again", """
libc.prctl(38, 0, 0, 0, 0)
result = libc.prctl(39, 0, 0, 0, 0)
""", gives(1)),
    Attempt("processes", "no filter any more", """
result = [libc.prctl(22, 0, 0, 0, 0), [l.split()[1] for l in open("/proc/self/status") if l.startswith("Seccomp:")]]
""", gives([-1, ["2"]])),
    Attempt("processes", "real-time scheduling", 'os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); result = "set"', DENIED, lacking=frozenset({errno.EPERM})),
    Attempt("processes", "a nicer place", 'os.nice(-5); result = "set"', DENIED),
    Attempt("processes", "a slower host", 'os.setpriority(os.PRIO_PROCESS, F["victim"], os.getpriority(os.PRIO_PROCESS, F["victim"])); result = "set"', NOBODY),
    Attempt("processes", "real-time disk access", 'call("ioprio_set", 1, 0, 1 << 13); result = "set"', DENIED),
    Attempt("processes", "more open files", """
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
raise_limit(resource.RLIMIT_NOFILE, hard + 1)
""", refused(errno.EPERM), Control.NONE),
    Attempt("processes", "a core dump to the host's handler", """
raise_limit(resource.RLIMIT_CORE, 1 << 20)
""", refused(errno.EPERM), Control.NONE),
    Attempt("processes", "limits of the host's process", 'resource.prlimit(F["victim"], resource.RLIMIT_NOFILE); result = "read"', NOBODY),
    Attempt("processes", "never killed for memory", 'f = open("/proc/self/oom_score_adj", "w"); f.write("-1000"); f.flush(); result = "set"', refused(errno.EACCES, errno.EPERM), Control.NONE),
    Attempt("processes", "input into a terminal", """
master, slave = pty.openpty()
fcntl.ioctl(slave, 0x5412, b"x")
result = "pushed"
""", DENIED, lacking=frozenset({errno.EIO})),
    Attempt("processes", "the console's selection", """
master, slave = pty.openpty()
fcntl.ioctl(slave, 0x541C, b"\\x02")
""", DENIED),
    Attempt("processes", "a line discipline", """
master, slave = pty.openpty()
fcntl.ioctl(slave, 0x5423, struct.pack("i", 0))
result = "set"
""", DENIED),
    Attempt("processes", "memory segments of the host", """
found = call("shmget", F["shm_key"], 0, 0)
result = "found"
""", refused(errno.ENOENT, errno.ENOSYS)),
    Attempt("processes", "queues of the host", 'result = len(open("/proc/sysvipc/shm").readlines()) - 1', gives(0)),
)  # fmt: skip
