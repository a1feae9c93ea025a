"""A cell split as IPython would: cell magics, shell lines, line magics, and the Python that is left.

What is taken out leaves its lines behind, so that line numbers stay true.
"""

from dataclasses import dataclass

import re2

_CELL_MAGIC = re2.compile(r"^\s*%%(!|[A-Za-z_]\w*)[ \t]*(.*)$")
_LINE_MAGIC = re2.compile(
    r"^(\s*)(?:([\w.,\s\[\]'\"*()-]+?)\s*=\s*)?(!!?|%{1,2}[a-zA-Z_]\w*)(.*)$",
)
_AUTOMAGIC = re2.compile(
    r"^(\s*)(?:pip3?|conda|mamba|apt|apt-get|git|wget|curl|cd|ls|mkdir|rm|cp|mv|unzip|chmod|python3?|bash|sudo|aria2c|rclone)\s+[^=\s(.,\[:].*$"
)
SHELL_MAGICS = {"bash", "sh", "shell", "sx", "system", "!", "zsh", "script_sh"}
PYTHON_MAGICS = {"python", "python3", "pypy", "python2"}
PAGE_MAGICS = {"javascript", "js", "html", "HTML"}
FILE_MAGICS = {"writefile", "file", "overwritefile", "writetemplate"}
FOREIGN_MAGICS = {"R", "ruby", "perl", "julia"}
PROSE_MAGICS = {
    "markdown",
    "latex",
    "svg",
    "sql",
    "bigquery",
    "cu",
    "cuda",
    "cpp",
    "cython",
    "mermaid",
}


@dataclass(frozen=True, slots=True)
class CellMagic:
    """%%name argument, and the body that starts on the next line."""

    name: str
    argument: str
    body: str
    line: int


@dataclass(frozen=True, slots=True)
class LineMagic:
    """A line that is not Python: `name` is ! for a shell line, else the magic's name; lines count from 1."""

    name: str
    text: str
    line: int


def cell_magic(code: str) -> CellMagic | None:
    """The magic that heads the cell; blank lines and comments may stand before it, as Colab allows."""
    at = 0
    for number, line in enumerate(code.split("\n"), 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            found = _CELL_MAGIC.match(line)
            if found is None:
                return None
            return CellMagic(found.group(1), found.group(2).strip(), code[at + len(line) + 1 :], number)
        at += len(line) + 1
    return None


def split_lines(code: str) -> tuple[str, list[LineMagic]]:
    """The Python of a cell with magic lines replaced by `pass`, and those lines."""
    lines, out, magics = code.split("\n"), [], []
    quote = ""
    i = 0
    while i < len(lines):
        line = lines[i]
        found = None if quote or ("!" not in line and "%" not in line) else _LINE_MAGIC.match(line)
        if found is not None and not _is_python(found.group(3), found.group(2), found.group(4)):
            first = i
            text = found.group(4)
            while text.endswith("\\") and i + 1 < len(lines):
                i += 1
                text = text + "\n" + lines[i]
            sign = found.group(3)
            name = "!" if sign.startswith("!") else sign.lstrip("%")
            magics.append(LineMagic(name, text.strip(), first + 1))
            target = found.group(2)
            out.append(
                f"{found.group(1)}{target} = None" if target and target.isidentifier() else f"{found.group(1)}pass"
            )
            out.extend([""] * (i - first))
        else:
            quote = _open_quote(line, quote)
            out.append(line)
        i += 1
    return "\n".join(out), magics


def _is_python(sign: str, target: str | None, rest: str) -> bool:
    """`a = b % c` over two lines, or `!= x`, is no magic."""
    if sign.startswith("!"):
        return rest.startswith("=") and target is None
    return target is None and not sign[1:].strip("%")


def automagic_lines(code: str) -> tuple[str, list[LineMagic]]:
    """For a cell that isn't Python as it stands: bare `pip install x` and the like are shell lines."""
    out, magics = [], []
    for number, line in enumerate(code.split("\n"), 1):
        found = _AUTOMAGIC.match(line)
        if found is not None:
            magics.append(LineMagic("!", line.strip(), number))
            out.append(f"{found.group(1)}pass")
        else:
            out.append(line)
    return "\n".join(out), magics


def _open_quote(line: str, quote: str) -> str:
    """The triple quote that is open after the line, or nothing."""
    i = 0
    while i < len(line):
        if quote:
            end = line.find(quote, i)
            if end < 0:
                return quote
            i, quote = end + 3, ""
            continue
        char = line[i]
        if char == "#":
            return ""
        if line.startswith(('"""', "'''"), i):
            quote = line[i : i + 3]
            i += 3
        elif char in "\"'":
            end = i + 1
            while end < len(line) and line[end] != char:
                end += 2 if line[end] == "\\" else 1
            i = end + 1
        else:
            i += 1
    return quote
