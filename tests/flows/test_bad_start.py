"""What `mutirao up` can't do it says in a sentence, with what to do; and wherever it is stopped, nothing stays behind."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from bench.client import Member

from tests.flows.service import PASSWORD, STOP_TIMEOUT_S, Left, environment, free_port, running, survey

NOBODY = 65534


@pytest.fixture
def data() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mutirao-test-", dir="/var/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def up(
    data: Path,
    extra: str = "",
    *arguments: str,
    env: dict[str, str] | None = None,
    before: tuple[str, ...] = (),
    service: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run `mutirao up` where it is expected to refuse."""
    config = data / "mutirao.toml"
    config.write_text(
        f'[service]\nport = {free_port()}\ndata = "{data / "data"}"\n{service}\n[sandbox]\nsubnet = "10.151.0.0/16"\n{extra}'
    )
    config.chmod(0o644)
    return subprocess.run(
        [*before, sys.executable, "-m", "mutirao", "up", "--config", str(config), *arguments],
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """What it said: one message, no traceback, status 1."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if line.startswith("mutirao: ")]
    assert len(said) == 1, done.stderr
    return said[0]


def left_since(before: Left, patience_s: float = 5) -> list[str]:
    """What is there now and was not before; an ended process may take a moment to be reaped."""
    deadline = time.monotonic() + patience_s
    while True:
        now = survey()
        new = [sorted(getattr(now, kind.name) - getattr(before, kind.name)) for kind in fields(Left)]
        if not any(new) or time.monotonic() > deadline:
            return [line for lines in new for line in lines]
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = survey()
    yield
    assert left_since(before) == []


def test_an_unknown_key_names_the_nearest(data: Path) -> None:
    assert "sandbox.sub_net" in (said := refusal(up(data, 'sub_net = "10.0.0.0/8"')))
    assert "subnet" in said


def test_a_wrong_type_is_named(data: Path) -> None:
    said = refusal(up(data, 'dns = "perhaps"'))

    assert "sandbox.dns is 'perhaps'" in said


def test_no_config_file(data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mutirao", "up", "--config", str(data / "absent.toml")],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "absent.toml can't be read" in refusal(done)


def test_a_port_in_use(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(up(data, "", "--demo", "--port", str(port)))

    assert f"port {port}" in said
    assert "--port" in said


def test_a_host_that_is_not_ours(data: Path) -> None:
    assert "203.0.113.7" in refusal(up(data, "", "--host", "203.0.113.7"))
    assert "no such host at all" in refusal(up(data, "", "--host", "no such host at all"))


def test_the_demo_is_for_loopback_alone(data: Path) -> None:
    said = refusal(up(data, "", "--demo", "--host", "0.0.0.0"))

    assert "loopback only" in said
    assert "--host 127.0.0.1" in said


def test_a_short_demo_password(data: Path) -> None:
    said = refusal(up(data, "", "--demo", env={"MUTIRAO_PASSWORD": "short"}))

    assert "MUTIRAO_PASSWORD" in said
    assert "8" in said


@pytest.mark.parametrize("missing", ["bwrap", "nft", "nsenter"])
def test_a_missing_program(data: Path, missing: str) -> None:
    """The programs are looked for where root finds them, so that the absence is played in a mount namespace."""
    program = Path(str(shutil.which(missing))).resolve()
    hidden = ("unshare", "--mount", "sh", "-c", f'mount --bind /dev/null {program} && exec "$@"', "sh")

    said = refusal(up(data, "", "--demo", before=hidden))

    assert f"{missing} is missing" in said
    assert "prepare" in said


def test_no_node(data: Path) -> None:
    assert "/nonexistent/node" in refusal(up(data, "", "--demo", env={"MUTIRAO_NODE": "/nonexistent/node"}))


def test_not_root_and_a_data_folder_that_is_roots(data: Path) -> None:
    """An ordinary user may start it, with a folder of their own (tests/flows/test_rootless.py)."""
    said = refusal(
        up(data, "", "--demo", before=("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"))
    )

    # Which of the two comes first is the machine's: /dev/net/tun may be for root alone.
    tun = Path("/dev/net/tun")
    prepared = tun.exists() and tun.stat().st_mode & 0o6 == 0o6
    assert ("choose another folder with --data" if prepared else "sudo ./run prepare") in said


def test_a_file_where_the_data_folder_should_be(data: Path) -> None:
    (data / "data").write_text("in the way")

    said = refusal(up(data, "", "--demo"))

    assert str(data / "data") in said
    assert (data / "data").read_text() == "in the way"


def test_a_data_folder_below_a_file(data: Path) -> None:
    (data / "file").touch()

    assert "service.data" in refusal(up(data, "", "--demo", "--data", str(data / "file" / "deeper")))


def test_a_data_folder_that_members_can_not_reach(data: Path) -> None:
    """A 0700 folder above would make every runtime fail later, one by one."""
    (data / "private").mkdir(mode=0o700)

    said = refusal(up(data, "", "--demo", "--data", str(data / "private" / "data")))

    assert str(data / "private") in said
    assert "chmod" in said


def test_a_broken_database_is_named(data: Path) -> None:
    store = data / "data" / "store"
    store.mkdir(parents=True)
    (store / "mutirao.sqlite").write_text("this is no database " * 100)

    said = refusal(up(data, "", "--demo"))

    assert "database" in said


def test_an_environment_nobody_has(data: Path) -> None:
    extra = '[environments.absent]\ntitle = { en = "Absent" }\n'

    assert "'absent'" in refusal(up(data, extra, "--demo"))


def test_a_subnet_that_the_machine_uses(data: Path) -> None:
    own = subprocess.run(
        ["ip", "-o", "-4", "addr", "show", "scope", "global"], capture_output=True, text=True, check=True
    )
    found = re.search(r"inet (\d+\.\d+\.\d+)\.\d+/", own.stdout)
    if not found or not found[1].startswith(("10.", "192.168.", "172.")):
        pytest.skip("this machine has no private address to collide with")
    config = data / "mutirao.toml"
    config.write_text(
        f'[service]\nport = {free_port()}\ndata = "{data / "data"}"\n[sandbox]\nsubnet = "{found[1]}.0/24"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mutirao", "up", "--demo", "--config", str(config)],
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert "sandbox.subnet" in refusal(done)


def test_a_second_instance_is_refused_and_the_first_lives_on(data: Path) -> None:
    with running("10.166.0.0/16") as first:
        config = first.data / "mutirao.toml"
        same_data = up(data, "", "--demo", "--data", str(first.data))
        other = data / "other.toml"
        other.write_text(
            f'[service]\nport = {free_port()}\ndata = "{data / "data"}"\n[sandbox]\nsubnet = "10.166.0.0/16"\n'
        )
        same_subnet = subprocess.run(
            [sys.executable, "-m", "mutirao", "up", "--demo", "--config", str(other)],
            env=environment(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

        assert "Another Mutirão" in refusal(same_data)
        assert "Another Mutirão" in refusal(same_subnet)
        assert first.process.poll() is None
        assert config.is_file()


def started(folder: Path, config: Path | None = None) -> tuple[subprocess.Popen[bytes], Callable[[], str]]:
    """A service as a process, and what it has said so far."""
    if config is None:
        config = folder / "mutirao.toml"
        config.write_text(
            f'[service]\nport = {free_port()}\ndata = "{folder / "data"}"\n[sandbox]\nsubnet = "10.153.0.0/16"\n'
        )
    output = folder / "said.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mutirao", "up", "--demo", "--config", str(config)],
            env=environment(), stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    return process, output.read_text


def ready(process: subprocess.Popen[bytes], said: Callable[[], str], mark: str = "is ready") -> None:
    """Wait until it says so."""
    deadline = time.monotonic() + 90
    while mark not in said():
        assert process.poll() is None, said()
        assert time.monotonic() < deadline, said()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["0.3 s", "0.6 s", "0.9 s", "proxy", "gate", "pages", "hub"])
def test_a_stop_during_start_up_leaves_nothing(data: Path, moment: str, number: signal.Signals) -> None:
    process, said = started(data)
    if moment.endswith(" s"):
        time.sleep(float(moment.split()[0]))
    else:
        ready(process, said, f"Starting {moment}")
    process.send_signal(number)
    process.wait(STOP_TIMEOUT_S)

    assert "Traceback" not in said()


def test_ctrl_c_twice_is_no_harsher_than_once(data: Path) -> None:
    process, said = started(data)
    ready(process, said)
    for _ in range(3):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    process.wait(STOP_TIMEOUT_S)

    assert "nothing was left behind" in said()
    assert "Traceback" not in said()
    assert process.returncode == 0


async def test_a_stop_while_runtimes_run_leaves_nothing(data: Path) -> None:
    before = survey()
    with running("10.154.0.0/16") as service:
        async with Member(service.url, "ana", PASSWORD) as ana, Member(service.url, "bia", PASSWORD) as bia:
            await ana.start()
            async with ana.kernel() as kernel:
                await kernel.run("import subprocess; p = subprocess.Popen(['sleep', '1000'], start_new_session=True)")
                await kernel.send("execute_request", {"code": "while True: pass", "silent": False})
            # This one is still being started.
            async with bia.http.get(bia.hub / "hub/home"):
                pass
            await bia.api("POST", "users/bia/server", json={})
            service.stop()
        assert left_since(before) == []
        assert "nothing was left behind" in service.output.read_text()


async def test_runtimes_outlive_a_supervisor_that_is_killed_and_the_next_goes_on_with_them(data: Path) -> None:
    """Nobody can clean up at SIGKILL; the next start finds what lives, its stop leaves nothing."""
    with running("10.155.0.0/16") as service:
        async with Member(service.url, "ana", PASSWORD) as ana:
            await ana.start()
            number = await ana.new_kernel()
            async with ana.kernel(number) as kernel:
                await kernel.run("x = 20")
        service.process.kill()
        service.process.wait(10)
        second, said = started(service.data, service.data / "mutirao.toml")
        try:
            ready(second, said)
            async with Member(service.url, "ana", PASSWORD) as ana:
                async with ana.http.get(ana.server / "lab") as lab:
                    assert lab.status == 200, await lab.text()
                async with ana.kernel(number) as kernel:
                    assert (await kernel.run("x")).text == "20"
                    assert (await kernel.run("!./xmrig -o stratum+tcp://pool.example.org:3333 -u W")).refused
        finally:
            second.send_signal(signal.SIGINT)
            second.wait(STOP_TIMEOUT_S)
