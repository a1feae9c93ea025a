"""Eating what others need: memory, processes, processors, disk, files, connections, the log."""

import errno

from tests.sandbox.battery.attempt import Attempt, Control, Ends, gives, refused

FULL = refused(errno.ENOSPC, errno.EDQUOT)

RESOURCES = (
    Attempt("resources", "a memory bomb", """
eat = "b = []\\nwhile True: b.append(bytearray(b'x' * (1 << 20)))"
result = subprocess.run([sys.executable, "-c", eat], stderr=subprocess.DEVNULL).returncode
""", gives(-9), Control.NONE, heavy=True, rootless=gives(-9, 1), rootless_why="memory is looked at four times a second, not enforced by the kernel"),
    Attempt("resources", "a memory bomb in pieces", """
eat = "b = []\\nwhile True: b.append(bytearray(b'x' * (1 << 20)))"
parts = [subprocess.Popen([sys.executable, "-c", eat], stderr=subprocess.DEVNULL) for _ in range(4)]
result = sorted({part.wait() for part in parts})
""", gives([-9]), Control.NONE, heavy=True, rootless=gives([-9], [-9, 1], [1]), rootless_why="memory is looked at four times a second"),
    Attempt("resources", "memory in a nameless file", """
def fill():
    f = open(os.memfd_create("x"), "wb", 0)
    while True:
        f.write(bytes(1 << 20))
result = child(fill)
""", Ends(), Control.NONE, heavy=True, rootless=refused(errno.ENOSYS), rootless_why="what can't be counted is not given: no memfd, no System V memory"),
    Attempt("resources", "memory in /tmp", """
try:
    with open("/tmp/big", "wb", 0) as f:
        while True:
            f.write(bytes(1 << 20))
finally:
    os.unlink("/tmp/big")
""", FULL, Control.NONE, heavy=True, rootless=refused(errno.ENOSPC, errno.EFBIG), rootless_why="a single file ends at the home's limit"),
    Attempt("resources", "memory in /dev/shm", """
try:
    with open("/dev/shm/big", "wb", 0) as f:
        while True:
            f.write(bytes(1 << 20))
finally:
    os.unlink("/dev/shm/big")
""", FULL, Control.NONE, heavy=True, rootless=refused(errno.ENOSPC, errno.EFBIG), rootless_why="a single file ends at the home's limit"),
    Attempt("resources", "a fork bomb", """
children = []
try:
    while True:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
finally:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
""", refused(errno.EAGAIN), Control.NONE, heavy=True),
    Attempt("resources", "a fork bomb that forks", """
bomb = "import os\\nwhile True:\\n    try: os.fork()\\n    except OSError: pass"
leader = subprocess.Popen([sys.executable, "-c", bomb], start_new_session=True)
full = 0
end = time.monotonic() + 20
while full < F["processes"] - 12 and time.monotonic() < end:
    full = len(glob.glob("/proc/[0-9]*"))
for _ in range(50):
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        break
leader.wait()
result = full <= F["processes"] + 2
""", gives(True), Control.NONE, heavy=True),
    Attempt("resources", "threads without end", """
import threading
stop = threading.Event()
made = []
try:
    while len(made) < 5000:
        t = threading.Thread(target=stop.wait)
        t.start()
        made.append(t)
except RuntimeError:
    result = "refused"
finally:
    stop.set()
""", gives("refused"), Control.NONE, heavy=True),
    Attempt("resources", "all processors", """
spin = "import time\\ne = time.monotonic() + 1\\nwhile time.monotonic() < e: pass"
for part in [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(8)]:
    part.wait()
result = "spun"
""", gives("spun"), Control.NONE, heavy=True),
    Attempt("resources", "a disk bomb", """
path = F["home_here"] + "/big"
try:
    with open(path, "wb", 0) as f:
        for _ in range(F["disk_mb"] * 3):
            f.write(bytes(1 << 20))
finally:
    os.unlink(path)
result = "written"
""", FULL, Control.NONE, heavy=True, rootless=refused(errno.EFBIG), rootless_why="a single file ends at the limit, the whole home is looked at"),
    Attempt("resources", "a disk bomb of many files", """
folder = F["home_here"] + "/many"
os.mkdir(folder)
try:
    for n in range(F["disk_mb"] * 3):
        with open(f"{folder}/{n}", "wb", 0) as f:
            f.write(bytes(1 << 20))
    time.sleep(60)
finally:
    subprocess.run(["rm", "-rf", folder])
result = "written"
""", FULL, Control.NONE, heavy=True, rootless=Ends(), rootless_why="the home is looked at, and the runtime stopped above its limit"),
    Attempt("resources", "an inode bomb", """
folder = F["home_here"] + "/inodes"
os.mkdir(folder)
try:
    for n in range(60_000):
        os.close(os.open(f"{folder}/{n}", os.O_CREAT))
    time.sleep(60)
finally:
    subprocess.run(["rm", "-rf", folder])
result = "made"
""", FULL, Control.NONE, heavy=True, rootless=Ends(), rootless_why="files are counted when the home is looked at"),
    Attempt("resources", "open files without end", """
kept = []
try:
    while True:
        kept.append(open("/dev/null"))
finally:
    for f in kept:
        f.close()
""", refused(errno.EMFILE), Control.NONE),
    Attempt("resources", "files in flight", """
pairs, kept = [socket.socketpair()], []
a, b = pairs[0]
a.setblocking(False)
null = os.open("/dev/null", os.O_RDONLY)
for _ in range(200):
    x, y = socket.socketpair()
    x.setblocking(False)
    kept += [x, y]
    for _ in range(60):
        socket.send_fds(x, [b"x"], [null] * 200)
""", refused(errno.ETOOMANYREFS, errno.EAGAIN, errno.EMFILE), Control.NONE),
    Attempt("resources", "terminals without end", """
kept = []
try:
    while True:
        kept += pty.openpty()
finally:
    for f in kept:
        os.close(f)
""", refused(), Control.NONE),
    Attempt("resources", "a flood in the log", """
try:
    for _ in range(300):
        os.write(2, b"noise " * 20000)
    result = "written"
except OSError as error:
    result = error.errno
""", gives(errno.ENOSPC), Control.NONE, then="log_is_small", in_server=True, rootless=gives(errno.ENOSPC, errno.EFBIG, "written"), rootless_why="the log is cut when it is looked at"),
    Attempt("resources", "memory locked", """
raise_limit(resource.RLIMIT_MEMLOCK, 1 << 40)
""", refused(errno.EPERM), Control.NONE),
)  # fmt: skip
