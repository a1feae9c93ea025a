"""Files of others: homes, the host's, the service's, by every door that a path or a handle may open."""

import errno

from tests.sandbox.battery.attempt import Attempt, Control, gives, refused

GONE = refused(errno.ENOENT)
READ_ONLY = refused(errno.EROFS, errno.EACCES, errno.EPERM)
DENIED = refused(errno.EPERM)

FILES = (
    Attempt("files", "a neighbour's home by the host's path", 'result = os.listdir(F["neighbour_home"])', GONE),
    Attempt("files", "a neighbour's diary", 'result = open(F["neighbour_home"] + "/diary").read()', GONE),
    Attempt("files", "a neighbour's diary by our own home", 'result = open(F["home_here"] + "/diary").read()', GONE),
    Attempt("files", "the service's data", 'result = os.listdir(F["data"])', GONE),
    Attempt("files", "the records of runtimes", 'result = bool(os.listdir(F["run"]))', GONE),
    Attempt("files", "the host's passwords", 'result = len(open("/etc/shadow").read(1))', GONE),
    Attempt("files", "root's home", 'result = bool(os.listdir("/root"))', GONE),
    Attempt("files", "the host's logs", 'result = bool(os.listdir("/var/log"))', GONE),
    Attempt("files", "the host's tmp", 'result = seen(F["host_file"])', GONE),
    Attempt("files", "the host's shared memory", 'result = seen(F["host_shm"])', GONE),
    Attempt("files", "dots up and out", 'result = seen("../../../../../../../.." + F["host_file"])', GONE),
    Attempt("files", "dots from an open root", 'result = os.stat("../.." + F["host_file"], dir_fd=os.open("/", os.O_PATH)).st_size', GONE),
    Attempt("files", "the root of pid 1", 'result = seen("/proc/%d/root" % F["first"] + F["host_file"])', refused(errno.ENOENT, errno.EACCES)),
    Attempt("files", "the working directory of pid 1", 'result = seen("/proc/%d/cwd/../../../../../.." % F["first"] + F["host_file"])', refused(errno.ENOENT, errno.EACCES)),
    Attempt("files", "the root of the thread", 'result = seen("/proc/thread-self/root" + F["host_file"])', GONE),
    Attempt("files", "open folders of pid 1", """
result = sorted(t for n in os.listdir("/proc/1/fd") if (t := os.readlink("/proc/1/fd/" + n)).startswith("/") and t not in ("/dev/null", "/log"))
result = [t for t in result if not t.endswith("/log")]
""", gives([]), Control.NONE),
    Attempt("files", "rewriting bubblewrap as runc was", 'result = open("/proc/1/exe", "r+b").name', refused(errno.EACCES, errno.EROFS, errno.ETXTBSY, errno.ENOENT), Control.NONE),
    Attempt("files", "rewriting the interpreter", """
if os.fork() == 0:
    os._exit(0)
os.wait()
result = open("/proc/self/exe", "r+b").name
""", refused(errno.EROFS, errno.EACCES, errno.ETXTBSY), Control.NONE),
    Attempt("files", "writing to the system", 'result = open("/usr/lib/os-release", "r+b").name', READ_ONLY),
    Attempt("files", "the system writable again", 'result = libc.mount(b"none", b"/usr", None, 0x1000 | 0x20, None)\nif result: raise OSError(ctypes.get_errno(), "mount")', DENIED),
    Attempt("files", "a handle to a file", 'call("name_to_handle_at", -100, b"/", struct.pack("Ii", 128, 0) + bytes(128), bytes(8), 0)', DENIED, Control.NONE),
    Attempt("files", "a file by a guessed handle", 'call("open_by_handle_at", os.open("/", os.O_RDONLY), struct.pack("IIQ", 8, 1, 2), 0)', DENIED),
    Attempt("files", "openat2 out of the tree", """
result = call("openat2", os.open("/", os.O_RDONLY), b"../../.." + F["host_file"].encode(), struct.pack("QQQ", 0, 0, 0), 24)
""", GONE),
    Attempt("files", "a hard link to a setuid program", """
os.link("/usr/bin/su", F["home_here"] + "/su")
""", refused(errno.EXDEV, errno.EPERM, errno.EROFS), Control.NONE),
    Attempt("files", "giving a file to root", """
path = F["home_here"] + "/mine"
open(path, "w").close()
os.chown(path, 0, 0)
result = "chowned"
""", refused(errno.EPERM, errno.EINVAL)),
    Attempt("files", "capabilities on a file", """
path = F["home_here"] + "/able"
open(path, "w").close()
os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 0x3fffff, 0, 0, 0))
result = "set"
""", DENIED),
    Attempt("files", "su to root", 'result = subprocess.run(["su", "-c", "id -u"], capture_output=True, stdin=subprocess.DEVNULL, text=True).stdout', gives("")),
    Attempt("files", "a setuid copy of our own", """
path = F["home_here"] + "/id"
open(path, "wb").write(open("/usr/bin/id", "rb").read())
os.chmod(path, 0o6755)
result = subprocess.run([path, "-u"], capture_output=True, text=True).stdout
os.unlink(path)
""", gives("1000\n")),
    Attempt("files", "the host's secrets in any environment", """
found = []
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        found.append(b"battery-secret" in open(path, "rb").read())
    except OSError:
        pass
result = any(found)
""", gives(False)),
    Attempt("files", "the host's mounts", 'result = F["data"] in open("/proc/self/mountinfo").read()', gives(False), Control.NONE, rootless=gives(True), rootless_why="the path of the member's own home on the host is named"),
)  # fmt: skip
