"""What the engine remembers of one kernel, so that the cell that acts carries the evidence of those that prepared.

It holds what earlier cells bound to names, wrote to files and renamed, and those facts that rules on whole cells ask
for. Cells that no rule cared about are kept as they are and read only when a later one makes them matter. All of it is
bounded, the oldest goes first, and it can be written out as JSON to be handed between processes.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from mutirao.detect.fact import Fact, Facts, Kind
from mutirao.detect.source.fold import Folder, Value

MOST_UNREAD = 65_536  # characters of cells that wait to be read
MOST_HELD = 200_000  # characters in names, and as many in files
MOST_NAMES = 500
MOST_FACTS = 300
MOST_FACT_CHARACTERS = 2_000


@dataclass(slots=True)
class Memory:
    """One kernel's story so far; empty when the kernel starts."""

    folder: Folder = field(default_factory=Folder)
    facts: list[Fact] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)

    def wait(self, code: str, language: str) -> None:
        """Keep a cell that nothing has asked for yet."""
        self.unread.append((code, language))
        while self.waiting > MOST_UNREAD:
            self.unread.pop(0)

    @property
    def waiting(self) -> int:
        """Characters of the cells that wait to be read."""
        return sum(len(code) for code, _ in self.unread)

    def mentions(self, code: str) -> bool:
        """The code has a word that stands for a runner, or for a file that was written or renamed."""
        return any(name in code for name in self._telling())

    def _telling(self) -> Iterable[str]:
        yield from self.folder.wrappers
        yield from (name for name, what in self.folder.aliases.items() if what != name and "." in what)
        for name in (*self.folder.files, *self.folder.stands_for):
            yield name.rpartition(".")[0] or name if name.endswith(".py") else name

    def learn(self, facts: Iterable[Fact]) -> None:
        """Keep these facts for the cells to come, and forget what is too much."""
        self.facts += [Fact(f.kind, f.names, f.text[:MOST_FACT_CHARACTERS], f.line, f.deferred) for f in facts]
        del self.facts[:-MOST_FACTS]
        folder = self.folder
        for held in (folder.names, folder.files, folder.environment, folder.aliases, folder.stands_for):
            _shorten(held)
        wrappers = dict.fromkeys(folder.wrappers)
        _shorten(wrappers)
        folder.wrappers = set(wrappers)

    def restarted(self) -> None:
        """The kernel began anew: files are still there, names and what was done are not."""
        files, stands_for = self.folder.files, self.folder.stands_for
        self.folder, self.facts, self.unread = Folder(), [], []
        self.folder.files, self.folder.stands_for = files, stands_for

    def before(self) -> Facts:
        """The facts of earlier cells."""
        facts = Facts()
        for fact in self.facts:
            facts.add(fact)
        return facts

    def document(self) -> dict[str, Any]:
        """The memory as JSON takes it."""
        folder = self.folder
        return {
            "names": {name: _plain(value) for name, value in folder.names.items()},
            "environment": folder.environment,
            "aliases": folder.aliases,
            "wrappers": sorted(folder.wrappers),
            "files": folder.files,
            "stands_for": folder.stands_for,
            "facts": [asdict(fact) for fact in self.facts],
            "unread": self.unread,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Memory":
        """The memory that was written out."""
        memory = cls()
        folder = memory.folder
        folder.names = {name: _value(value) for name, value in document["names"].items()}
        folder.environment = document["environment"]
        folder.aliases = document["aliases"]
        folder.wrappers = set(document["wrappers"])
        folder.files = document["files"]
        folder.stands_for = document["stands_for"]
        memory.facts = [
            Fact(Kind(f["kind"]), tuple(f["names"]), f["text"], f["line"], f["deferred"]) for f in document["facts"]
        ]
        memory.unread = [(code, language) for code, language in document["unread"]]
        return memory


def _shorten(held: dict[str, Any]) -> None:
    """Forget the oldest names beyond the most allowed, in number and in characters."""
    total = sum(len(name) + _weight(value) for name, value in held.items())
    for name in list(held):
        if total <= MOST_HELD and len(held) <= MOST_NAMES:
            return
        total -= len(name) + _weight(held.pop(name))


def _weight(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(_weight(one) for one in value)
    if isinstance(value, int):
        return 8 + value.bit_length() // 8
    return len(value) if isinstance(value, str | bytes) else 8


def _plain(value: Value) -> Any:
    """Bytes as {"hex": …}; lists item by item; a number that Python won't write out in decimal as {"int": …}."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {"int": hex(value)} if isinstance(value, int) and value.bit_length() > 64 else value


def _value(plain: Any) -> Value:
    if isinstance(plain, dict):
        return bytes.fromhex(plain["hex"]) if "hex" in plain else int(plain["int"], 16)
    if isinstance(plain, list):
        return [_value(one) for one in plain]
    return plain  # type: ignore[no-any-return]
