"""One attempt to get past the walls: a program, what must come of it inside, and what the same program does outside."""

import errno
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MISTAKES = (
    "NameError",
    "SyntaxError",
    "TypeError",
    "KeyError",
    "IndexError",
    "AttributeError",
    "ArgumentError",
    "ImportError",
)
MISTAKES += ("TimeoutExpired",)
"""Errors of a program that is wrong, or slow, and was not refused anything."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program: its `result`, or the error that it met, or that the runtime ended under it."""

    result: Any = None
    error: str = ""
    code: int | None = None
    ended: bool = False

    def __str__(self) -> str:
        if self.ended:
            return "the runtime ended"
        if self.error:
            return errno.errorcode.get(self.code or 0, self.error)
        return repr(self.result)[:40]


@dataclass(frozen=True, slots=True)
class Refused:
    """An OSError must be raised: with one of these numbers, or with any when none is given."""

    codes: frozenset[int] = frozenset()

    def holds(self, outcome: Outcome) -> bool:
        if not outcome.error or outcome.error in MISTAKES:
            return False
        return not self.codes or outcome.code in self.codes

    def __str__(self) -> str:
        return " or ".join(sorted(errno.errorcode[code] for code in self.codes)) or "an error"


@dataclass(frozen=True, slots=True)
class Gives:
    """The program must end by itself with one of these results."""

    values: tuple[Any, ...]

    def holds(self, outcome: Outcome) -> bool:
        return not outcome.error and not outcome.ended and outcome.result in self.values

    def __str__(self) -> str:
        return " or ".join(map(repr, self.values))


@dataclass(frozen=True, slots=True)
class Ends:
    """The program or its whole runtime must be killed, which harms only who tried it; a refusal is as good."""

    def holds(self, outcome: Outcome) -> bool:
        refused = bool(outcome.error) and outcome.error not in MISTAKES
        return outcome.ended or refused or outcome.result == -9

    def __str__(self) -> str:
        return "killed or stopped"


Must = Refused | Gives | Ends


def refused(*codes: int) -> Refused:
    return Refused(frozenset(codes))


def gives(*values: Any) -> Gives:
    return Gives(values)


class Control(StrEnum):
    """How it is known that an attempt fails because of the walls, and not because it is wrong.

    OUTSIDE: the same program, run on the host by root, comes to something else. NONE: outside it would do harm, or the
    kernel's plain rules are what refuses it everywhere.
    """

    OUTSIDE = "outside"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of the table.

    `program` runs inside, knows `F` (facts of the stage) and the names of `PRELUDE`, and sets `result`. `lacking`:
    numbers that outside mean "this kernel has no such thing". `then`: a method of the stage that must give True
    afterwards. `in_server`: run in the server's own process. `heavy`: a neighbour is asked all the while. `rootless`:
    what must happen in rootless mode instead, `rootless_why` says why that is less.
    """

    category: str
    name: str
    program: str
    must: Must
    control: Control = Control.OUTSIDE
    lacking: frozenset[int] = frozenset({errno.ENOSYS})
    then: str = ""
    in_server: bool = False
    heavy: bool = False
    rootless: Must | None = None
    rootless_why: str = ""

    def expected(self, rootless: bool) -> Must:
        return self.rootless if rootless and self.rootless is not None else self.must

    @property
    def id(self) -> str:
        return f"{self.category}-{self.name}".replace(" ", "_")


NUMBERS: Mapping[str, tuple[int, int]] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "clone": (56, 220), "clone3": (435, 435), "fsopen": (430, 430), "open_tree": (428, 428),
    "move_mount": (429, 429), "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "syslog": (103, 116), "acct": (163, 89),
    "quotactl": (179, 60), "fanotify_init": (300, 262), "iopl": (172, -1), "modify_ldt": (154, -1),
    "adjtimex": (159, 171), "settimeofday": (164, 170), "sethostname": (170, 161), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "kcmp": (312, 272), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "capset": (126, 91), "ioprio_set": (251, 30),
    "open_tree_attr": (467, 467), "memfd_create": (319, 279), "openat2": (437, 437), "shmget": (29, 194),
    "fspick": (433, 433),
}  # fmt: skip
"""System calls of the kernel's tables: (x86_64, aarch64), -1 where there is none."""

PRELUDE = """
import array, ctypes, errno, fcntl, glob, json, os, pty, resource, signal, socket, stat, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    number = NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    if number < 0:
        raise OSError(errno.ENOSYS, "no such call here")
    found = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(w) if isinstance(w, int) else w for w in words])
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return found
def reach(host, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(5)
        s.connect((host, port))
    return "reached"
def ask(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect((host, port))
        s.send(b"name")
        return s.recv(100).decode()
def seen(path):
    os.lstat(path)
    return "seen"
def raise_limit(kind, value):
    if libc.prlimit(0, int(kind), struct.pack("QQ", value, value), None):
        raise OSError(ctypes.get_errno(), "prlimit")
def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
        except BaseException:
            os._exit(254)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status > 0:
        raise OSError(status, "in the child")
    return status
"""

_WRAP = """
import json as _json
_out = {}
try:
    exec(_CODE, _names := {"F": _F, "NUMBERS": _N})
    _out = {"result": _names.get("result")}
except BaseException as _error:
    _out = {"error": type(_error).__name__, "errno": getattr(_error, "errno", None), "text": str(_error)}
print(_json.dumps(_out), flush=True)
"""


def source(program: str, facts: Mapping[str, Any]) -> str:
    """The program as one piece of Python that prints its outcome as JSON."""
    head = f"_F = {dict(facts)!r}\n_N = {dict(NUMBERS)!r}\n_CODE = {PRELUDE + program!r}\n"
    return head + _WRAP


def outcome_of(text: str) -> Outcome:
    """What `source` printed; a program that was killed has printed nothing."""
    lines = text.strip().splitlines()
    if not lines:
        return Outcome(error="Killed")
    answer = json.loads(lines[-1])
    if "error" in answer:
        return Outcome(error=answer["error"], code=answer["errno"])
    return Outcome(result=answer["result"])


def run_outside(program: str, facts: Mapping[str, Any]) -> Outcome:
    """The same program on the host, by this user, where mounts and names are a copy that goes with it."""
    words = ["unshare", "--mount", "--uts", "--propagation", "private", "--", sys.executable, "-I", "-c"]
    done = subprocess.run([*words, source(program, facts)], capture_output=True, text=True, check=False, timeout=30)
    return outcome_of(done.stdout)


@dataclass(slots=True)
class Row:
    """One line of the table that is printed."""

    attempt: Attempt
    expected: Must
    inside: Outcome
    held: bool
    outside: Outcome | None = None
    notes: list[str] = field(default_factory=list)
