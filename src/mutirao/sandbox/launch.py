"""The second step: bubblewrap starts a server inside walls that stand.

Root enters the control groups and the network namespace, lowers the limits, becomes the member's host uid and only
then runs bubblewrap: started as root, bubblewrap would map the member to the host's root.
"""

import contextlib
import json
import os
import resource
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mutirao.errors import SandboxError
from mutirao.sandbox import processes, profile, seccomp
from mutirao.sandbox.place import log_end, readable
from mutirao.sandbox.spec import ReadOnly, Running, RuntimeSpec, Walls

START_S = 10.0
ROOT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

# Who protects the service from memory's end (OOMScoreAdjust=) does not mean its runtimes.
_ENTER = (
    'echo 0 >/proc/self/oom_score_adj; while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift; exec "$@"'
)


def launch(
    walls: Walls,
    spec: RuntimeSpec,
    place: Path,
    status: Path,
    shown: tuple[ReadOnly, ...],
    enter: Sequence[str] | None = None,
    without: tuple[str, ...] = (),
) -> tuple[Running, subprocess.Popen[bytes]]:
    """Start the server of `spec`; returns once its program runs. SandboxError if it ends before.

    `place`: the runtime's directory, which holds its etc/ and gets its log. `status`: file for the exit code. `shown`:
    what is mounted read-only, from where the member's uid can look it up. `enter`: the words that go before bwrap's,
    root's unless given. `without`: system calls that are to be missing besides the usual ones.
    """
    with contextlib.ExitStack() as stack:
        info_read, info_write = os.pipe()
        stack.callback(os.close, info_read)
        info = stack.enter_context(os.fdopen(info_write, "wb"))
        calls = stack.enter_context(_memory("seccomp", seccomp.program(without=without)))
        report = stack.enter_context(status.open("ab"))
        log = stack.enter_context((place / "log").open("ab"))
        words = profile.options(
            spec,
            etc=place / "etc",
            home=Path(walls.home),
            read_only=shown,
            info=info.fileno(),
            status=report.fileno(),
            seccomp=calls.fileno(),
        )
        options = stack.enter_context(_memory("options", b"".join(os.fsencode(word) + b"\0" for word in words)))
        process = subprocess.Popen(
            [*(enter or _enter_as_root(walls, spec)), "bwrap", "--args", str(options.fileno()), "--", *spec.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(info.fileno(), report.fileno(), calls.fileno(), options.fileno()),
            env=ROOT_ENV,
            cwd="/",
            umask=0o022,
            start_new_session=True,
        )
        try:
            info.close()
            child = _child(info_read)
            _await_exec(process, child)
            outer, inner = processes.stat(process.pid), processes.stat(child)
            if outer is None or inner is None:
                raise _Ended
        except _Ended:
            raise _failure(walls, process, place) from None
        except BaseException:
            # As a zombie it would hold its control groups.
            process.kill()
            process.wait()
            raise
    running = Running(
        walls=walls,
        pid=process.pid,
        start_time=outer.start_time,
        child_pid=child,
        child_start_time=inner.start_time,
        netns_inode=processes.namespace(child, "net"),
        pidns_inode=processes.namespace(child, "pid"),
    )
    return running, process


def exit_code(status: Path) -> int | None:
    """The server's exit code as bubblewrap wrote it down; None if it was killed before it could."""
    with contextlib.suppress(OSError):
        for line in status.read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return int(json.loads(line)["exit-code"])
    return None


class _Ended(Exception):
    """bubblewrap ended, or hangs, before the server ran."""


def _enter_as_root(walls: Walls, spec: RuntimeSpec) -> list[str]:
    uid = str(walls.uid)
    return [
        *("/bin/sh", "-c", _ENTER, "mutirao"),
        *(f"{group}/cgroup.procs" for group in walls.cgroups),
        *("--", "prlimit", *file_limits(spec), "--"),
        *("nsenter", f"--net={walls.netns}", "--"),
        *("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"),
    ]


def file_limits(spec: RuntimeSpec) -> tuple[str, ...]:
    """prlimit's options for open files and crashes."""
    files = _at_most(resource.RLIMIT_NOFILE, spec.limits.open_files)
    # One byte, not none: that alone keeps a crash from being piped to the host's handler (see core(5)).
    core = _at_most(resource.RLIMIT_CORE, 1)
    return f"--core={core}:{core}", f"--nofile={files}:{files}"


def _at_most(kind: int, wanted: int) -> int:
    """`wanted`, or the hard limit where that is lower: without CAP_SYS_RESOURCE it can't be raised."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _child(descriptor: int) -> int:
    """The host's pid of pid 1 inside, from --info-fd, which bubblewrap writes in pieces."""
    text = b""
    ready = select.poll()  # select() knows no descriptor past 1023, and each runtime holds some
    ready.register(descriptor, select.POLLIN)
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if not ready.poll(200):
            continue
        piece = os.read(descriptor, 4096)
        text += piece
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return int(json.loads(text)["child-pid"])
        if not piece:
            break
    raise _Ended


def _await_exec(process: subprocess.Popen[bytes], child: int) -> None:
    """Return once the server's program runs, so that a missing one is an error now and not a silent death."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        for server in processes.children(child):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{server}/comm").read_text().strip() != "bwrap":
                    return
        time.sleep(0.002)
    raise _Ended


def _failure(walls: Walls, process: subprocess.Popen[bytes], place: Path) -> SandboxError:
    try:
        code: int | None = process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait(5)
    said = readable(log_end(place, 500)).strip()
    return SandboxError(
        f"the server of {walls.member!r} did not start (status {code}): {said or 'it said nothing'}. "
        f"Can host uid {walls.uid} read the environment and its interpreter? See `mutirao doctor`."
    )


def _memory(name: str, content: bytes) -> BinaryIO:
    """A file that exists in memory alone, at its beginning."""
    file = os.fdopen(os.memfd_create(name), "w+b")
    file.write(content)
    file.flush()
    file.seek(0)
    return file
