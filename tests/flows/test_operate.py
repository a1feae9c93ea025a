"""A service on either database is copied while people work, and comes back from the copy with everything in it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from bench.client import Member

from mutirao import unit
from mutirao.store import heads
from tests import postgres
from tests.flows.service import PASSWORD, ROOT, environment, free_port, running

MINER = "!./xmrig -o stratum+tcp://pool.example.org:3333 -u W"
SUBNET = "10.171.0.0/16"


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mutirao-test-", dir="/var/tmp") as made:
        Path(made).chmod(0o711)
        yield Path(made)


def settings(kind: str, request: pytest.FixtureRequest, place: Path) -> str:
    """What mutirao.toml says about databases, heads and metrics."""
    text = f'[audit]\nheads = "{place / "heads.jsonl"}"\nevery_minutes = 1\n[metrics]\ntoken = {{ env = "SCRAPE" }}\n'
    if kind == "sqlite":
        return text
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return text + f'[store]\nurl = "{server.fresh()}"\nhub_url = "{server.fresh()}"\n'


async def metrics(url: str) -> str:
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer scrape-me"}) as client,
        client.get(f"{url}/services/mutirao/metrics") as answer,
    ):
        assert answer.status == 200
        return await answer.text()


async def healthz(url: str) -> tuple[int, dict[str, str]]:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/services/mutirao/healthz") as answer:
        return answer.status, await answer.json()


async def outage(url: str, server: postgres.Server) -> None:
    """While the database hangs, cells that meet a rule are refused as not checked, others run; then all is as before."""
    async with Member(url, "ana", PASSWORD) as ana:
        async with ana.http.get(ana.server / "lab") as lab:
            assert lab.status == 200
        async with ana.kernel() as kernel:
            with server.hung():
                refused, harmless = await kernel.run(MINER), await kernel.run("print(1)")
                said = await healthz(url)
            assert refused.refused
            assert "M-" not in refused.text
            assert harmless.text == "1\n"
            assert (said[0], said[1]["store"]) == (503, "does not answer")
            async with asyncio.timeout(60):
                while (await healthz(url))[0] != 200:  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(0.2)
            assert "M-" in (await kernel.run(MINER)).text


async def work(url: str) -> str:
    """Ana writes a file and meets a rule; the number of her case."""
    async with Member(url, "ana", PASSWORD) as ana:
        await ana.start()
        async with ana.kernel() as kernel:
            await kernel.run("open('kept.txt', 'w').write('still here'); import os; os.sync()")
            ran = await kernel.run(MINER)
        assert ran.refused
        return "M-" + ran.text.split("M-")[1][:11]


async def look(url: str, number: str) -> tuple[str, int]:
    """What Ana's file says, and how her case answers."""
    async with Member(url, "ana", PASSWORD) as ana:
        await ana.start()
        async with ana.kernel() as kernel:
            said = (await kernel.run("print(open('kept.txt').read(), end='')")).text
        async with ana.http.get(ana.hub / f"services/mutirao/case/{number}") as case:
            await case.read()
            return said, case.status


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.campaign)])
async def test_a_service_comes_back_from_a_copy_made_while_it_ran(
    place: Path, request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRAPE", "scrape-me")
    copied = place / "copy.tar.gz"
    with running(SUBNET, settings(kind, request, place)) as service:
        number = await work(service.url)
        found = await metrics(service.url)
        assert 'mutirao_gate_verdicts_total{action="stop",category="mining"} 1.0' in found
        assert 'mutirao_decisions_total{action="stop",category="mining"} 1.0' in found
        assert 'mutirao_up{part="gate"} 1.0' in found
        if kind == "postgresql":
            await outage(service.url, request.getfixturevalue("postgres_server"))
        said = service.command("backup", str(copied), "--homes")
        assert "1 homes" in said
        key = service.command("audit", "key").strip()
    signed = list(heads.read(place / "heads.jsonl"))
    assert all(heads.signed_by(head, heads.public_key(key)) for head in signed)
    assert len(signed) >= 2

    data = place / "new" / "data"
    data.parent.mkdir()
    data.parent.chmod(0o711)
    again = settings(kind, request, place)
    (data.parent / "mutirao.toml").write_text(f'[service]\ndata = "{data}"\n{again}')
    (place / "heads.jsonl").rename(place / "heads-before.jsonl")
    command = [sys.executable, "-m", "mutirao", "restore", str(copied), "--config", str(data.parent / "mutirao.toml")]
    await asyncio.to_thread(subprocess.run, command, env=environment(), check=True, capture_output=True, cwd="/")

    with running(SUBNET, again, data=data) as service:
        assert await look(service.url, number) == ("still here", 200)
        listed = service.command("audit", "verify")
        assert "all in order" in listed
        assert service.command("audit", "key").strip() == key
        acts = acted(service.command)
    assert [act for act in acts if act.startswith("service.")] == ["service.backup", "service.restore"]


def acted(command: object) -> list[str]:
    """The acts in the audit, by a backup's own copy of it, which no other command prints."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "b.tar.gz"
        command("backup", str(file))  # type: ignore[operator]
        code = (
            "import json, sys, tarfile\n"
            "with tarfile.open(sys.argv[1]) as tar:\n"
            "    items = json.load(tar.extractfile('manifest.json'))['items']\n"
            "    store = next(item['member'] for item in items if item['kind'] == 'store')\n"
            "    lines = tar.extractfile(store).read().decode().splitlines()\n"
            'at = next(n for n, line in enumerate(lines) if \'"table":"audit"\' in line)\n'
            "column = json.loads(lines[at])['columns'].index('act')\n"
            "acts = []\n"
            "for line in lines[at + 1:]:\n"
            "    row = json.loads(line)\n"
            "    if not isinstance(row, list): break\n"
            "    acts.append(row[column])\n"
            "print(json.dumps(acts[:-1]))\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True)
        found: list[str] = json.loads(done.stdout)
        return found


def test_the_service_starts_with_the_rights_that_the_unit_leaves_it(place: Path) -> None:
    """The unit's capabilities and its no_new_privs, without systemd."""
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in unit.CAPABILITIES.split())
    before = ["setpriv", "--no-new-privs", "--bounding-set", f"-all,{kept}", "--inh-caps", "-all"]
    config = place / "mutirao.toml"
    port = free_port()
    config.write_text(f'[service]\nport = {port}\ndata = "{place / "data"}"\n[sandbox]\nsubnet = "10.172.0.0/16"\n')
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(place / "notify"))
    notified.settimeout(300)
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "mutirao", "up", "--demo", "--config", str(config)],
        env=environment() | {"NOTIFY_SOCKET": str(place / "notify")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert notified.recv(100) == b"READY=1"

        async def cell() -> str:
            async with Member(f"http://127.0.0.1:{port}", "ana", PASSWORD) as ana:
                await ana.start()
                async with ana.kernel() as kernel:
                    return (await kernel.run("print(6 * 7)")).text

        assert asyncio.run(cell()).strip() == "42"
        process.terminate()
        assert notified.recv(100) == b"STOPPING=1"
    finally:
        process.terminate()
        assert process.wait(90) == 0
        notified.close()


def test_the_dashboard_and_the_unit_are_in_the_repository() -> None:
    assert (ROOT / "deploy" / "grafana" / "mutirao.json").is_file()
    assert os.access(ROOT / "run", os.X_OK)
