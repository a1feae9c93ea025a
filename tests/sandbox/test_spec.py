"""Values that cross from the hub to the broker: checked when made, whole after the way as JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mutirao.errors import SandboxError
from mutirao.sandbox.spec import (
    Limits,
    NetworkPolicy,
    ReadOnly,
    Running,
    RuntimeSpec,
    Walls,
    from_json,
    slug,
    to_json,
)

SPEC = RuntimeSpec(
    member="../ünï\n",
    server="a",
    environment=Path("/opt/env"),
    argv=("python", "-m", "x"),
    env={"A": "1", "B": "ü"},
    limits=Limits(memory_mb=512, cpus=1, processes=64, open_files=1024, disk_mb=100),
    port=8888,
    network=NetworkPolicy(tcp_ports=(443,), dns_servers=("192.0.2.1",), allow=("10.0.0.0/8:22",)),
    read_only=(ReadOnly(Path("/a"), "/b"),),
)
WALLS = Walls("1f", "ada", "", 200_000, "10.137.0.2", 8888, "mut1", "/run/net", "/run/home", ("/sys/fs/cgroup/x",))
RUNNING = Running(WALLS, 10, 20, 11, 21, 4026531840, 4026531841)


@pytest.mark.parametrize(("kind", "value"), [(RuntimeSpec, SPEC), (Walls, WALLS), (Running, RUNNING)])
def test_a_value_survives_the_way_as_json(kind: type, value: object) -> None:
    text = to_json(value)
    assert "\n" not in text
    assert from_json(kind, text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "7",
        "{}",
        '{"id": 1}',
        to_json(WALLS).replace("200000", '"root"'),
        to_json(WALLS)[:-1] + ', "x": 1}',
    ],
)
def test_another_shape_is_refused(text: str) -> None:
    with pytest.raises(SandboxError, match="not a Walls as JSON"):
        from_json(Walls, text)


def test_what_makes_no_sense_is_refused_on_arrival_too() -> None:
    with pytest.raises(SandboxError, match="memory_mb is 1"):
        from_json(RuntimeSpec, to_json(SPEC).replace('"memory_mb": 512', '"memory_mb": 1'))


def test_a_running_runtime_names_its_keys() -> None:
    assert (RUNNING.id, RUNNING.uid, RUNNING.address, RUNNING.port) == ("1f", 200_000, "10.137.0.2", 8888)
    assert RUNNING.cgroup == "/sys/fs/cgroup/x"


NAMES = [
    "",
    ".",
    "..",
    "../../etc",
    "a/b",
    "a\0b",
    "a\nb",
    "A",
    "a",
    "ä",
    "üser",
    "x" * 255,
    "日本",
    "-",
    " ",
    "\ud800",
]


def test_slugs_are_plain_and_differ() -> None:
    slugs = [slug(name) for name in NAMES]
    assert len(set(slugs)) == len(NAMES)
    for one in slugs:
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,60}", one), one
    assert slug("ada") == slug("ada")
    assert slug("Ada Lovelace").startswith("ada-lovelace-")


@pytest.mark.parametrize(
    ("field", "value"),
    [("memory_mb", 0), ("cpus", 0), ("cpus", float("nan")), ("processes", 1), ("open_files", 3), ("disk_mb", -1)],
)
def test_limits_have_a_floor(field: str, value: Any) -> None:
    with pytest.raises(SandboxError, match=f"limit {field} is {value}: must be at least"):
        replace(SPEC.limits, **{field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"argv": ()}, "argv is empty"),
        ({"argv": ("a\0b",)}, "NUL"),
        ({"env": {"A": "b\0"}}, "NUL"),
        ({"env": {"A=B": "c"}}, "can't name an environment variable"),
        ({"env": {"": "c"}}, "can't name an environment variable"),
        ({"port": 0}, "port 0 must be between"),
        ({"port": 65536}, "port 65536 must be between"),
    ],
)
def test_a_specification_that_cant_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        replace(SPEC, **changes)


def test_the_allow_list_reads_networks_and_ports() -> None:
    policy = NetworkPolicy(tcp_ports=(80, 443), allow=("10.1.0.0/16", "10.2.0.1/32:5432", "10.3.0.1"))
    assert policy.allowed() == (
        ("10.1.0.0/16", 80),
        ("10.1.0.0/16", 443),
        ("10.2.0.1/32", 5432),
        ("10.3.0.1/32", 80),
        ("10.3.0.1/32", 443),
    )


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "example.org",
        "10.0.0.0/8:0",
        "10.0.0.0/8:x",
        "fd00::/8",
        "10.0.0.0/8:",
        "; flush",
    ],
)
def test_a_wrong_entry_of_the_allow_list_is_named(entry: str) -> None:
    with pytest.raises(SandboxError, match=re.escape(f"allowed network {entry!r}: write it as")):
        NetworkPolicy(allow=(entry,))


def test_wrong_ports_and_resolvers_are_named() -> None:
    with pytest.raises(SandboxError, match="network port 0"):
        NetworkPolicy(tcp_ports=(0,))
    with pytest.raises(SandboxError, match=r"DNS server 'dns\.example': must be an IPv4 address"):
        NetworkPolicy(dns_servers=("dns.example",))


def test_json_is_plain() -> None:
    assert json.loads(to_json(SPEC))["environment"] == "/opt/env"


@pytest.mark.parametrize("inside", ["etc/x", "/etc/../root/x", "/", "/a//b", "/a/./b", "/a/", "/a\0b", ""])
def test_a_path_that_could_lead_elsewhere_is_shown_to_nobody(inside: str) -> None:
    with pytest.raises(SandboxError, match="can't be shown in a runtime"):
        ReadOnly(Path("/usr/share"), inside)
    with pytest.raises(SandboxError, match="can't be shown in a runtime"):
        ReadOnly(Path("/usr/../root"), "/data")
