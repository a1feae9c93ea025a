"""What a runtime is made of: values only, each of which can travel as JSON to a broker in another process.

`RuntimeSpec` goes in; `Walls` comes out of the first step (nothing runs yet) and `Running` out of the second.
"""

import dataclasses
import hashlib
import ipaddress
import json
import types
import typing
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mutirao.errors import SandboxError

HOME = "/home/member"
"""Where a member finds their home inside; the same for everybody, so that paths in notebooks can be shared."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one runtime may use at most; `cpus` may be a fraction, `disk_mb` is the size of the member's home."""

    memory_mb: int
    cpus: float
    processes: int
    open_files: int
    disk_mb: int

    def __post_init__(self) -> None:
        for name, least in (("memory_mb", 32), ("cpus", 0.01), ("processes", 8), ("open_files", 64), ("disk_mb", 8)):
            value = getattr(self, name)
            if not value >= least:
                raise SandboxError(f"limit {name} is {value}: must be at least {least}.")


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Where a runtime may connect to; nothing may connect to it but the host, at the server's port.

    `dns_servers`: addresses, or empty for the host's own resolvers. `allow`: private ranges opened on purpose, as
    "10.1.0.0/16" (the ports of `tcp_ports`) or "10.1.2.3/32:5432" (that port alone).
    """

    tcp_ports: tuple[int, ...] = (80, 443)
    dns: bool = True
    dns_servers: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for port in self.tcp_ports:
            if not 0 < port < 65536:
                raise SandboxError(f"network port {port}: must be between 1 and 65535.")
        for server in self.dns_servers:
            try:
                ipaddress.IPv4Address(server)
            except ValueError:
                raise SandboxError(f"DNS server {server!r}: must be an IPv4 address.") from None
        self.allowed()

    def allowed(self) -> tuple[tuple[str, int], ...]:
        """The allow list as (network, port) pairs."""
        pairs = []
        for entry in self.allow:
            network, colon, port = entry.partition(":")
            try:
                parsed = str(ipaddress.IPv4Network(network))
                ports = (int(port),) if colon else self.tcp_ports
                if not all(0 < p < 65536 for p in ports):
                    raise ValueError(entry)
            except ValueError:
                raise SandboxError(
                    f"allowed network {entry!r}: write it as 10.1.0.0/16 or 10.1.2.3/32:5432 (IPv4)."
                ) from None
            pairs += [(parsed, p) for p in ports]
        return tuple(pairs)


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A file or directory of the host, shown read-only at `inside`."""

    source: Path
    inside: str

    def __post_init__(self) -> None:
        for place in (str(self.source), self.inside):
            if not _plain_path(place):
                raise SandboxError(f"{place!r} can't be shown in a runtime: write an absolute path without . and ..")


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """One runtime to start: whose it is, what it runs and what it may use.

    `environment` is the root of a virtual environment and is mounted read-only at the same path (a path below /usr
    needs no mount). `argv` runs in the member's home with exactly `env` (and PWD). `port` is the server's.
    """

    member: str
    server: str
    environment: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    limits: Limits
    port: int
    network: NetworkPolicy = NetworkPolicy()
    read_only: tuple[ReadOnly, ...] = ()

    def __post_init__(self) -> None:
        if not _plain_path(str(self.environment)):
            raise SandboxError(f"environment {str(self.environment)!r}: must be an absolute path without . and ..")
        if not self.argv:
            raise SandboxError(f"runtime of {self.member!r}: argv is empty, give the server's command.")
        if not 0 < self.port < 65536:
            raise SandboxError(f"runtime of {self.member!r}: port {self.port} must be between 1 and 65535.")
        for text in (*self.argv, *self.env.keys(), *self.env.values()):
            if "\0" in text:
                raise SandboxError(f"runtime of {self.member!r}: {text!r} holds a NUL byte, which no program can get.")
        for name in self.env:
            if not name or "=" in name:
                raise SandboxError(f"runtime of {self.member!r}: {name!r} can't name an environment variable.")


@dataclass(frozen=True, slots=True)
class Walls:
    """A sandbox that stands but runs nothing yet."""

    id: str
    member: str
    server: str
    uid: int
    address: str
    port: int
    interface: str
    netns: str
    """File on which the network namespace is mounted."""
    home: str
    """Directory of the host that becomes the member's home."""
    cgroups: tuple[str, ...]
    """Directories, the one that names the sandbox first."""


@dataclass(frozen=True, slots=True)
class Running:
    """A runtime that was started; `walls` says where.

    `pid` (the outer bwrap) and `child_pid` (pid 1 inside) are the host's; the start times are in clock ticks since
    boot, so that a reused pid is never mistaken for ours. The inodes name the namespaces.
    """

    walls: Walls
    pid: int
    start_time: int
    child_pid: int
    child_start_time: int
    netns_inode: int
    pidns_inode: int

    @property
    def id(self) -> str:
        return self.walls.id

    @property
    def member(self) -> str:
        return self.walls.member

    @property
    def uid(self) -> int:
        return self.walls.uid

    @property
    def address(self) -> str:
        return self.walls.address

    @property
    def port(self) -> int:
        return self.walls.port

    @property
    def cgroup(self) -> str:
        return self.walls.cgroups[0]


@dataclass(frozen=True, slots=True)
class Events:
    """What the kernel counted for a runtime since it started."""

    oom_kills: int = 0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    refused_forks: int = 0
    throttled_s: float = 0.0


def _plain_path(place: str) -> bool:
    """Whether a path means the same place whoever reads it: root makes mount points by it."""
    parts = place.split("/")
    return place.startswith("/") and place != "/" and "\0" not in place and not {"", ".", ".."} & set(parts[1:])


def slug(name: str) -> str:
    """A directory name for `name`: up to 24 of its plain letters for the eye, a hash for identity.

    Two names never share one, whatever they hold (slashes, NUL, other scripts, nothing at all).
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    letters = "".join(c if c.isalnum() else "-" for c in plain.lower()[:24]).strip("-")
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{letters or 'member'}-{digest}"


def to_json(value: Any) -> str:
    """One of this module's values as one line of JSON."""

    def plain(item: Any) -> Any:
        if dataclasses.is_dataclass(item):
            return {field.name: plain(getattr(item, field.name)) for field in dataclasses.fields(item)}
        if isinstance(item, Path):
            return str(item)
        if isinstance(item, Mapping):
            return dict(item)
        if isinstance(item, tuple | list):
            return [plain(part) for part in item]
        return item

    return json.dumps(plain(value))


def from_json(kind: type[T], text: str) -> T:
    """The value that `to_json` wrote; SandboxError if it has another shape."""
    try:
        return typing.cast(T, build(kind, json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SandboxError(f"not a {kind.__name__} as JSON ({error}): {text[:200]!r}") from error


def build(kind: Any, value: Any) -> Any:
    """`value`, read from JSON, as `kind`; TypeError, ValueError or KeyError where it has another shape."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise TypeError(f"{kind.__name__} must be an object")
        hints = typing.get_type_hints(kind)
        return kind(**{name: build(hints[name], part) for name, part in value.items()})
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError("a list is missing")
        return tuple(build(typing.get_args(kind)[0], part) for part in value)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
            raise TypeError("an object of texts is missing")
        return dict(value)
    if origin in (typing.Union, types.UnionType):
        (present,) = (part for part in typing.get_args(kind) if part is not type(None))
        return None if value is None else build(present, value)
    if kind is Path:
        return Path(value)
    if kind is float and isinstance(value, int):
        return float(value)
    if isinstance(kind, type) and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value
