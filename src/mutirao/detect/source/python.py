"""Python read by its syntax tree: imports, calls with their arguments, and the commands that calls run.

Strings count only as arguments of a call that does something; what is printed, logged or displayed as prose does not.
"""

import ast
from collections.abc import Callable

import re2

from mutirao.detect.fact import Kind, Sink
from mutirao.detect.source.fold import Folder, Value, basename, place, source

MOST_NODES = 1_000_000
MOST_LOOP_NODES = 50_000

# A shell line as the first argument; the second set takes a list, or separate arguments.
_SHELL_RUNNERS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "commands.getoutput", "posix.system", "pexpect.spawn", "pexpect.run", "pty.spawn", "IPython.utils.process.system",
}  # fmt: skip
_LIST_RUNNERS = {
    "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "subprocess.Popen",
    "asyncio.create_subprocess_exec", "os.execv", "os.execvp", "os.execl", "os.execlp", "os.execve", "os.spawnl",
    "os.spawnlp", "os.spawnv", "os.spawnvp", "os.posix_spawn",
}  # fmt: skip
_IPYTHON_RUNNERS = {".system", ".system_raw", ".getoutput", ".system_piped"}
_FETCHERS = {
    "urllib.request.urlretrieve", "urllib.request.urlopen", "urllib.urlretrieve", "requests.get", "wget.download",
    "gdown.download", "httpx.get", "huggingface_hub.hf_hub_download", "huggingface_hub.snapshot_download",
    "torch.hub.download_url_to_file", "torch.hub.load_state_dict_from_url", "load_file_from_url",
    "gdown.cached_download",
}  # fmt: skip
_MODE = re2.compile(r"^(?:mode=)?\w*[wax+]")
_PAGES = {"Javascript", "HTML", "eval_js", "display_javascript", "display_html", "execute_script"}
_SPEAKING = {
    "print", "pprint", "display", "Markdown", "Latex", "len", "str", "repr", "input", "format", "warn", "info", "debug",
    "error", "warning", "exception", "critical", "add_argument", "compile", "search", "match", "findall", "sub", "help",
    "Text", "Label", "title", "xlabel", "ylabel",
}  # fmt: skip
# A function of the cell's own, or of another cell, that by its name runs a command line.
_WRAPPER = re2.compile(
    r"(?i)^(?:_*(?:run|exec|execute|shell|sh|bash|cmd|system|call|popen)(?:_?(?:sh|cmd|commands?|shell|process|bash|system|it|in_background|bg|background))?)$"
)

