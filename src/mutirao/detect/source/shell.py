"""Shell read by a real parser (tree-sitter-bash): commands with their arguments, pipelines, redirections and heredocs.

Simple variables of the same text are put in where they are literal; what isn't known stays as written ($x).
"""

import codecs
from base64 import b64decode
from collections.abc import Mapping
from string import ascii_lowercase, ascii_uppercase

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from mutirao.detect.fact import Sink
from mutirao.detect.source.command import interpreter, runs_its_input, strip_wrappers

MOST_NODES = 1_000_000
LONGEST_VALUE = 20_000
_LANGUAGE = Language(tree_sitter_bash.language())
_ECHO_OPTIONS = {"-n", "-e", "-E", "-ne", "-en"}
_SPLIT = {"simple_expansion", "expansion", "command_substitution"}
_DECODING = (["base64", "-d"], ["base64", "-D"], ["base64", "--decode"], ["base64", "-di"])


def _plain(text: str) -> str:
    """Base64 decoded; nothing for what is none."""
    try:
        return b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "replace")
    except ValueError:
        return ""


def _unhexed(text: str) -> str:
    try:
        return bytes.fromhex(text.strip()).decode("utf-8", "replace")
    except ValueError:
        return ""


def _replaced(text: str, one: str, other: str) -> str:
    """`tr`, with a-z for a range."""
    ranges = {"A-Za-z": ascii_uppercase + ascii_lowercase, "a-zA-Z": ascii_lowercase + ascii_uppercase}
    rot13 = {"N-ZA-Mn-za-m": 13, "n-za-mN-ZA-M": 13}
    if one in ranges and other in rot13:
        return codecs.decode(text, "rot13")
    return text if "-" in one + other else text.translate(str.maketrans(one, other))


def read_shell(text: str, line: int, sink: Sink, names: Mapping[str, str] | None = None) -> None:
    """Put every command of the text into the sink. `names` are variables known from outside."""
    data = text.encode("utf-8", "replace")
    tree = Parser(_LANGUAGE).parse(data)
    _Walk(data, line, sink, dict(names or {})).walk(tree.root_node)


