"""The kernel's own machinery: mounts, devices, keys, modules, programs in it, and its switches in /proc and /sys."""

import errno

from tests.sandbox.battery.attempt import Attempt, Control, gives, refused

DENIED = refused(errno.EPERM)
ABSENT = refused(errno.ENOSYS)
GONE = refused(errno.ENOENT)
LACKING = frozenset({errno.ENOSYS, errno.ENOENT, errno.ENXIO, errno.ENODEV})

CALLS = (
    ("mount a tmpfs", "mount", 'b"none", b"/tmp", b"tmpfs", 0, 0'),
    ("bind a folder", "mount", 'b"/etc", b"/tmp", 0, 4096, 0'),
    ("unmount", "umount2", 'b"/nonexistent", 2'),
    ("pivot_root", "pivot_root", 'b"/nonexistent", b"/nonexistent"'),
    ("chroot", "chroot", 'b"/tmp"'),
    ("fsopen", "fsopen", 'b"tmpfs", 0'),
    ("fspick", "fspick", '-100, b"/", 0'),
    ("open_tree", "open_tree", '-100, b"/tmp", 1'),
    ("open_tree_attr", "open_tree_attr", '-100, b"/tmp", 1, 0, 0'),
    ("move_mount", "move_mount", '-1, b"x", -1, b"x", 0'),
    ("mount_setattr", "mount_setattr", '-100, b"/nonexistent", 0, bytes(32), 32'),
    ("statmount", "statmount", "0, 0, 0, 0"),
    ("listmount", "listmount", "0, 0, 0, 0"),
    ("bpf", "bpf", "0, 0, 0"),
    ("perf_event_open", "perf_event_open", "0, 0, 0, 0, 0"),
    ("userfaultfd", "userfaultfd", "1"),
    ("keyctl", "keyctl", "0, -3, 1"),
    ("add_key", "add_key", 'b"user", b"mutirao-battery", b"x", 1, -2'),
    ("request_key", "request_key", 'b"user", b"mutirao-nothing", 0, 0'),
    ("kexec_load", "kexec_load", "0, 0, 0, 999"),
    ("kexec_file_load", "kexec_file_load", "-1, -1, 0, 0, 999"),
    ("init_module", "init_module", "0, 0, 0"),
    ("finit_module", "finit_module", "-1, 0, 0"),
    ("delete_module", "delete_module", 'b"no_such_module", 0'),
    ("reboot", "reboot", "0, 0, 0, 0"),
    ("swapon", "swapon", 'b"/nonexistent", 0'),
    ("the kernel's log", "syslog", "10, 0, 0"),
    ("accounting", "acct", 'b"/nonexistent"'),
    ("quotas", "quotactl", "0, 0, 0, 0"),
    ("fanotify", "fanotify_init", "0, 0"),
    ("port rights", "iopl", "3"),
    ("segments", "modify_ldt", "0, 0, 0"),
    ("the clock's pace", "adjtimex", "bytes(208)"),
    ("the clock", "settimeofday", "0, 0"),
    ("the host's name", "sethostname", 'b"pwned", 5'),
)

DEVICES = ("mem", "kmsg", "kvm", "fuse", "loop-control", "loop0", "net/tun", "vda", "console", "hwrng", "btrfs-control")

SWITCHES = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/vm/drop_caches",
    "/proc/sys/kernel/hostname", "/proc/sys/fs/file-max", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger",
    "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity",
)  # fmt: skip

INTERFACES = (
    "/sys/kernel/uevent_helper", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/cgroup",
    "/sys/fs/bpf", "/sys/firmware", "/sys/class", "/sys/block", "/sys/kernel/mm", "/sys/power", "/sys/module",
)  # fmt: skip