# Nodes that hold nothing to read; a cell of numbers has as many of them as characters.
_MUTE = (ast.Constant, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
_RENAMERS = {"os.rename", "os.replace", "os.link", "os.symlink", "shutil.move", "shutil.copy", "shutil.copyfile",
             "shutil.copy2"}  # fmt: skip
_PAUSING = {"sleep", "wait", "join", "input", "recv", "recvfrom", "accept", "select", "poll", "result", "wait_for"}


def read_python(
    tree: ast.AST, sink: Sink, folder: Folder, offset: int = 0, before: Callable[[int], None] = lambda _: None
) -> None:
    """Put every fact of the tree into the sink; lines are shifted by `offset`.

    `before` is told each statement's line (from 1, shifted too) before it is read: names mean what they mean there.
    """
    _Walk(sink, folder, offset, before).walk(tree)


class _Walk:
    def __init__(self, sink: Sink, folder: Folder, offset: int, before: Callable[[int], None]) -> None:
        self.sink, self.folder, self.offset, self.before = sink, folder, offset, before
        self.aliases, self.wrappers = folder.aliases, folder.wrappers
        self.handles: dict[str, str] = {}
        self.marks: dict[ast.Call, set[str]] = {}
        self.loop_nodes = MOST_LOOP_NODES

    def walk(self, tree: ast.AST) -> None:
        """Depth first, in the order of the source, so that a name is bound before it is used."""
        stack, seen = [tree], 0
        while stack and seen < MOST_NODES:
            node, seen = stack.pop(), seen + 1
            if isinstance(node, ast.stmt):
                self.before(self._line(node))
            visit: Callable[[ast.AST], None] | None = getattr(self, "_" + type(node).__name__, None)
            if visit is not None:
                visit(node)
            children = [child for child in ast.iter_child_nodes(node) if not isinstance(child, _MUTE)]
            if isinstance(node, ast.Assign):  # the value's calls come before the name is bound anew
                self._bind(node)
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                self._bind(ast.Assign([node.target], node.value))
            stack.extend(reversed(children))

    def _bind(self, node: ast.Assign) -> None:
        value = self.folder.fold(node.value)
        for target in node.targets:
            match target:
                case ast.Tuple(elts=targets) if isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(
                    targets
                ):
                    for one, given in zip(targets, node.value.elts, strict=True):
                        if not isinstance(one, ast.Starred):
                            self._bind(ast.Assign([one], given))
                case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str() as key)):
                    self.folder.environment[key] = self.folder.text(node.value)
            if not isinstance(target, ast.Name) and (at := place(target)):
                self.folder.bind(at, value)
            if isinstance(target, ast.Name):
                if isinstance(node.value, ast.Dict):
                    self._items(target.id, node.value)
                if value is None and (isinstance(node.value, ast.JoinedStr | ast.BinOp) or _encoded(node.value)):
                    value = self.folder.text(node.value)  # partly known is better than forgotten
                self.folder.bind(target.id, value)
                self.aliases.pop(target.id, None)
                if value is None:
                    name = self._dotted(node.value.func if isinstance(node.value, ast.Call) else node.value)
                    if isinstance(node.value, ast.Call) and self._resolves(node.value):
                        self.aliases[target.id] = self._dotted(node.value)
                    elif isinstance(node.value, ast.Lambda) and self._hands_on(node.value.args, [node.value.body]):
                        self.wrappers.add(target.id)
                    elif name and (name in _SHELL_RUNNERS or name in _LIST_RUNNERS or isinstance(node.value, ast.Call)):
                        self.aliases[target.id] = name + ("()" if isinstance(node.value, ast.Call) else "")
                    if name == "open" and isinstance(node.value, ast.Call):
                        self._opened(target.id, node.value)

    def _items(self, name: str, node: ast.Dict) -> None:
        """The literal items of a dictionary, each under its own place."""
        for key, value in list(zip(node.keys, node.values, strict=True))[:200]:
            if isinstance(key, ast.Constant) and isinstance(key.value, str | int):
                self.folder.bind(f"{name}[{key.value!r}]", self.folder.fold(value))

    def _resolves(self, node: ast.Call) -> bool:
        """The call names a module or an attribute: `import_module("os")`, `getattr(os, "system")`."""
        called = node.func
        if isinstance(called, ast.Name) and called.id == "getattr":
            return len(node.args) >= 2
        return isinstance(called, ast.Name | ast.Attribute) and self._is_import(called) and bool(node.args)

    def _hands_on(self, arguments: ast.arguments, body: list[ast.AST]) -> bool:
        """Some call in the body gives a runner one of these parameters."""
        given = {a.arg for a in arguments.args}
        for part in body:
            for count, inner in enumerate(ast.walk(part)):
                if count > 2000:
                    break
                if isinstance(inner, ast.Call) and inner.args and given & _names(inner.args[0]):
                    name = self._dotted(inner.func)
                    last = "." + name.rpartition(".")[2]
                    if (
                        name in _SHELL_RUNNERS
                        or name in _LIST_RUNNERS
                        or name in self.wrappers
                        or last in _IPYTHON_RUNNERS
                    ):
                        return True
        return False

    def _line(self, node: ast.AST) -> int:
        return int(getattr(node, "lineno", 1)) + self.offset

    def _AugAssign(self, node: ast.AST) -> None:
        assert isinstance(node, ast.AugAssign)
        if isinstance(node.target, ast.Name) and isinstance(node.op, ast.Add):
            old, new = self.folder.names.get(node.target.id), self.folder.fold(node.value)
            joined: Value | None = None
            match old, new:
                case str(), str() if len(old) + len(new) < 100_000:
                    joined = old + new
                case list(), list() if len(old) + len(new) < 3000:
                    joined = old + new
            self.folder.bind(node.target.id, joined)

    def _FunctionDef(self, node: ast.AST) -> None:
        """A function that hands a parameter of its own to a runner is a runner."""
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if self._hands_on(node.args, list(node.body)):
            self.wrappers.add(node.name)
        for name in {a.arg for a in node.args.args}:  # a parameter is not the outer name
            self.folder.bind(name, None)

    _AsyncFunctionDef = _FunctionDef

    def _For(self, node: ast.AST) -> None:
        assert isinstance(node, ast.For | ast.AsyncFor)
        self._loop(node.body, {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)})
        values = self.folder.fold(node.iter)
        lines = [v for v in values if isinstance(v, str)] if isinstance(values, list) else []
        if isinstance(node.target, ast.Name) and isinstance(values, list) and 0 < len(lines) == len(values) <= 200:
            self.folder.bind(node.target.id, "\n".join(lines))  # one after another, as a shell reads lines

    _AsyncFor = _For

    def _While(self, node: ast.AST) -> None:
        """A loop that nothing in it ends or slows down hammers what it calls."""
        assert isinstance(node, ast.While)
        self._loop(node.body, set())
        if not isinstance(node.test, ast.Constant) or not node.test.value:
            return
        inner = self._nodes(node.body)
        if any(isinstance(n, ast.Break | ast.Return | ast.Yield) for n in inner):
            return
        calls = [n for n in inner if isinstance(n, ast.Call)]
        if not any(self._dotted(call.func).rpartition(".")[2] in _PAUSING and not _hasty(call) for call in calls):
            for call in calls:
                self.marks.setdefault(call, set()).add("endless:")

    def _loop(self, body: list[ast.stmt], varying: set[str]) -> None:
        """Mark the calls that are given what differs from one round to the next."""
        inner = self._nodes(body)
        for node in inner:
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                varying.add(node.target.id)
            elif isinstance(node, ast.Assign) and (varying & _names(node.value) or _reads(node.value)):
                varying |= {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        for node in inner:
            if isinstance(node, ast.Call):
                given = [(str(i), a) for i, a in enumerate(node.args)] + [
                    (k.arg or "**", k.value) for k in node.keywords
                ]
                for key, value in given:
                    if varying & _names(value):
                        self.marks.setdefault(node, set()).add(key)

    def _nodes(self, body: list[ast.stmt]) -> list[ast.AST]:
        """All nodes of a loop's body, in the order of the source by statement, while the budget lasts."""
        found: list[ast.AST] = []
        for statement in body:
            for node in ast.walk(statement):
                self.loop_nodes -= 1
                if self.loop_nodes < 0:
                    return found
                found.append(node)
        return found

    def _With(self, node: ast.AST) -> None:
        assert isinstance(node, ast.With | ast.AsyncWith)
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name) and isinstance(item.context_expr, ast.Call):
                self._opened(item.optional_vars.id, item.context_expr)

    def _opened(self, name: str, node: ast.Call) -> None:
        """The name is a file that is written from its start."""
        words = [self.folder.text(a) for a in self._all(node)]
        if self._dotted(node.func).rpartition(".")[2] == "open" and words and _MODE.search(" ".join(words[1:3])):
            self.handles[name] = words[0]
            self.folder.files.pop(basename(words[0]), None)

    def _kept(self, node: ast.Call, last: str) -> None:
        """`f.write(text)`, `open(path, "w").write(text)`, `Path(path).write_text(text)`: what the file holds."""
        content, own = self.folder.fold(node.args[0]), node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(content, bytes):
            content = content.decode("utf-8", "replace")
        if not isinstance(content, str):
            return
        if isinstance(own, ast.Name) and own.id in self.handles:
            self.folder.keep(self.handles[own.id], content, more=basename(self.handles[own.id]) in self.folder.files)
        elif isinstance(own, ast.Call) and own.args and (last == "write_text" or self._dotted(own.func) == "open"):
            self.folder.keep(self.folder.text(own.args[0]), content)

    def _Import(self, node: ast.AST) -> None:
        assert isinstance(node, ast.Import)
        for alias in node.names:
            self.aliases[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )
            self.sink.fact(Kind.IMPORT, (alias.name.lower(),), "", self._line(node))
            self.sink.ran(f"{alias.name}.py", self._line(node))

    def _ImportFrom(self, node: ast.AST) -> None:
        assert isinstance(node, ast.ImportFrom)
        module = node.module or ""
        self.sink.ran(f"{module}.py", self._line(node))
        for alias in node.names:
            full = f"{module}.{alias.name}" if module else alias.name
            self.aliases[alias.asname or alias.name] = full
            self.sink.fact(Kind.IMPORT, (full.lower(), module.lower()), "", self._line(node))

    def _dotted(self, node: ast.AST) -> str:
        """The callee's name with import aliases resolved, such as `get_ipython().system` or `subprocess.Popen`."""
        parts: list[str] = []
        for _ in range(12):
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Call):
                called = node.func
                if isinstance(called, ast.Name) and called.id == "getattr" and len(node.args) >= 2:
                    attr = self.folder.fold(node.args[1])
                    parts.append(attr if isinstance(attr, str) else "?")
                    node = node.args[0]
                elif isinstance(called, ast.Name | ast.Attribute) and self._is_import(called) and node.args:
                    module = self.folder.fold(node.args[0])
                    parts.append(module if isinstance(module, str) else "?")
                    break
                else:
                    if parts:
                        parts[-1] = parts[-1]
                    node = called
                    if isinstance(node, ast.Name):
                        parts.append(self.aliases.get(node.id, node.id) + "()")
                        break
            elif isinstance(node, ast.Name):
                parts.append(self.aliases.get(node.id, node.id))
                break
            elif isinstance(node, ast.Subscript):
                key, own = self.folder.fold(node.slice), node.value
                if not isinstance(key, str):
                    break
                if isinstance(own, ast.Call) and getattr(own.func, "id", "") == "vars" and own.args:
                    parts.append(key)
                    node = own.args[0]
                elif isinstance(own, ast.Attribute) and own.attr == "__dict__":
                    parts.append(key)
                    node = own.value
                elif isinstance(own, ast.Call) and getattr(own.func, "id", "") in ("globals", "locals"):
                    parts.append(self.aliases.get(key, key))
                    break
                elif isinstance(own, ast.Attribute) and own.attr == "modules":
                    parts.append(key)
                    break
                else:
                    break
            else:
                break
        return ".".join(reversed(parts))

    @staticmethod
    def _is_import(node: ast.Name | ast.Attribute) -> bool:
        return (node.id if isinstance(node, ast.Name) else node.attr) in ("__import__", "import_module")

    def _Call(self, node: ast.AST) -> None:
        assert isinstance(node, ast.Call)
        name = self._dotted(node.func)
        if not name:
            return
        line, last = self._line(node), name.rpartition(".")[2]
        if name in ("exec", "eval", "builtins.exec", "builtins.eval") and node.args:
            self._evaluate(node.args[0], line)
            return
        if self._runs(name, last, node):
            self._run(node, name, line)
            return
        if last in self.wrappers and node.args:  # a method that hands its parameter on; it may be another's
            self._run(node, name, line)
        if node.args and last in ("append", "extend") and isinstance(node.func, ast.Attribute):
            self._lengthen(node.func.value, self.folder.fold(node.args[0]), last)
        handed = self._handed(node)
        if handed is not None:
            self._run(handed, self._dotted(handed.func), line)
        if last in ("run_line_magic", "magic", "run_cell_magic", "run_cell") and node.args:
            self._magic(last, [self.folder.text(a) for a in node.args], line)
            return
        if last in _PAGES:
            self.sink.fact(Kind.PAGE, (last.lower(),), " ".join(self.folder.text(a) for a in self._all(node)), line)
            return
        if last in _SPEAKING:
            return
        words = [self.folder.text(a) for a in node.args]
        words += [f"{k.arg or '**'}={self.folder.text(k.value)}" for k in node.keywords]
        text = " ".join(words)[:6000]
        names = [name.lower(), "." + last.lower()]
        for mark in sorted(self.marks.get(node, ())):
            names += [f"endless:{n}" if mark == "endless:" else f"each:{n}:{mark}".lower() for n in names[:2]]
        self.sink.fact(Kind.CALL, names, text, line)
        if name in _FETCHERS or last in (
            "urlretrieve",
            "download_url",
            "hf_hub_download",
            "snapshot_download",
            "get_file",
        ):
            self.sink.fact(Kind.DOWNLOAD, ("fetch",), text, line)
        elif last == "clone_from":
            self.sink.argv(("git", "clone", *words[:1]), line)
        elif name in _RENAMERS and len(node.args) == 2:
            self.folder.rename(words[0], words[1])
        elif last in ("write", "write_text", "writelines", "writestr", "dump") and node.args:
            self._kept(node, last)
            self.sink.fact(
                Kind.WRITES, (source(node.func.value) if isinstance(node.func, ast.Attribute) else "",), text, line
            )
        elif name == "open" and words and _MODE.search(" ".join(words[1:3])):
            self.sink.fact(Kind.WRITES, (words[0].lower(),), "", line)

    def _lengthen(self, node: ast.expr, value: Value | None, how: str) -> None:
        """`argv.append(word)`: the list that the name stands for grows."""
        old = self.folder.names.get(node.id) if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Name) and isinstance(old, list) and len(old) < 500:
            added = value if how == "extend" and isinstance(value, list) else None if value is None else [value]
            self.folder.bind(node.id, None if added is None else old + added)

    def _handed(self, node: ast.Call) -> ast.Call | None:
        """A runner handed over with its arguments: `Thread(target=os.system, args=(…,))`, `map(os.system, […])`."""
        keys = {k.arg: k.value for k in node.keywords}
        target, given = keys.get("target"), keys.get("args")
        if target is None and len(node.args) >= 2:
            target, given = node.args[0], node.args[1]
        if not isinstance(target, ast.Name | ast.Attribute) or given is None:
            return None
        name = self._dotted(target)
        if name not in _SHELL_RUNNERS and name not in _LIST_RUNNERS and name not in self.wrappers:
            return None
        items = given.elts[:50] if isinstance(given, ast.Tuple | ast.List) else [given]
        return ast.Call(target, list(items), []) if items else None

    @staticmethod
    def _all(node: ast.Call) -> list[ast.expr]:
        return [*node.args, *(k.value for k in node.keywords)]

    def _runs(self, name: str, last: str, node: ast.Call) -> bool:
        if name in _SHELL_RUNNERS or name in _LIST_RUNNERS or name in self.wrappers:
            return True
        if "." + last in _IPYTHON_RUNNERS and ("get_ipython" in name or name.startswith(("ipython", "shell."))):
            return True
        if node.args and isinstance(node.func, ast.Name) and _WRAPPER.match(name):
            return True
        # An awaited or aliased runner: sp.run, self.run_cmd("...").
        return bool(node.args) and last in (
            "Popen",
            "check_output",
            "check_call",
            "getoutput",
            "system_raw",
            "exec_command",
        )

    def _run(self, node: ast.Call, name: str, line: int) -> None:
        given = (
            node.args[0]
            if node.args
            else next((k.value for k in node.keywords if k.arg in ("args", "cmd", "command")), None)
        )
        if given is None:
            return
        if name.startswith(("os.exec", "os.spawn", "os.posix", "asyncio.create_subprocess_exec")):
            words: list[str] = []
            for arg in node.args:
                value = self.folder.fold(arg)
                words += [str(v) for v in value] if isinstance(value, list) else [self.folder.text(arg)]
            words = [w for w in words if w not in ("{os.P_NOWAIT}", "{os.P_WAIT}")]
            self.sink.argv(words[1:] if len(words) > 2 and words[1:2] == words[:1] else words, line)
            return
        value = self.folder.fold(given)
        if isinstance(value, list):
            self._argv([str(v) for v in value], line)
        elif isinstance(given, ast.List | ast.Tuple):
            self._argv([self.folder.text(e) for e in given.elts[:2000]], line)
        elif isinstance(given, ast.BinOp) and isinstance(given.left, ast.List):
            self._argv([self.folder.text(e) for e in given.left.elts[:2000]] + [self.folder.text(given.right)], line)
        else:
            self.sink.shell(self.folder.text(given), line, self.folder.strings())

    def _argv(self, argv: list[str], line: int) -> None:
        if len(argv) == 1 and " " in argv[0]:
            self.sink.shell(argv[0], line, self.folder.strings())
        elif argv:
            self.sink.argv(argv, line)

    def _evaluate(self, given: ast.expr, line: int) -> None:
        if (
            isinstance(given, ast.Call)
            and isinstance(given.func, ast.Name)
            and given.func.id == "compile"
            and given.args
        ):
            given = given.args[0]
        value = self.folder.fold(given)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            self.sink.python(value, line)

    def _magic(self, how: str, words: list[str], line: int) -> None:
        if how == "run_cell":
            self.sink.python(words[0], line)
        elif how == "run_cell_magic":
            self.sink.python(f"%%{words[0]} {' '.join(words[1:2])}\n{' '.join(words[2:])}", line)
        else:
            self.sink.python("%" + " ".join(words), line)


def _encoded(node: ast.AST) -> bool:
    """A joined text in `.encode()`, `str()` and the like."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        own = node.func.value
        return node.func.attr in ("encode", "format", "strip") and (
            isinstance(own, ast.JoinedStr | ast.BinOp | ast.Constant) or _encoded(own)
        )
    return isinstance(node.func, ast.Name) and node.func.id in ("str", "bytes") and bool(node.args)


def _hasty(call: ast.Call) -> bool:
    """A sleep too short to slow a flood down."""
    given = call.args[0] if call.args else None
    return isinstance(given, ast.Constant) and isinstance(given.value, int | float) and given.value < 0.2


def _names(node: ast.AST) -> set[str]:
    """The names that an expression reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _reads(node: ast.AST) -> bool:
    """The expression takes the next piece of something: `f.readline()`, `next(words)`, `random.choice(…)`."""
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    if name in ("strip", "rstrip", "decode", "encode") and isinstance(called, ast.Attribute):
        return _reads(called.value)
    return name in ("readline", "next", "get", "pop", "popleft", "choice", "choices", "join")