class _Walk:
    def __init__(self, data: bytes, line: int, sink: Sink, names: dict[str, str]) -> None:
        self.data, self.line, self.sink, self.names = data, line, sink, {"IFS": " "} | names

    def walk(self, root: Node) -> None:
        stack: list[tuple[Node, bool]] = [(root, False)]
        seen = 0
        while stack and seen < MOST_NODES:
            (node, into_shell), seen = stack.pop(), seen + 1
            children = [(c, into_shell) for c in node.named_children]
            match node.type:
                case "variable_assignment":
                    self._assign(node)
                case "redirected_statement":
                    self._redirected(node)
                case "pipeline":
                    children = self._pipeline(node, into_shell)
                case "command":
                    feeds = self._command(node, into_shell)
                    children = [(c, feeds) for c in node.named_children]
                case "string" | "concatenation" | "array" | "command_name":
                    pass
            stack.extend(reversed(children))

    def _at(self, node: Node) -> int:
        return self.line + int(node.start_point[0])

    def _assign(self, node: Node) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is not None and len(self.names) < 500:
            word = self._word(value) if value is not None else ""
            self.names[self._raw(name)] = word if value is None or len(word) <= LONGEST_VALUE else self._raw(value)

    def _raw(self, node: Node) -> str:
        return self.data[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def _word(self, node: Node, depth: int = 0) -> str:
        """The word as the shell would see it, quotes gone and known variables put in."""
        if depth > 20:
            return self._raw(node)
        match node.type:
            case "raw_string":
                return self._raw(node)[1:-1]
            case "ansi_c_string":
                return self._unescape(self._raw(node)[2:-1])
            case "string":
                return self._between(node, depth, quoted=True)
            case "concatenation":
                whole = self._raw(node)
                if whole.startswith("{") and whole.endswith("}") and whole[1:-1] in self.names:
                    return self._value(whole[1:-1])
                joined = "".join(self._word(c, depth + 1) for c in node.children)
                return self._interpolate(joined)
            case "simple_expansion" | "expansion":
                inner = next((self._raw(c) for c in node.named_children if c.type == "variable_name"), "")
                plain = node.type == "simple_expansion" or len(node.named_children) == 1
                return self._value(inner) if plain and inner in self.names else self._raw(node)
            case "command_substitution":
                parts = [c for c in node.named_children if c.type != "comment"]
                out = self._output(parts[0]) if len(parts) == 1 else None
                return self._raw(node) if out is None else out
            case "command_name":
                return self._word(node.children[0], depth + 1) if node.children else self._raw(node)
            case "word" | "number":
                raw = self._raw(node)
                return self._interpolate(raw.replace("\\\n", "").replace("\\", "") if "\\" in raw else raw)
        return self._raw(node)

    def _between(self, node: Node, depth: int, *, quoted: bool) -> str:
        """A string's content: the gaps between expansions are text."""
        out, at = [], node.start_byte + (1 if quoted else 0)
        for child in node.named_children:
            if child.type in ("simple_expansion", "expansion", "command_substitution"):
                out += [self.data[at : child.start_byte].decode("utf-8", "replace"), self._word(child, depth + 1)]
                at = child.end_byte
        out.append(self.data[at : node.end_byte - (1 if quoted else 0)].decode("utf-8", "replace"))
        return self._interpolate("".join(out).replace('\\"', '"'))

    def _interpolate(self, text: str) -> str:
        """IPython's {name} for names that are known."""
        if "{" in text and len(text) < 5000:
            for name in list(self.names)[:200]:
                count = text.count("{" + name + "}")
                if count:
                    self.sink.spend(count * len(self.names[name]))
                    text = text.replace("{" + name + "}", self.names[name])
        return text

    def _value(self, name: str) -> str:
        self.sink.spend(len(self.names[name]))
        return self.names[name]

    @staticmethod
    def _unescape(text: str) -> str:
        try:
            return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
        except UnicodeDecodeError:
            return text

    def _argv(self, node: Node) -> list[str]:
        """The command's words; leading assignments are bound and left out."""
        argv: list[str] = []
        for child in node.children:
            if child.type == "variable_assignment":
                self._assign(child)
            elif child.type in ("herestring_redirect", "file_redirect", "heredoc_redirect"):
                continue
            elif child.is_named or child.type == "word":
                text = self._word(child)
                known = child.type in _SPLIT or (not argv and " " in text)
                argv.extend(text.split() if known and not text.startswith("$") else [text])
        return argv[:3000]

    def _command(self, node: Node, into_shell: bool) -> bool:
        """Tell the sink; true when what is substituted into this command is run by it."""
        argv = self._argv(node)
        if not argv:
            return False
        self.sink.argv(argv, self._at(node), into_shell=into_shell)
        for child in node.named_children:
            if child.type == "herestring_redirect" and child.named_children and runs_its_input(argv):
                self._code(self._word(child.named_children[0]), argv, self._at(node))
        return interpreter(argv) is not None or argv[0] in ("eval", "source", ".")

    def _pipeline(self, node: Node, into_shell: bool) -> list[tuple[Node, bool]]:
        parts = node.named_children
        out: list[tuple[Node, bool]] = []
        for i, part in enumerate(parts):
            follower = parts[i + 1] if i + 1 < len(parts) else None
            feeds = into_shell
            three = [p for p in parts[i : i + 3] if p.type == "command"]
            if len(three) == 3 and self._argv(three[1])[:2] in _DECODING and runs_its_input(self._argv(three[2])):
                self._decoded(part, base64=True)
            while follower is not None and follower.type == "redirected_statement":
                follower = follower.child_by_field_name("body")
            if follower is not None and follower.type == "command":
                feeds = runs_its_input(self._argv(follower))
            if feeds:
                self._decoded(part)
            if follower is not None and follower.type == "command":
                taker = self._argv(follower)
                given = self._output(part) if taker[:1] == ["xargs"] and len(taker) > 1 else None
                if given is not None:
                    self.sink.argv([*taker, *given.split()], self._at(follower))
            out.append((part, feeds))
        return out

    def _code(self, text: str, argv: list[str], line: int) -> None:
        """Text that an interpreter is given to run."""
        if interpreter(argv) == "python":
            self.sink.python(text, line)
        else:
            self.sink.shell(text, line, self.names)

    def _output(self, node: Node) -> str | None:
        """What a command is known to print: echo and printf, through base64 -d, xxd -r -p, rev and tr."""
        parts = node.named_children if node.type == "pipeline" else [node]
        text: str | None = None
        for i, part in enumerate(parts):
            if part.type != "command":
                return None
            argv = self._argv(part)
            here = next((c for c in part.named_children if c.type == "herestring_redirect"), None)
            if i == 0 and here is not None and here.named_children:
                text = self._word(here.named_children[0])
            elif i == 0:
                if argv[:1] not in (["echo"], ["printf"]):
                    return None
                text = " ".join(a for a in argv[1:] if a not in _ECHO_OPTIONS)
                text = self._unescape(text) if "\\" in text else text
                continue
            match argv:
                case ["base64", "-d" | "-D" | "--decode" | "-di", *_]:
                    text = _plain(text or "")
                case ["rev"]:
                    text = (text or "")[::-1]
                case ["xxd", *flags] if "-r" in flags or "-rp" in flags or "-r -p" in flags:
                    text = _unhexed(text or "")
                case ["tr", one, other] if len(one) == len(other):
                    text = _replaced(text or "", one, other)
                case _:
                    return None
        return text if text is None or len(text) <= LONGEST_VALUE else None

    def _decoded(self, node: Node, *, base64: bool = False) -> None:
        """`echo WORD | sh`: the word is code; with `base64`, once it is decoded."""
        if node.type == "command":
            argv = self._argv(node)
            if argv and argv[0] in ("echo", "printf"):
                text = " ".join(a for a in argv[1:] if not a.startswith("-"))
                self.sink.shell(_plain(text) if base64 else text, self._at(node), self.names)

    def _redirected(self, node: Node) -> None:
        """What is written to files: `cat > f <<EOF`, `echo … >> f`, `… | tee f <<EOF`."""
        body = node.child_by_field_name("body")
        path, heredoc, more = "", None, False
        for child in node.named_children:
            if child.type == "file_redirect":
                target = child.child_by_field_name("destination")
                if target is not None and not self._raw(child).lstrip("012&").startswith("<"):
                    word = self._word(target)
                    path = path or ("" if word.isdigit() else word)
                    more = more or ">>" in self._raw(child)
            elif child.type == "heredoc_redirect":
                heredoc = next((c for c in child.named_children if c.type == "heredoc_body"), None)
        printed = self._output(body) if body is not None and body.type in ("pipeline", "command") else None
        while body is not None and body.type in ("list", "pipeline") and body.named_children:
            body = body.named_children[-1]
        argv, _ = strip_wrappers(self._argv(body)) if body is not None and body.type == "command" else ([], False)
        program = argv[0].rpartition("/")[2] if argv else ""
        if heredoc is not None:
            content = self._between(heredoc, 0, quoted=False)
            inner = interpreter(argv) if argv else None
            at = self._at(heredoc)
            if inner == "shell":
                self.sink.shell(content, at, self.names)
            elif inner == "python":
                self.sink.python(content, at)
            elif program == "tee" and not path:
                path = next((a for a in argv[1:] if not a.startswith("-")), "")
            self.sink.written(path, content, at, more=more)
        elif path.startswith(("/dev/tcp/", "/dev/udp/")) and argv:
            self.sink.argv([*argv, path], self._at(node))
        elif path and path != "/dev/null" and printed is not None:
            self.sink.written(path, printed, self._at(node), more=more)
        elif path and path != "/dev/null" and program in ("echo", "printf"):
            self.sink.written(path, " ".join(a for a in argv[1:] if a not in _ECHO_OPTIONS), self._at(node), more=more)
