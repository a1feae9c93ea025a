"""What may be asked of the broker: a closed set of values, each one line of JSON, checked before anything is done.

    {"ask": "Start", "member": "ana", "server": "", "environment": "base", "size": "small", …}\\n
    {"answer": …}\\n   or   {"error": "a sentence"}\\n   or   {"refused": "a sentence"}\\n

Nobody names a path, a command, a uid or a limit: those the broker works out from the settings that it loaded itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mutirao.errors import SandboxError
from mutirao.sandbox.spec import build, to_json

MAX_LINE_BYTES = 65536
MAX_NAME = 255
MAX_ENTRIES = 64
MAX_VALUE = 4096
MAX_GRACE_S = 30.0
MAX_WAIT_S = 60.0
MAX_LOG_BYTES = 16384
VARIABLE = re.compile(r"JUPYTERHUB_[A-Z][A-Z_]{0,62}|JPY_API_TOKEN")
"""What JupyterHub tells its servers; everything else in a runtime's environment is the broker's choice."""
_ID = re.compile(r"[0-9a-z-]{1,64}")


class AskError(SandboxError):
    """A request that is none, or that its asker may not make."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a member's server; one that stands under the same names is stopped first."""

    member: str
    server: str
    environment: str
    size: str
    language: str
    env: Mapping[str, str]

    def __post_init__(self) -> None:
        _name("member", self.member, empty=False)
        _name("server", self.server)
        for field in ("environment", "size", "language"):
            if len(getattr(self, field)) > MAX_NAME:
                raise AskError(f"{field} has more than {MAX_NAME} characters.")
        if len(self.env) > MAX_ENTRIES:
            raise AskError(f"env has {len(self.env)} entries: at most {MAX_ENTRIES}.")
        for name, value in self.env.items():
            if not VARIABLE.fullmatch(name):
                raise AskError(f"env names {name[:64]!r}: only JupyterHub's own variables may be set.")
            if len(value) > MAX_VALUE or "\0" in value:
                raise AskError(f"env.{name} is longer than {MAX_VALUE} characters, or holds a NUL byte.")


@dataclass(frozen=True, slots=True)
class Poll:
    """Does that runtime live? Null, or its exit status."""

    id: str

    def __post_init__(self) -> None:
        _id(self.id)


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop that runtime and take its walls down; one that is gone is fine."""

    id: str
    grace_s: float

    def __post_init__(self) -> None:
        _id(self.id)
        if not 0 <= self.grace_s <= MAX_GRACE_S:
            raise AskError(f"grace_s is {self.grace_s}: between 0 and {MAX_GRACE_S:g}.")


@dataclass(frozen=True, slots=True)
class Kills:
    """How many processes the kernel ended for want of memory: answered once it is not `seen`, or after `wait_s`."""

    id: str
    seen: int
    wait_s: float

    def __post_init__(self) -> None:
        _id(self.id)
        if not 0 <= self.wait_s <= MAX_WAIT_S:
            raise AskError(f"wait_s is {self.wait_s}: between 0 and {MAX_WAIT_S:g}.")


@dataclass(frozen=True, slots=True)
class Log:
    """The end of what that runtime's server printed."""

    id: str
    size: int

    def __post_init__(self) -> None:
        _id(self.id)
        if not 0 <= self.size <= MAX_LOG_BYTES:
            raise AskError(f"size is {self.size}: between 0 and {MAX_LOG_BYTES}.")


@dataclass(frozen=True, slots=True)
class Known:
    """Did a member of this name ever have a home here?"""

    member: str

    def __post_init__(self) -> None:
        _name("member", self.member)


@dataclass(frozen=True, slots=True)
class Keep:
    """These runtimes the hub knows after a restart; any other is an orphan and is stopped. Gives the orphans."""

    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        for one in self.ids:
            _id(one)


@dataclass(frozen=True, slots=True)
class Who:
    """Whose runtime has this address: [member, server], or null."""

    address: str

    def __post_init__(self) -> None:
        _name("address", self.address)


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a runtime was started: its name to the broker, and where its server listens."""

    id: str
    address: str
    port: int


Ask = Start | Poll | Stop | Kills | Log | Known | Keep | Who
KINDS: Mapping[str, type[Ask]] = {kind.__name__: kind for kind in (Start, Poll, Stop, Kills, Log, Known, Keep, Who)}
CHANGES = (Start, Stop, Keep)
"""What changes something, and so is written down each time; of the others only what is refused."""


def parse(line: bytes) -> Ask:
    """The request in one line; AskError, which repeats nothing secret, where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise AskError("a request is one line of JSON.") from None
    if not isinstance(found, dict) or not isinstance(found.get("ask"), str):
        raise AskError('a request is an object with "ask".')
    name = found.pop("ask")
    kind = KINDS.get(name)
    if kind is None:
        raise AskError(f"there is nothing called {name[:64]!r} to ask for: have {', '.join(KINDS)}.")
    wanted = set(kind.__dataclass_fields__)
    if set(found) != wanted:
        raise AskError(f"{name} takes exactly {', '.join(sorted(wanted))}.")
    try:
        asked: Ask = build(kind, found)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise AskError(f"{name} has a value of the wrong kind.") from None
    return asked


def line(ask: Ask) -> bytes:
    """The line that asks it; AskError for one that is too long to be read."""
    text = json.dumps({"ask": type(ask).__name__, **json.loads(to_json(ask))}).encode() + b"\n"
    if len(text) > MAX_LINE_BYTES:
        raise AskError(f"a request of {len(text)} bytes: at most {MAX_LINE_BYTES}.")
    return text


def answer(value: Any) -> bytes:
    """The line that answers."""
    return json.dumps({"answer": json.loads(to_json(value))}).encode() + b"\n"


def _name(field: str, value: str, *, empty: bool = True) -> None:
    if len(value) > MAX_NAME or (not value and not empty) or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise AskError(f"{field} must have at most {MAX_NAME} characters, none of them a control character.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AskError(f"{field} is no text that can be written.") from None


def _id(value: str) -> None:
    if not _ID.fullmatch(value):
        raise AskError("id names no runtime.")
