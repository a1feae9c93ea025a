"""What each part of a running service may do: its user, its rights, its files, its secrets, and its way to the hub."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.client import Member

from mutirao.accounts import Accounts
from tests.flows.service import PASSWORD, Service, running
from tests.flows.test_restart import MARKS, part_of

OURS = Accounts(2_000_000)
UNPRIVILEGED = ("hub", "proxy", "gate", "pages", "forwarder", "warden")


@pytest.fixture(scope="module")
def house() -> Iterator[Service]:
    with running("10.157.0.0/16") as service:
        yield service


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return {name: value for name, _, value in (entry.partition("=") for entry in entries if entry)}


@pytest.mark.parametrize("name", UNPRIVILEGED)
def test_each_part_is_a_user_of_its_own_without_rights(house: Service, name: str) -> None:
    said = status(part_of(house, MARKS[name]))
    account = getattr(OURS, name)

    assert said["Uid"].split() == [str(account.uid)] * 4
    assert said["Gid"].split() == [str(account.gid)] * 4
    assert said["Groups"] == ""
    assert said["NoNewPrivs"] == "1"
    assert {int(said[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_the_broker_alone_is_root(house: Service) -> None:
    assert status(part_of(house, MARKS["broker"]))["Uid"].split() == ["0"] * 4


def test_no_part_knows_anothers_secrets(house: Service) -> None:
    known = {name: environment_of(part_of(house, MARKS[name])) for name in MARKS}
    place = json.loads(known["hub"]["MUTIRAO_PLACE"])
    secrets = {
        "proxy": place["proxy_token"],
        "gate": place["gate_secret"],
        "service": place["service_token"],
        "supervisor": place["supervisor_token"],
        "warden": place["warden_token"],
        "password": place["demo_password"],
        "pages": known["pages"]["MUTIRAO_COOKIE_SECRET"],
    }
    assert all(secrets.values())
    held = {
        name: {which for which, secret in secrets.items() if secret in "\0".join(environment.values())}
        for name, environment in known.items()
    }
    assert held == {
        "broker": set(),
        "forwarder": set(),
        "proxy": {"proxy"},
        "gate": {"gate", "service"},
        "pages": {"pages", "service"},
        "warden": {"warden"},
        "hub": set(secrets) - {"pages"},
    }


def opened_as(uid: int, gid: int, paths: list[Path]) -> set[Path]:
    """Those that this user can open for reading or writing."""
    code = (
        "import os, sys\n"
        "for path in sys.argv[1:]:\n"
        "    for mode in (os.O_RDONLY, os.O_WRONLY):\n"
        "        try:\n"
        "            os.close(os.open(path, mode))\n"
        "            print(path)\n"
        "        except OSError:\n"
        "            pass\n"
    )
    command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all", "/usr/bin/python3"]
    done = subprocess.run([*command, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True, cwd="/")
    return {Path(line) for line in done.stdout.splitlines()}


async def test_each_part_reaches_its_own_files_and_no_others(house: Service) -> None:
    async with Member(house.url, "ana", PASSWORD) as ana:
        await ana.start()
        data = house.data
        kept = [path for path in data.rglob("*") if path.is_file() and "homes" not in path.parts]
        kept += list((data / "sandbox" / "homes").rglob("*.img")) + list(Path("/run/mutirao").glob("*/*.json"))
        reached = {name: opened_as(getattr(OURS, name).uid, getattr(OURS, name).gid, kept) for name in UNPRIVILEGED}
    public = {data / "mutirao.toml", data / "output.txt", *(path for path in kept if "environments" in path.parts)}
    public |= {
        data / "lock",
        data / "sandbox" / "port",
        data / "audit" / "state.json",
        data / "audit" / "key.pub",
        data / "audit" / "heads.jsonl",
    }

    for name, paths in reached.items():
        own = {"hub": "hub", "gate": "store", "pages": "store", "warden": "store"}.get(name)
        assert {path for path in paths - public if own is None or not path.is_relative_to(data / own)} == set(), name
    assert data / "hub" / "jupyterhub.sqlite" in reached["hub"]
    assert data / "store" / "mutirao.sqlite" in reached["gate"] & reached["pages"]


def test_what_both_write_stays_writable_for_both(house: Service) -> None:
    for path in (house.data / "store").iterdir():
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 1_999_999), path


def test_nobody_else_may_ask_the_broker(house: Service) -> None:
    """A taken-over gate knocks."""
    sock = json.loads(environment_of(part_of(house, MARKS["hub"]))["MUTIRAO_PLACE"])["broker_socket"]
    code = (
        "import contextlib, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "with contextlib.suppress(BrokenPipeError):\n"
        '    s.sendall(b\'{"ask": "Keep", "ids": []}\\n\')\n'
        "print(s.recv(1000).decode())\n"
    )
    for name, said in (("gate", "may ask for nothing"), ("pages", "may ask for nothing"), ("forwarder", "may not ask")):
        account = getattr(OURS, name)
        done = subprocess.run(
            ["/usr/bin/python3", "-c", code, str(sock)],
            user=account.uid, group=account.gid, extra_groups=[], capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        assert said in done.stdout
    told = (house.data / "logs" / "broker-audit.jsonl").read_text()
    assert "may ask for nothing" in told


KNOCK = """
import json, os, urllib.request, urllib.error
base, token = os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"]
root = base.removesuffix("/hub/api")
def ask(path, method="GET", body=None):
    request = urllib.request.Request(root + path, method=method, data=body)
    request.add_header("Authorization", "token " + token)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
