"""Literal folding: what a Python expression of literals comes to, without running anything.

Strict folding knows concatenation, repetition, f-strings, %, format, join, replace, slices, chr, and the usual
reversible encodings (base64, base32, hex, rot13, zlib).
Nothing is evaluated: every operation is written out here, and bounded.
"""

import ast
import base64
import binascii
import codecs
import zlib
from collections.abc import Callable, Mapping

import re2

Value = str | bytes | int | list["Value"]
LONGEST = 200_000
DEEPEST = 40
_WIDEST_INT = 10_000  # bits; Python refuses to write out integers of more than 4,300 digits
# What an operation on values of the wrong kind or form raises: then the value is not known.
_UNKNOWN = (
    ArithmeticError, LookupError, MemoryError, SyntaxError, TypeError, ValueError, re2.error, zlib.error,
)  # fmt: skip
_SPECIFIED = re2.compile(r"\{[^{}]*[:!.\[]")  # widths, conversions, attributes
MOST_ROUNDS = 20_000
_WIDE = re2.compile(r"%[^a-zA-Z%]*\d{4}")


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, LONGEST)


_DECODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "b64decode": lambda b: base64.b64decode(b + b"=" * (-len(b) % 4)),
    "standard_b64decode": base64.b64decode,
    "urlsafe_b64decode": lambda b: base64.urlsafe_b64decode(b + b"=" * (-len(b) % 4)),
    "decodebytes": base64.decodebytes,
    "b32decode": base64.b32decode,
    "b16decode": lambda b: base64.b16decode(b, casefold=True),
    "a85decode": base64.a85decode,
    "b85decode": base64.b85decode,
    "unhexlify": binascii.unhexlify,
    "a2b_hex": binascii.unhexlify,
    "a2b_base64": binascii.a2b_base64,
    "decompress": _inflate,
}


def _bytes(value: Value | None) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return value if isinstance(value, bytes) else None


def _size(value: Value | None) -> int:
    """Characters and items that a value holds, counted no further than over the longest allowed."""
    if isinstance(value, int):
        return 1 if value.bit_length() <= _WIDEST_INT else LONGEST + 1
    if not isinstance(value, list):
        return len(value) if value is not None else 0
    total, left = 0, list(value)
    while left and total <= LONGEST:
        item = left.pop()
        total += 1
        if isinstance(item, list):
            left.extend(item)
        elif not isinstance(item, int):
            total += len(item)
    return total


def _str(value: Value | None) -> str | None:
    return value if isinstance(value, str) else None


def _narrow(template: str) -> bool:
    """A %-template that asks for no great width."""
    return len(template) < 5000 and "*" not in template and not _WIDE.search(template)


