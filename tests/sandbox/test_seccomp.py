"""The filter's verdicts, by running its program as the kernel would."""

import errno
import platform
import struct

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox import seccomp

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
ARCHITECTURES = {"X86_64": 0xC000003E, "AARCH64": 0xC00000B7}
# Numbers from the kernel's syscall tables: (x86_64, aarch64).
NUMBERS = {
    "read": (0, 63),
    "clone": (56, 220),
    "clone3": (435, 435),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "ptrace": (101, 117),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "clock_settime": (227, 112),
    "personality": (135, 92),
    "execve": (59, 221),
    "process_vm_readv": (310, 270),
    "setsockopt": (54, 208),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "file_setattr": (469, 469),
    "tomorrow": (470, 470),
    "memfd_create": (319, 279),
}


def verdict(architecture: str, call: str, *arguments: int, machine: int | None = None) -> str:
    """What the filter says: "allow", or the name of the errno."""
    number = NUMBERS[call][0 if architecture == "X86_64" else 1]
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, machine or ARCHITECTURES[architecture], 0, *words)
    code = run(seccomp.program(architecture), data)
    if code == ALLOW:
        return "allow"
    assert code & 0xFFFF0000 == ERRNO, hex(code)
    return errno.errorcode[code & 0xFFFF]


def run(program: bytes, data: bytes) -> int:
    """Classic BPF as seccomp uses it: load a word, mask it, compare, jump, return (linux/filter.h)."""
    steps = list(struct.iter_unpack("=HBBI", program))
    at, a = 0, 0
    while True:
        code, true, false, k = steps[at]
        at += 1
        if code == 0x20:  # ld [k]
            (a,) = struct.unpack_from("=I", data, k)
        elif code == 0x54:  # and #k
            a &= k
        elif code == 0x05:  # ja
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):  # jeq, jgt, jge, jset
            holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[code]
            at += true if holds else false
        elif code == 0x06:  # ret #k
            return int(k)
        else:
            raise AssertionError(f"instruction {code:#x}")


both = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))

DENIED = [
    "setns", "mount", "umount2", "pivot_root", "mount_setattr", "open_tree", "bpf", "perf_event_open", "userfaultfd",
    "keyctl", "open_by_handle_at", "reboot", "init_module", "kexec_load", "clock_settime", "statmount", "listmount",
    "open_tree_attr",
]  # fmt: skip


@both
@pytest.mark.parametrize("call", DENIED)
def test_denied(architecture: str, call: str) -> None:
    assert verdict(architecture, call) == "EPERM"


@both
@pytest.mark.parametrize("call", ["clone3", "io_uring_setup", "tomorrow"])
def test_absent(architecture: str, call: str) -> None:
    assert verdict(architecture, call) == "ENOSYS"


@both
@pytest.mark.parametrize("call", ["read", "execve", "ptrace", "personality", "process_vm_readv", "file_setattr"])
def test_allowed(architecture: str, call: str) -> None:
    assert verdict(architecture, call) == "allow"


THREAD = 0x003D0F00  # what glibc's pthread_create asks for
FORK = 0x01200011


@both
@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (THREAD, "allow"),
        (FORK, "allow"),
        (0x80 | 17, "allow"),
        (17 | 0x10000000, "EPERM"),
        (17 | 0x00020000, "EPERM"),
        (17 | 0x20000000, "EPERM"),
        (17 | 0x40000000, "EPERM"),
        (17 | 0x7E020000, "EPERM"),
        (1 << 40 | 17 | 0x10000000, "EPERM"),
    ],
)
def test_clone_makes_processes_and_no_namespaces(architecture: str, flags: int, answer: str) -> None:
    assert verdict(architecture, "clone", flags) == answer


@both
@pytest.mark.parametrize(
    ("flags", "answer"),
    [(0, "allow"), (0x400, "allow"), (0x10000000, "EPERM"), (0x80, "EPERM"), (0x400 | 0x40000000, "EPERM")],
)
def test_unshare_shares_out_files_and_no_namespaces(architecture: str, flags: int, answer: str) -> None:
    assert verdict(architecture, "unshare", flags) == answer


@both
@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_only_four_families_of_sockets_exist(architecture: str, call: str) -> None:
    allowed = [family for family in range(50) if verdict(architecture, call, family) == "allow"]
    assert allowed == [0, 1, 2, 10, 16]
    assert verdict(architecture, call, 1 << 32 | 17) == "EPERM"
    assert verdict(architecture, call, 1 << 32 | 5) == "EPERM"


@both
def test_of_netlink_only_routing(architecture: str) -> None:
    assert [p for p in range(25) if verdict(architecture, "socket", 16, 3, p) == "allow"] == [0]
    assert verdict(architecture, "socket", 1 << 32 | 16, 3, 12) == "EPERM"
    assert verdict(architecture, "socket", 2, 1, 6) == "allow"


@both
@pytest.mark.parametrize(
    ("request_", "answer"),
    [(0x5412, "EPERM"), (1 << 32 | 0x5412, "EPERM"), (0x541C, "EPERM"), (0x5423, "EPERM"), (0x5413, "allow")],
)
def test_nothing_is_pushed_into_a_terminal(architecture: str, request_: int, answer: str) -> None:
    assert verdict(architecture, "ioctl", 0, request_) == answer


@both
def test_of_the_internet_only_its_usual_protocols(architecture: str) -> None:
    for family in (2, 10):
        verdicts = {p: verdict(architecture, "socket", family, 1, p) for p in (0, 1, 6, 17, 33, 115, 132, 136, 262)}
        assert [p for p, found in verdicts.items() if found == "allow"] == [0, 1, 6, 17]
        assert verdicts[262] == "EPROTONOSUPPORT"
    assert verdict(architecture, "setsockopt", 3, 6, 31) == "EPERM"
    assert verdict(architecture, "setsockopt", 3, 6, 1) == "allow"
    assert verdict(architecture, "setsockopt", 3, 1, 31) == "allow"


@both
def test_more_calls_can_be_missing(architecture: str) -> None:
    number = NUMBERS["memfd_create"][0 if architecture == "X86_64" else 1]
    data = struct.pack("=iIQ6Q", number, ARCHITECTURES[architecture], 0, *[0] * 6)
    assert run(seccomp.program(architecture, ("memfd_create",)), data) == ERRNO | errno.ENOSYS
    assert run(seccomp.program(architecture), data) == ALLOW


@pytest.mark.parametrize("machine", [0x40000003, 0x4000003E, 0x40000028])
def test_calls_of_another_architecture_do_not_exist(machine: int) -> None:
    assert verdict("X86_64", "read", machine=machine) == "ENOSYS"


def test_x32_calls_do_not_exist() -> None:
    """The same machine with bit 30 in the number would otherwise go round the list."""
    data = struct.pack("=iIQ6Q", 0x40000000 | 165, ARCHITECTURES["X86_64"], 0, *[0] * 6)
    assert run(seccomp.program("X86_64"), data) == ERRNO | errno.ENOSYS


def test_a_machine_without_a_filter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(SandboxError, match="no system call filter for sparc64"):
        seccomp.native()