KERNEL = (
    *(Attempt("kernel", name, f'call("{call}", {words}); result = "done"', DENIED) for name, call, words in CALLS),
    Attempt("kernel", "io_uring", 'call("io_uring_setup", 1, ctypes.create_string_buffer(120)); result = "made"', ABSENT, lacking=frozenset()),
    Attempt("kernel", "io_uring's registration", 'call("io_uring_register", -1, 0, 0, 0); result = "done"', ABSENT, lacking=frozenset()),
    Attempt("kernel", "a call of tomorrow", """
if libc.syscall(ctypes.c_long(4000), 0, 0, 0) < 0:
    raise OSError(ctypes.get_errno(), "call 4000")
""", ABSENT, Control.NONE),
    Attempt("kernel", "calls with x32's numbers", """
if os.uname().machine != "x86_64":
    raise OSError(errno.ENOSYS, "only x86_64 has them")
if libc.syscall(ctypes.c_long(0x40000000 | 165), b"none", b"/tmp", b"tmpfs", 0, 0) < 0:
    raise OSError(ctypes.get_errno(), "x32")
result = "mounted"
""", ABSENT, Control.NONE),
    Attempt("kernel", "calls of 32-bit programs", """
import mmap
if os.uname().machine != "x86_64":
    raise OSError(errno.ENOSYS, "only x86_64 has int 0x80")
# mov eax, 20 (getpid of i386); int 0x80; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))
found = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
if found < 0:
    raise OSError(-found, "int 0x80")
result = "answered"
""", ABSENT, lacking=frozenset()),
    Attempt("kernel", "a device node", 'os.mknod(F["home_here"] + "/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)); os.unlink(F["home_here"] + "/null"); result = "made"', DENIED),
    Attempt("kernel", "a disk's node", 'os.mknod("/tmp/disk-mutirao", stat.S_IFBLK | 0o666, os.makedev(7, 0)); os.unlink("/tmp/disk-mutirao"); result = "made"', DENIED),
    *(Attempt("kernel", f"/dev/{name}", f'os.close(os.open("/dev/{name}", os.O_RDONLY | os.O_NONBLOCK)); result = "opened"', GONE, lacking=LACKING | {errno.EIO, errno.EBUSY}) for name in DEVICES),
    *(Attempt("kernel", path, f'os.close(os.open("{path}", os.O_WRONLY)); result = "opened"', refused(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT), lacking=LACKING) for path in SWITCHES),
    *(Attempt("kernel", path, f'result = seen("{path}")', GONE, lacking=LACKING) for path in INTERFACES),
    *(Attempt("kernel", f"/proc/{name}", f'result = open("/proc/{name}", "rb").read(1) is not None', refused(errno.EACCES, errno.EPERM, errno.ENOENT), lacking=LACKING) for name in ("kcore", "kallsyms", "kmsg", "keys", "timer_list", "modules", "cmdline", "config.gz", "interrupts", "softirqs", "slabinfo", "vmallocinfo")),
    *(Attempt("kernel", f"/proc/{name}", f'result = os.listdir("/proc/{name}") if os.path.isdir("/proc/{name}") else []', gives([]), lacking=LACKING, control=Control.NONE) for name in ("acpi", "fs", "scsi")),
    Attempt("kernel", "addresses of the kernel", """
found = [line.split()[0] for line in open("/proc/self/stack")]
result = "read"
""", refused(errno.EACCES, errno.EPERM, errno.ENOENT), lacking=LACKING),
    Attempt("kernel", "the page map's frames", """
with open("/proc/self/pagemap", "rb") as f:
    f.seek(8 * (ctypes.addressof(ctypes.create_string_buffer(b"x" * 5000)) >> 12))
    result = struct.unpack("Q", f.read(8))[0] & ((1 << 55) - 1) == 0
""", gives(True)),
    Attempt("kernel", "control groups of one's own", 'os.mkdir("/sys/fs/cgroup/mine"); result = "made"', refused(errno.ENOENT, errno.EROFS, errno.EACCES), Control.NONE),
    Attempt("kernel", "other runtimes' control groups", 'result = F["cgroup_name"] in open("/proc/1/cgroup").read()', gives(False), Control.NONE),
    Attempt("kernel", "extended attributes of trust", 'open("/tmp/x-mutirao", "w").close(); os.setxattr("/tmp/x-mutirao", "trusted.x", b"1"); result = "set"', DENIED),
)  # fmt: skip