class Folder:
    """Folds expressions, knowing the names that a cell has bound to literals."""

    def __init__(self) -> None:
        self.names: dict[str, Value] = {}  # by place: a name, `d['key']`, `self.attribute`
        self.rounds = MOST_ROUNDS
        self.environment: dict[str, str] = {}
        self.aliases: dict[str, str] = {}  # names that stand for a function, a module or what a call gave
        self.wrappers: set[str] = set()  # functions that hand their parameter to a shell
        self.files: dict[str, str] = {}  # what was written to a file, by its base name
        self.stands_for: dict[str, str] = {}  # a copied, moved or downloaded file's first base name

    def keep(self, path: str, content: str, *, more: bool = False) -> None:
        """The file holds this content from here on; `more`: at its end."""
        name = basename(path)
        if name and len(content) <= LONGEST:
            self.files[name] = ((self.files.get(name, "") + "\n" if more else "") + content)[:LONGEST]

    def rename(self, old: str, new: str) -> None:
        """What was called `old` is called `new`, too."""
        old, new = basename(old), basename(new)
        if not old or not new or old == new:
            return
        self.stands_for[new] = self.stands_for.get(old, old)
        if old in self.files:
            self.files[new] = self.files[old]

    def bind(self, name: str, value: Value | None) -> None:
        """The name stands for this literal from here on; None forgets it."""
        if value is None:
            self.names.pop(name, None)
        else:
            self.names[name] = value

    def strings(self) -> dict[str, str]:
        """The environment and the names bound to strings or numbers: what may stand for $name in a shell line."""
        return self.environment | {
            n: str(v) for n, v in self.names.items() if isinstance(v, str | int) and n.isidentifier()
        }

    def expression(self, text: str) -> Value | None:
        """What the Python expression in {braces} of a shell line comes to."""
        try:
            return self.fold(ast.parse(text.strip()[:2000], mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    def fold(self, node: ast.AST, depth: int = 0) -> Value | None:
        """The literal that the expression comes to, or None when it isn't known for certain."""
        if depth > DEEPEST:
            return None
        try:
            value = self._fold(node, depth + 1)
        except _UNKNOWN:
            return None
        return None if _size(value) > LONGEST else value

    def _fold(self, node: ast.AST, depth: int) -> Value | None:
        match node:
            case ast.Constant(value=str() | bytes() | int() as value):
                return value
            case ast.Name(id=name):
                return self.names.get(name)
            case ast.Attribute() | ast.Subscript() if self.names and (at := place(node)) in self.names:
                return self.names[at]
            case ast.GeneratorExp() | ast.ListComp():
                return self._comprehension(node, depth)
            case ast.JoinedStr(values=parts):
                pieces = [self.fold(p.value if isinstance(p, ast.FormattedValue) else p, depth) for p in parts]
                if all(isinstance(p, str | int) for p in pieces):
                    return "".join(str(p) for p in pieces)
                return None
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                values: list[Value] = []
                for element in elts[:5000]:
                    one = self.fold(element.value if isinstance(element, ast.Starred) else element, depth)
                    if one is None:
                        return None
                    values += one if isinstance(element, ast.Starred) and isinstance(one, list) else [one]
                return values
            case ast.NamedExpr(value=inner):
                return self.fold(inner, depth)
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str() as key)):
                return self.environment.get(key)
            case ast.BinOp(left=left, op=op, right=right):
                return self._operate(self.fold(left, depth), op, self.fold(right, depth))
            case ast.Subscript(value=value, slice=index):
                return self._slice(self.fold(value, depth), index, depth)
            case ast.Call():
                return self._call(node, depth)
            case ast.Attribute(value=ast.Name(id="sys"), attr="executable"):
                return "python3"
        return None

    def _operate(self, left: Value | None, op: ast.operator, right: Value | None) -> Value | None:
        match op, left, right:
            case ast.Add(), str(), str():
                return left + right
            case ast.Add(), bytes(), bytes():
                return left + right
            case ast.Add(), list(), list():
                return left + right
            case _, int(), int() if max(left.bit_length(), right.bit_length()) <= 64:
                return _arithmetic(left, op, right)
            case ast.Mult(), str(), int() if len(left) * max(right, 0) <= LONGEST:
                return left * right
            case ast.Mod(), str(), str() | int():
                return left % right if _narrow(left) else None
            case ast.Mod(), str(), list():
                return left % tuple(right) if _narrow(left) else None
        return None

    def _slice(self, value: Value | None, index: ast.AST, depth: int) -> Value | None:
        if not isinstance(value, str | bytes | list):
            return None
        if isinstance(index, ast.Slice):
            ends: list[int | None] = []
            for end in (index.lower, index.upper, index.step):
                number = None if end is None else self._number(end, depth)
                if end is not None and number is None:
                    return None
                ends.append(number)
            return value[slice(*ends)]
        number = self._number(index, depth)
        return None if number is None else value[number]

    def _number(self, node: ast.AST, depth: int) -> int | None:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.fold(node.operand, depth)
            return -inner if isinstance(inner, int) else None
        value = self.fold(node, depth)
        return value if isinstance(value, int) else None

    def _call(self, node: ast.Call, depth: int) -> Value | None:
        args = [self.fold(a, depth) for a in node.args]
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Name):  # from base64 import b64decode as d
            name = self.aliases.get(name, name).rpartition(".")[2]
        if name in _DECODERS and args:
            data = _bytes(args[0])
            return None if data is None else _DECODERS[name](data)
        if isinstance(node.func, ast.Name):
            if name == "chr" and isinstance(args[0], int):
                return chr(args[0])
            if name == "ord" and isinstance(args[0], str | bytes):
                return ord(args[0])
            if name == "list" and isinstance(args[0], str | bytes | list):
                return list(args[0])
            if name == "map" and isinstance(args[1], list | bytes | str) and getattr(node.args[0], "id", "") == "chr":
                return [chr(a) for a in args[1] if isinstance(a, int)]
            if name in ("str", "bytes", "bytearray") and args:
                if isinstance(args[0], list):
                    return bytes(a for a in args[0] if isinstance(a, int))
                return args[0] if isinstance(args[0], str | bytes) else str(args[0]) if args[0] is not None else None
            if name == "eval" and isinstance(args[0], str):  # eval("name") of a name that is known
                return self.fold(ast.parse(args[0].strip(), mode="eval").body, depth + 1)
            if name == "reversed" and isinstance(args[0], str):
                return args[0][::-1]
            return None
        if not isinstance(node.func, ast.Attribute):
            return None
        return self._method(node, node.func, args, depth)

    def _method(self, node: ast.Call, func: ast.Attribute, args: list[Value | None], depth: int) -> Value | None:
        name = func.attr
        if name == "fromhex":
            text = _str(args[0])
            return None if text is None else bytes.fromhex(text)
        if name in ("decode", "encode") and isinstance(func.value, ast.Name) and func.value.id == "codecs":
            data = args[0]
            if isinstance(data, str | bytes) and isinstance(args[1], str) and args[1].replace("_", "-") in _CODECS:
                out = codecs.decode(data, args[1])  # type: ignore[arg-type]
                return out if isinstance(out, str | bytes) else None
            return None
        if name == "split" and isinstance(func.value, ast.Name) and func.value.id == "shlex":
            text = _str(args[0])
            return None if text is None else list(text.split())
        if name == "getenv" or (
            name == "get" and isinstance(func.value, ast.Attribute) and func.value.attr == "environ"
        ):
            return self.environment.get(args[0]) if args and isinstance(args[0], str) else None
        if name in ("read", "read_text", "read_bytes"):
            return self._content(func.value, depth)
        if name == "sub" and isinstance(func.value, ast.Name) and func.value.id == "re":
            three = [a for a in args[:3] if isinstance(a, str)]
            return str(re2.sub(*three)) if len(three) == 3 else None
        own = self.fold(func.value, depth)
        if name == "translate" and isinstance(own, str):
            return self._translate(own, node.args[0], depth)
        if name == "join" and isinstance(own, str):
            return self._join(own, args)
        if name == "decode" and isinstance(own, bytes):
            return own.decode("utf-8", "replace")
        if name == "encode" and isinstance(own, str):
            return own.encode("utf-8", "replace")
        if not isinstance(own, str):
            return None
        if name == "split":
            return list(own.split(args[0] if args and isinstance(args[0], str) else None))
        if name == "format":
            named = {k.arg or "**": self.fold(k.value, depth) for k in node.keywords}
            known = all(isinstance(a, str | int) for a in (*args, *named.values()))
            narrow = len(own) < 5000 and not _SPECIFIED.search(own)
            return own.format(*args, **named) if known and narrow else None
        if name == "replace" and isinstance(args[0], str) and isinstance(args[1], str):
            return own.replace(args[0], args[1])
        if name in ("lower", "upper", "strip", "title", "swapcase", "lstrip", "rstrip") and not args:
            out = getattr(own, name)()
            return out if isinstance(out, str) else None
        return None

    def _content(self, node: ast.AST, depth: int) -> Value | None:
        """`open(path).read()`, `Path(path).read_text()` of a file that this kernel was seen to write."""
        name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
        path = self.fold(node.args[0], depth) if isinstance(node, ast.Call) and node.args else None
        return self.files.get(basename(path)) if name in ("open", "Path") and isinstance(path, str) else None

    def _translate(self, own: str, table: ast.expr, depth: int) -> Value | None:
        """`text.translate(str.maketrans(one, other))`."""
        if isinstance(table, ast.Call) and isinstance(table.func, ast.Attribute) and table.func.attr == "maketrans":
            pairs = [text for a in table.args if (text := _str(self.fold(a, depth))) is not None]
            if len(pairs) == len(table.args) and len(pairs) in (2, 3):
                return own.translate(str.maketrans(*pairs))
        return None

    def _join(self, own: str, args: list[Value | None]) -> Value | None:
        items = args[0]
        if isinstance(items, str):
            items = list(items)
        if isinstance(items, list) and all(isinstance(i, str) for i in items):
            return own.join(str(i) for i in items)
        return None

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp, depth: int) -> Value | None:
        """[f(x) for x in literal], one clause, no condition, at most 2,000 items and so many rounds in a cell."""
        clause = node.generators[0]
        if len(node.generators) != 1 or clause.ifs or not isinstance(clause.target, ast.Name):
            return None
        source = self.fold(clause.iter, depth)
        if not isinstance(source, list | str | bytes) or len(source) > 2000:
            return None
        kept, out = self.names.get(clause.target.id), []
        for item in source:
            self.rounds -= 1
            if self.rounds < 0:
                break
            self.names[clause.target.id] = item
            value = self.fold(node.elt, depth)
            if value is None:
                break
            out.append(value)
        self.bind(clause.target.id, kept)
        return out if len(out) == len(source) else None

    def text(self, node: ast.AST, depth: int = 0) -> str:
        """The expression as text: literals as they are, what isn't known as {its source}. Bounded."""
        value = self.fold(node)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")[:LONGEST]
        if isinstance(value, list):
            return " ".join(str(v) for v in value)[:LONGEST]
        if value is not None:
            return str(value)
        if depth > DEEPEST:
            return ""
        match node:
            case ast.JoinedStr(values=parts):
                return "".join(self.text(p, depth + 1) for p in parts)
            case ast.FormattedValue(value=inner):
                return self.text(inner, depth + 1)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.text(left, depth + 1) + self.text(right, depth + 1)
            case ast.BinOp(left=left, op=ast.Mod(), right=right):
                return f"{self.text(left, depth + 1)} {self.text(right, depth + 1)}"
            case ast.Call(
                func=ast.Attribute(value=own, attr="format" | "strip" | "split" | "replace" | "encode" | "join")
            ):
                rest = " ".join(self.text(a, depth + 1) for a in [*node.args, *(k.value for k in node.keywords)])
                return f"{self.text(own, depth + 1)} {rest}" if rest else self.text(own, depth + 1)
            case ast.Call(func=ast.Name(id="str" | "bytes" | "bytearray"), args=[own, *_]):
                return self.text(own, depth + 1)
            case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
                return " ".join(self.text(e, depth + 1) for e in elts[:500])
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys[:200], values[:200], strict=True)
                return " ".join(f"{self.text(k, depth + 1) if k else '**'}={self.text(v, depth + 1)}" for k, v in pairs)
            case ast.Starred(value=inner):
                return self.text(inner, depth + 1)
            case ast.Constant(value=constant):
                return str(constant)
            case ast.Name(id=name):
                return "{" + name + "}"
            case ast.Attribute() | ast.Call() | ast.Subscript():
                return "{" + source(node) + "}"
        return "{}"


_CODECS = {"rot13", "rot-13", "hex", "base64", "uu", "hex-codec", "base64-codec"}


def place(node: ast.AST) -> str:
    """Where a value is kept, written as one word: a name, `d['key']`, `self.attribute`; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=name), attr=attr):
            return f"{name}.{attr}"
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() | int() as key)):
            return f"{name}[{key!r}]"
    return ""


def _arithmetic(left: int, op: ast.operator, right: int) -> int | None:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.BitXor():
            return left ^ right
        case ast.Mod():
            return left % right
        case ast.FloorDiv():
            return left // right
    return None


def basename(path: str) -> str:
    """The last part of a path, in lower case."""
    return path.strip().rstrip("/").rpartition("/")[2].lower()


def source(node: ast.AST) -> str:
    """The expression written out, shortened to 300 characters; empty when it nests too deep."""
    try:
        return ast.unparse(node)[:300]
    except (RecursionError, ValueError):
        return ""
