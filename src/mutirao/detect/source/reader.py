"""The reader: a cell's code in, its facts out. Nothing is run.

Bounds: 250,000 characters in a cell; nested code (python -c, bash -c, exec of a literal) to a depth of about four; a
million characters of nested code and of what variables come to, all together; 20,000 commands, 8,000 different facts.
So a scan takes a few seconds at worst. Past a bound TooLongError is raised: what was not read was not judged.
"""

import ast
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

import re2

from mutirao.detect.fact import Fact, Facts, Kind
from mutirao.detect.source import cell as cells
from mutirao.detect.source.command import read_command
from mutirao.detect.source.fold import MOST_ROUNDS, Folder, basename
from mutirao.detect.source.python import read_python
from mutirao.detect.source.shell import read_shell
from mutirao.errors import TooLongError

LONGEST = 250_000
DEEPEST = 10  # a cell, its shell line, the command, the shell that it starts, … each count one
MOST_CHARACTERS = 4 * LONGEST
MOST_COMMANDS = 20_000
_SHELL_LANGUAGES = {"bash", "sh", "shell", "shellscript", "zsh"}
_PYTHON_LANGUAGES = {"python", "python3", "ipython", "python2", ""}
_FOREIGN_SHELL = re2.compile(r"""\b(?:system2?|run|shell_exec|execSync|backtick)\s*\(\s*["'`]([^"'`\n]+)["'`]""")
_BRACES = re2.compile(r"\{([^{}\n]+)\}|\$([A-Za-z_]\w*)")
_CODE_FILE = re2.compile(r"(?i)\.(?:py|sh|bash)$")


def read(code: str, language: str = "python", folder: Folder | None = None) -> Facts:
    """The facts of one cell written in the kernel's language. Raises TooLongError past the bounds.

    `folder` holds what earlier cells of the kernel bound and wrote, and learns what this one does.
    """
    reader = _Reader(folder if folder is not None else Folder())
    reader.folder.rounds = MOST_ROUNDS
    code = _clean(code[:LONGEST]).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    plain = language.lower()
    try:
        if plain in _SHELL_LANGUAGES:
            reader.shell(code, 1)
        elif plain in _PYTHON_LANGUAGES:
            reader.python(code, 1)
        else:
            reader.foreign(code, 1)
    except (RecursionError, MemoryError):
        pass  # what was read so far is judged
    return reader.facts


