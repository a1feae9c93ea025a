"""A fact: one thing that a cell does, read from its code, with the line it stands on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mutirao.errors import TooLongError


class Kind(StrEnum):
    """What sort of thing is done; the values are the keys of a rule's clauses."""

    COMMAND = "command"  # a program is run
    CALL = "call"  # a Python function is called
    IMPORT = "import"  # a Python module is imported
    INSTALL = "install"  # a package is installed
    CLONE = "clone"  # a repository is fetched
    DOWNLOAD = "download"  # a URL is fetched
    WRITES = "writes"  # a file is written
    PAGE = "page"  # JavaScript or HTML is given to the browser


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a cell does.

    `names` are what it may be known by, in lower case: a command's program and the script it runs, a call's
    dotted name and its last part (with a leading dot), these two with `each:` before and `:ARGUMENT` behind where an
    argument (its place from 0, or its keyword) differs from one round of a loop to the next, and with `endless:` before
    where a loop that nothing ends or slows down calls it; a module, a package as `pip:name`, a repository as
    `owner/name` and `name`, `run` for a download that is piped into an interpreter, a written file's path.
    `text` is what a rule's regular expressions read: argv joined by spaces, a call's arguments, the URL, the content.
    `deferred` holds for code that is written to a file here and not seen to run: it never stops by itself.
    """

    kind: Kind
    names: tuple[str, ...]
    text: str
    line: int
    deferred: bool = False

    @property
    def excerpt(self) -> str:
        """The evidence, at most 200 characters, on one line."""
        text = self.text if self.kind not in (Kind.IMPORT, Kind.INSTALL, Kind.CALL) else f"{self.names[0]} {self.text}"
        text = " ".join(text.split())
        return text if len(text) <= 200 else text[:199] + "…"


@dataclass(slots=True)
class Facts:
    """The facts of one cell, each once, by kind, in the order they were read. Raises TooLongError past `limit`."""

    limit: int = 8000
    by_kind: dict[Kind, list[Fact]] = field(default_factory=dict)
    seen: set[tuple[Kind, tuple[str, ...], str, bool]] = field(default_factory=set)

    def add(self, fact: Fact) -> None:
        key = (fact.kind, fact.names, fact.text, fact.deferred)
        if key in self.seen:
            return
        if len(self.seen) >= self.limit:
            raise TooLongError(f"A cell that does more than {self.limit} different things can't be judged: split it.")
        self.seen.add(key)
        self.by_kind.setdefault(fact.kind, []).append(fact)

    def of(self, kind: Kind) -> Sequence[Fact]:
        return self.by_kind.get(kind, ())


class Sink(Protocol):
    """Where the readers of shell and Python put what they find, and hand over what is in the other's language."""

    def fact(self, kind: Kind, names: Sequence[str], text: str, line: int) -> None: ...

    def argv(self, argv: Sequence[str], line: int, *, into_shell: bool = False) -> None:
        """A program is run with these arguments; `into_shell`: its output goes to an interpreter."""

    def shell(self, text: str, line: int, names: Mapping[str, str] | None = None) -> None: ...

    def python(self, text: str, line: int) -> None: ...

    def foreign(self, text: str, line: int) -> None:
        """Code of a language that isn't read, but for what it hands to a shell."""

    def spend(self, characters: int) -> None:
        """Take what a variable comes to from the cell's allowance. Raises TooLongError when it is used up."""

    def written(self, path: str, content: str, line: int, *, more: bool = False) -> None: ...

    def ran(self, path: str, line: int) -> None:
        """A file is run or imported: what was written to it is read as run now."""

    def renamed(self, old: str, new: str) -> None: ...

    def first_name(self, path: str) -> str:
        """What the file was called before it was copied, moved or downloaded to this path; else nothing."""