report = json.dumps({"servers": {"": {"last_activity": "2026-01-01T00:00:00Z"}}}).encode()
found = {
    "version": ask("/hub/api"),
    "me": ask("/hub/api/user"),
    "activity": ask("/hub/api/users/ana/activity", "POST", report),
    "another's activity": ask("/hub/api/users/bia/activity", "POST", report),
    "login": ask("/hub/login"),
    "home": ask("/hub/home"),
    "users": ask("/hub/api/users"),
    "own model": ask("/hub/api/users/ana"),
    "own server": ask("/hub/api/users/ana/server", "DELETE"),
    "health": ask("/hub/health"),
    "dots": ask("/hub/api/../health"),
    "slashes": ask("//hub/health"),
    "metrics": ask("/hub/metrics"),
}
print(json.dumps(found))
"""


async def test_a_runtime_gets_to_the_hub_by_the_forwarder_alone(house: Service) -> None:
    async with Member(house.url, "ana", PASSWORD) as ana:
        if not (await ana.api("GET", "users/ana"))[1]["servers"]:
            await ana.start()
        async with ana.http.get(ana.server / "lab") as lab:
            assert lab.status == 200
        async with ana.kernel() as kernel:
            found: dict[str, Any] = json.loads((await kernel.run(KNOCK)).text)

    passed = {name for name, code in found.items() if code == 200}
    assert passed == {"version", "me", "activity"}, found
    assert {code for name, code in found.items() if name not in passed} == {403}


def test_the_hub_listens_on_loopback_only(house: Service) -> None:
    place = json.loads(environment_of(part_of(house, MARKS["hub"]))["MUTIRAO_PLACE"])
    port = f"{place['hub_port']:04X}"
    rows = [row.split()[1] for row in Path("/proc/net/tcp").read_text().splitlines()[1:] if row.split()[3] == "0A"]

    assert [row for row in rows if row.endswith(f":{port}")] == [f"0100007F:{port}"]


async def test_an_operator_does_not_get_into_a_members_runtime() -> None:
    """Its owner could act in the name of whoever comes."""
    extra = '[login]\nkind = "demo"\noperators = ["olga"]\n'
    with running("10.158.0.0/16", extra) as service:
        said = service.output.read_text()
        password = said.split("(olga) log in with:")[1].split()[0]
        async with Member(service.url, "ana", PASSWORD) as ana, Member(service.url, "olga", password) as olga:
            await ana.start()
            async with olga.http.get(ana.server / "lab") as answer:
                assert "would like permission" in await answer.text()
                asking = answer.url
            scopes = ["access:servers!server=ana/", "read:users:groups!user", "read:users:name!user"]
            form = [("_xsrf", olga._xsrf("/hub/api")), *(("scopes", scope) for scope in scopes)]
            async with olga.http.post(asking, data=form, headers={"Referer": str(asking)}) as answer:
                # Back at the runtime with a code, which the forwarder turns into no token.
                assert answer.url.path == "/user/ana/oauth_callback"
                assert answer.status >= 400
            async with olga.http.get(ana.server / "api/contents") as answer:
                assert answer.status >= 400
            async with ana.http.get(ana.server / "lab") as answer:
                assert answer.status == 200


def test_a_folder_of_the_first_version_is_taken_over() -> None:
    """Then the hub was root, and one user wrote the store."""
    with running("10.159.0.0/16", demo=False) as service:
        link = service.command("invite", "--operator")
        assert "invite_key=" in link
        service.command("policy", "list")
        data = service.data
        service.stop()
        for path in (data / "hub", *(data / "hub").rglob("*")):
            os.chown(path, 0, 0)
        for path in (data / "store", *(data / "store").rglob("*")):
            os.chown(path, 1_999_999, 1_999_999)
            path.chmod(0o700 if path.is_dir() else 0o600)
        again = subprocess.Popen(
            service.process.args, env=dict(os.environ) | {"PYTHONPATH": os.environ["MUTIRAO_APP"]},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert again.stdout
            said = ""
            while "is ready" not in said:
                line = again.stdout.readline()
                assert line, said
                said += line
            service.command("policy", "list")
            assert {path.stat().st_uid for path in (data / "hub").rglob("*")} == {1_999_998}
            assert {stat.S_IMODE(path.stat().st_mode) for path in (data / "store").iterdir()} == {0o660}
        finally:
            again.terminate()
            again.communicate()