class _Reader:
    """The sink of both readers; keeps depth and whether the code is only written to a file."""

    def __init__(self, folder: Folder) -> None:
        self.facts = Facts()
        self.folder = folder
        self.depth = 0
        self.characters = MOST_CHARACTERS
        self.commands = MOST_COMMANDS
        self.deferred = False
        self.pinned = 0  # while a file of an earlier line is read: the line that runs it
        self.seen: set[tuple[str, bool]] = set()

    def fact(self, kind: Kind, names: Sequence[str], text: str, line: int) -> None:
        self.facts.add(
            Fact(kind, tuple(_clean(n) for n in names), _clean(text[:20_000]), self.pinned or line, self.deferred)
        )

    def argv(self, argv: Sequence[str], line: int, *, into_shell: bool = False) -> None:
        self._enter(0)
        try:
            read_command([_clean(a) for a in argv], line, self, into_shell=into_shell)
        finally:
            self.depth -= 1

    def shell(self, text: str, line: int, names: Mapping[str, str] | None = None) -> None:
        if not text.strip():
            return
        self._enter(len(text))
        try:
            read_shell(_clean(text), line, self, names)
        finally:
            self.depth -= 1

    def _enter(self, characters: int) -> None:
        """One level down, for this much code. Raises TooLongError where depth, commands or characters are used up."""
        self.commands -= 1
        self.spend(characters)
        if self.depth >= DEEPEST or self.commands < 0:
            what = f"starts more than {MOST_COMMANDS} commands" if self.commands < 0 else "nests code in code this deep"
            raise TooLongError(f"A cell that {what} can't be judged: split it.")
        self.depth += 1

    def spend(self, characters: int) -> None:
        self.characters -= characters
        if self.characters < 0:
            raise TooLongError(
                f"A cell that comes to more than {MOST_CHARACTERS} characters can't be judged: split it."
            )

    def foreign(self, text: str, line: int) -> None:
        """Code of another language: only what it hands to a shell."""
        for found in _FOREIGN_SHELL.finditer(text):
            self.shell(found.group(1), line + text.count("\n", 0, found.start()))

    def _expanded(self, text: str) -> str:
        """The shell line as IPython hands it over: {expression} and $name put in where they are known."""
        out, at = [], 0
        for found in _BRACES.finditer(text):
            value = self.folder.expression(found.group(1)) if found.group(1) else self.folder.names.get(found.group(2))
            if isinstance(value, str | int):
                self.spend(len(str(value)))
                out += [text[at : found.start()], str(value)]
                at = found.end()
        return "".join([*out, text[at:]])

    def renamed(self, old: str, new: str) -> None:
        self.folder.rename(old, new)

    def first_name(self, path: str) -> str:
        return self.folder.stands_for.get(basename(path), "")

    def ran(self, path: str, line: int) -> None:
        """A file that was written before is run: what it holds happens now."""
        content = self.folder.files.get(basename(path))
        if content is None or self.deferred or self.depth >= DEEPEST - 1:
            return
        before, self.pinned = self.pinned, self.pinned or line
        try:
            if path.lower().endswith(".py") or (content.startswith("#!") and "python" in content[:40]):
                self.python(content, line)
            elif (content, False) not in self.seen:
                self.seen.add((content, False))
                self.shell(content, line)
        finally:
            self.pinned = before

    def written(self, path: str, content: str, line: int, *, more: bool = False) -> None:
        """A file is written; code in it is read too, as deferred."""
        self.fact(Kind.WRITES, (path.lower(),), content, line)
        self.folder.keep(path, content, more=more)
        if not _CODE_FILE.search(path) or self.depth >= DEEPEST:
            return
        before, folder = self.deferred, self.folder
        self.deferred, self.folder = True, Folder()
        try:
            if path.lower().endswith(".py"):
                self._tree(content, line)
            else:
                self.shell(content, line)
        finally:
            self.deferred, self.folder = before, folder

    def python(self, text: str, line: int) -> None:
        if (text, self.deferred) in self.seen:
            return
        self.seen.add((text, self.deferred))
        self._enter(len(text))
        try:
            text = _clean(text)
            magic = cells.cell_magic(text)
            if magic is None:
                self._tree(text, line)
            else:
                self._magic(magic, line + magic.line - 1)
        finally:
            self.depth -= 1

    def _magic(self, magic: cells.CellMagic, line: int) -> None:
        name, argument, body = magic.name, magic.argument, line + 1
        if name == "script":
            program = argument.split()[0].rpartition("/")[2] if argument.split() else "sh"
            name = program if program in cells.SHELL_MAGICS else "python" if program.startswith("python") else "R"
        if name in cells.SHELL_MAGICS:
            self.shell(magic.body, body, self.folder.strings())
        elif name in cells.PAGE_MAGICS:
            self.fact(Kind.PAGE, (name.lower(),), magic.body, body)
        elif name in cells.FILE_MAGICS:
            words = argument.split() or [""]
            self.written(words[-1].strip("\"'"), magic.body, body, more=words[0] in ("-a", "--append"))
        elif name in cells.FOREIGN_MAGICS:
            self.foreign(magic.body, body)
        elif name not in cells.PROSE_MAGICS:
            if name in ("time", "timeit", "prun", "memit") and argument:
                self._tree(argument, line)
            self.python(magic.body, body)

    def _tree(self, text: str, line: int) -> None:
        """Python with shell lines in it; where it doesn't parse, its top-level pieces are tried one by one."""
        code, magics = cells.split_lines(text)
        tree = _parse(code)
        if tree is None:
            code, more = cells.automagic_lines(code)
            magics += more
            tree = _parse(code) if more else None
        pieces = [(tree, 0)] if tree is not None else _pieces(code)
        left = deque(sorted(magics, key=lambda magic: magic.line))

        def before(at: int) -> None:
            """Shell lines use Python's names: each is read where it stands."""
            while left and line - 1 + left[0].line <= at:
                magic = left.popleft()
                self._line_magic(magic, line - 1 + magic.line)

        for piece, offset in pieces:
            read_python(piece, self, self.folder, line - 1 + offset, before)
        for magic in left:
            self._line_magic(magic, line - 1 + magic.line)

    def _line_magic(self, magic: cells.LineMagic, line: int) -> None:
        name, text = magic.name, magic.text
        if name in ("env", "set_env"):
            key, _, value = text.replace("=", " ", 1).partition(" ")
            self.folder.environment[key] = self._expanded(value.strip())
            return
        if name not in ("time", "timeit", "prun", "javascript"):
            text = self._expanded(text)
        if name in ("!", "sx", "system", "shell", "bash", "sh", "script"):
            self.shell(text, line, self.folder.strings())
        elif name in ("pip", "conda", "mamba", "uv", "apt"):
            self.shell(f"{name} {text}", line, self.folder.strings())
        elif name == "run":
            self.shell(f"python3 {text}", line, self.folder.strings())
        elif name in ("time", "timeit", "prun"):
            self.python(text, line)
        elif name in ("cd", "load", "load_ext"):
            pass
        elif name == "javascript":
            self.fact(Kind.PAGE, (name,), text, line)
        else:
            self.shell(f"{name} {text}", line, self.folder.strings())


def _clean(text: str) -> str:
    """The text without lone surrogates, which have no UTF-8; RE2 and the shell parser need that."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _parse(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _pieces(code: str) -> list[tuple[ast.AST, int]]:
    """The top-level statements that parse by themselves, each with its line offset; at most 400 are tried."""
    lines = code.split("\n")
    starts = [i for i, line in enumerate(lines) if line and not line[0].isspace() and line[0] not in "#)]}"]
    starts = [i for i in starts if not lines[i].startswith(("else", "elif", "except", "finally"))][:400]
    out: list[tuple[ast.AST, int]] = []
    for start, end in pairwise([*starts, len(lines)]):
        tree = _parse("\n".join(lines[start:end]))
        if tree is not None:
            out.append((tree, start))
    return out
