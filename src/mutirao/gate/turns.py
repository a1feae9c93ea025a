"""What a connection remembers of what it passed: the cells that run, and the answers that wait for their turn.

A kernel answers a channel's cells in the order in which they were sent, and clients count on it. So the answer to a
cell that was refused waits until those before it have been answered: until their reply and their idle have passed, or
a minute is over, or the kernel is gone. Nothing here lets a message pass: an answer that waits is the gate's own.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from mutirao.cases.action import Action
from mutirao.cases.notice import NoticeText
from mutirao.gate.wire import Message

PATIENCE_S = 60.0
"""So long an answer waits for its turn: behind a cell that runs for hours, one out of order is worth more than none."""

KEPT_S = 300.0
MOST_RUNNING = 200
MOST_HELD = 50
MOST_KEPT = 100
_LONGEST_HEADER = 4_096
_NOTED = frozenset({"execute_input", "execute_reply", "input_request", "kernel_info_reply"})
_GONE = ("restarting", "autorestarting", "dead")


@dataclass(slots=True)
class Run:
    """A cell that was passed on."""

    header: dict[str, Any]
    lane: tuple[str, str]
    silent: bool
    began: float
    replied: bool = False
    idle: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A refusal that waits for the runs before it."""

    request: Message
    text: NoticeText
    action: Action
    after: frozenset[str]
    since: float


@dataclass(eq=False)
class Turns:
    """Keeps what later answers need; a kernel that sends nonsense harms only its own notices."""

    clock: Callable[[], float] = monotonic
    execution_count: int = 0
    language: str = "python"
    asking: dict[str, Any] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    _runs: dict[str, Run] = field(default_factory=dict)

    @property
    def unanswered(self) -> list[Message]:
        """The requests of the cells that have no reply yet, oldest first."""
        return [
            Message(channel=run.lane[0], header=run.header, content={"silent": run.silent})
            for run in self._runs.values()
            if not run.replied
        ]

    def ran(self, message: Message) -> None:
        """Remember a cell until its reply; the oldest go where a client sends many without end."""
        number = message.header.get("msg_id")
        if message.msg_type != "execute_request" or not isinstance(number, str) or not _short(message.header):
            return
        silent = message.content.get("silent") is True
        self._runs[number] = Run(message.header, _lane(message), silent, self.clock())
        if len(self._runs) > MOST_RUNNING:
            del self._runs[next(iter(self._runs))]

    def hold(self, request: Message, text: NoticeText, action: Action) -> None:
        """Keep a refusal for its turn; where nothing runs before it, that is now."""
        lane = _lane(request)
        waits = request.msg_type == "execute_request" and request.channel == "shell" and _short(request.header)
        after = frozenset(number for number, run in self._runs.items() if waits and run.lane == lane)
        # What an answer is made of, and not the code: many of these may wait.
        content = {key: value for key, value in request.content.items() if key in ("silent", "seq", "command")}
        request = replace(request, content=content, metadata={}, parent_header={}, buffers=())
        self.held.append(Held(request, text, action, after, self.clock()))

    def due(self, *, everything: bool = False) -> Held | None:
        """The first refusal whose turn it is; it stays here until `given`."""
        for held in self.held:
            late = self.clock() - held.since > PATIENCE_S or len(self.held) > MOST_HELD
            if everything or late or held.after.isdisjoint(self._runs):
                return held
        return None

    def given(self, held: Held) -> None:
        """A refusal has been sent."""
        self.held.remove(held)

    def cares(self, msg_type: str) -> bool:
        """True where a message of that type from the kernel may change what is known here."""
        return msg_type in _NOTED or (msg_type == "status" and bool(self._runs))

    def saw(self, message: Message) -> float | None:
        """A message went by from the kernel; seconds since its cell was passed on, where it is that cell's reply."""
        number = str(message.parent_header.get("msg_id"))
        took = None
        match message.msg_type:
            case "status":
                self._status(number, message.content.get("execution_state"))
            case "execute_reply" if (run := self._runs.get(number)) is not None:
                took, run.replied = self.clock() - run.began, True
                self._only_after(number)
                self._over(number)
            case "input_request":
                self.asking = message.parent_header
            case "kernel_info_reply":
                info = message.content.get("language_info")
                name = info.get("name") if isinstance(info, dict) else None
                if isinstance(name, str) and name:
                    self.language = name[:60].lower()
        count = message.content.get("execution_count")
        if isinstance(count, int):
            self.execution_count = count
        return took

    def forget_runs(self) -> None:
        """None of the cells that run will be answered any more by its kernel."""
        self._runs.clear()

    def _only_after(self, number: str) -> None:
        """Forget what was sent before this one in its lane: a kernel answers in order, so it has lost that."""
        lane = self._runs[number].lane
        before = list(self._runs)[: list(self._runs).index(number)]
        for earlier in before:
            if self._runs[earlier].lane == lane:
                del self._runs[earlier]

    def _status(self, number: str, state: Any) -> None:
        if state in _GONE:
            self.forget_runs()
        elif state == "idle" and number in self._runs:
            self._runs[number].idle = True
            self._over(number)

    def _over(self, number: str) -> None:
        if self._runs[number].replied and self._runs[number].idle:
            del self._runs[number]


Key = tuple[str, str, str, str]
"""Owner, server, kernel, and the client's session: Jupyter Server too hands over by these what came meanwhile."""


class Shelf:
    """The turns of connections that broke, for the same client's next one; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Key, tuple[float, str | None, Turns]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def put(self, key: Key, actor: str | None, turns: Turns) -> None:
        """Keep them for a while; the oldest go where there are too many."""
        self._kept.pop(key, None)
        self._kept[key] = self._clock(), actor, turns
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def restarted(self, kernel: tuple[str, str, str]) -> None:
        """Owner, server and kernel: what ran there will not be answered any more."""
        for key, (_, _, turns) in self._kept.items():
            if key[:3] == kernel:
                turns.forget_runs()

    def take(self, key: Key, actor: str | None) -> Turns | None:
        """The turns that the same person's connection left; None for anybody else's, or one too old."""
        at, whose, turns = self._kept.pop(key, (0.0, None, None))
        return turns if turns is not None and whose == actor and self._clock() - at < KEPT_S else None


def _lane(message: Message) -> tuple[str, str]:
    """A kernel answers in order within a channel, and within a subshell."""
    return message.channel, str(message.header.get("subshell_id"))[:100]


def _short(header: dict[str, Any]) -> bool:
    return len(repr(header)) <= _LONGEST_HEADER
