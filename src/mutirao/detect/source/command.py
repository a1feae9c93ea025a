"""A command line understood: wrappers taken off, scripts named, packages, repositories and URLs picked out."""

import re2

from mutirao.detect.fact import Kind, Sink

SHELLS = {"bash", "sh", "zsh", "dash", "ksh", "fish"}
_PYTHON = re2.compile(r"^(?:\{sys\.executable\}|python[0-9.]*|pypy3?|ipython3?)$")
_SCRIPT_RUNNERS = {"perl", "ruby", "node", "php", "java", "mono", "deno", "bun", "wine", "Rscript", "lua"}
# Each takes a command after its own options; the number is how many words of its own come first.
_WRAPPERS = {
    "sudo": 0, "env": 0, "nohup": 0, "timeout": 1, "setsid": 0, "exec": 0, "command": 0, "nice": 0, "ionice": 0,
    "time": 0, "stdbuf": 0, "unbuffer": 0, "doas": 0, "xvfb-run": 0, "taskset": 1, "builtin": 0, "then": 0, "do": 0,
    "else": 0, "chrt": 1, "proot": 0, "fakeroot": 0, "optirun": 0, "accelerate-run": 0, "busybox": 0, "sshpass": 0,
    "unshare": 0, "chroot": 1, "strace": 0, "ltrace": 0, "runuser": 0, "firejail": 0, "systemd-run": 0, "cpulimit": 0,
    "xargs": 0, "watch": 0, "parallel": 0, "catchsegv": 0, "script": 0, "daemonize": 0, "faketime": 1, "numactl": 0,
}  # fmt: skip
_TAKES_VALUE = {
    "sudo": {"-u", "-g", "-p", "-C", "-h"}, "env": {"-u", "-C", "-S"}, "timeout": {"-s", "-k", "--signal"},
    "nice": {"-n"}, "ionice": {"-c", "-n"}, "stdbuf": {"-o", "-i", "-e"}, "sshpass": {"-p", "-f"},
    "strace": {"-o", "-e", "-p"}, "runuser": {"-u", "-g"}, "cpulimit": {"-l", "-p"}, "setpriv": {"--reuid"},
    "xargs": {"-n", "-I", "-P", "-L", "-d"}, "watch": {"-n"}, "parallel": {"-j"}, "xvfb-run": {"-s", "-n", "-e"},
}  # fmt: skip
_ASSIGNMENT = re2.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_URL = re2.compile(r"(?i)\b(?:https?|ftp|git|ssh)://[^\s'\"<>|;)]+|\b[\w.-]+@[\w.-]+:[\w./-]+")
_SHORT_URL = re2.compile(r"(?i)^[\w-]+(?:\.[\w-]+)+/[^\s]+$")
_REPO = re2.compile(
    r"(?i)^(?:git\+)?(?:https?://|git://|ssh://)?(?:[^@/\s]+@)?[\w.-]+[/:](?:spaces/|datasets/)?([\w.{}$-]+)/([\w.{}$-]+?)(?:\.git)?/?(?:[@#].*)?$"
)
_PACKAGE = re2.compile(r"^[A-Za-z0-9@][A-Za-z0-9._/+-]*")
_FETCHERS = {"wget", "curl", "aria2c", "axel", "gdown", "http", "fetch", "youtube-dl", "yt-dlp", "megadl", "lynx"}
_INSTALLERS = {
    "pip": "pip", "pip3": "pip", "uv": "pip", "pipx": "pip", "conda": "conda", "mamba": "conda", "apt": "apt",
    "apt-get": "apt", "aptitude": "apt", "apt-fast": "apt", "npm": "npm", "yarn": "npm", "pnpm": "npm", "snap": "snap",
    "brew": "brew", "gem": "gem", "go": "go", "cargo": "cargo", "apk": "apt", "yum": "apt", "dnf": "apt",
    "pacman": "apt", "dpkg": "apt",
}  # fmt: skip
_INSTALL_WORDS = {"install", "i", "add", "get", "-S", "-i", "--install", "global"}
_DOCKER_SWITCHES = {
    "-d", "-i", "-t", "-it", "-ti", "-dit", "-id", "-td", "-P", "-q", "-a", "--detach", "--interactive", "--tty",
    "--rm", "--init", "--privileged", "--publish-all", "--read-only", "--quiet", "--no-healthcheck", "--all-tags",
}  # fmt: skip
# Asking a program about itself is not using it.
_ASKING = {"--help", "--version", "-V", "--usage", "-help", "-version"}


def strip_wrappers(argv: list[str]) -> tuple[list[str], bool]:
    """The command under sudo, env, nohup, timeout, VAR=… and the like, and whether anything was taken off."""
    start = len(argv)
    for _ in range(10):
        while argv and (_ASSIGNMENT.match(argv[0]) or argv[0] in ("!", "&&", ";", "{", "(")):
            argv = argv[1:]
        if not argv:
            break
        name = argv[0].rpartition("/")[2]
        if name not in _WRAPPERS or len(argv) == 1:
            break
        skip, valued, rest = _WRAPPERS[name], _TAKES_VALUE.get(name, set()), argv[1:]
        while rest and rest[0].startswith("-"):
            rest = rest[2:] if rest[0] in valued else rest[1:]
        while rest and _ASSIGNMENT.match(rest[0]):
            rest = rest[1:]
        argv = rest[skip:] if len(rest) > skip else rest
    return argv, len(argv) != start


def interpreter(argv: list[str]) -> str | None:
    """shell or python when the command runs code that it reads, else None."""
    argv, _ = strip_wrappers(argv)
    if not argv:
        return None
    name = argv[0].rpartition("/")[2]
    if name in SHELLS:
        return "shell"
    return "python" if _PYTHON.match(name) or argv[0] == "{sys.executable}" else None


def runs_its_input(argv: list[str]) -> bool:
    """The command takes code from its standard input: `bash`, `sh -s x`, `python -`; not `python -m json.tool`."""
    kind = interpreter(argv)
    rest = strip_wrappers(argv)[0][1:]
    if kind == "shell":
        return "-s" in rest or all(w.startswith(("-", "/dev/stdin", "+")) for w in rest)
    return kind == "python" and rest[:1] in ([], ["-"], ["-u"])


def read_command(argv: list[str], line: int, sink: Sink, *, into_shell: bool) -> None:
    """Put the command and all that it implies into the sink."""
    argv, _ = strip_wrappers(argv)
    if not argv or not argv[0]:
        return
    program = argv[0].rpartition("/")[2].lower()
    rest = argv[1:]
    if _nested(program, rest, line, sink):
        return
    if rest and (rest[0] in _ASKING or rest[-1] in _ASKING or rest in (["-h"], ["help"], ["-v"])):
        return
    script = _script(program, rest)
    names = [program]
    if script:
        names.append(script.rpartition("/")[2].lower())
    if argv[0].startswith(("./", "/content/", "/tmp/", "/kaggle/", "~/", "/dev/shm/")):  # noqa: S108
        names.append("./" + program)
    sink.fact(Kind.COMMAND, names, " ".join(argv), line)
    run = script or argv[0]
    first = sink.first_name(run)
    if first and (script or "/" in run):
        words = [first if word == run else word for word in argv]
        sink.fact(Kind.COMMAND, [words[0].rpartition("/")[2].lower(), first], " ".join(words), line)
    if script or "/" in run:
        sink.ran(f"{script}.py" if "-m" in rest else run, line)
    _named_anew(program, rest, sink)
    _install(program, rest, script, line, sink)
    _fetch(program, rest, line, sink, into_shell=into_shell)


def _named_anew(program: str, rest: list[str], sink: Sink) -> None:
    """A file gets another name: cp, mv, ln, install; or one of its own when it is downloaded."""
    words = [w for w in rest if not w.startswith("-")]
    if program in ("cp", "mv", "ln", "install") and len(words) == 2:
        sink.renamed(words[0], words[1])
    elif program in ("wget", "curl", "aria2c"):
        for option in ("-O", "-o", "--output", "--output-document", "--out", "-qO", "-Lo", "-sLo", "-LO"):
            url = next((w for w in words if "://" in w), "")
            if option in rest[:-1] and url:
                sink.renamed(url.partition("?")[0], rest[rest.index(option) + 1])


def _script(program: str, rest: list[str]) -> str:
    """The script or module that an interpreter is given."""
    if not (program in SHELLS or program in _SCRIPT_RUNNERS or _PYTHON.match(program) or program in ("source", ".")):
        if program in ("torchrun", "accelerate", "deepspeed", "streamlit", "gunicorn", "uvicorn", "npx", "conda"):
            return next((w for w in rest if w.endswith(".py") or (program == "npx" and not w.startswith("-"))), "")
        return ""
    words = iter(rest)
    for word in words:
        if word in ("-m", "-jar"):
            return next(words, "")
        if word in ("-W", "-X", "-c"):
            next(words, "")
        elif not word.startswith("-"):
            return word
    return ""


def _nested(program: str, rest: list[str], line: int, sink: Sink) -> bool:
    """A command that is handed over as one string: bash -c, su -c, screen, tmux, python -c, ssh is not one."""
    if program in SHELLS or program == "su":
        for i, word in enumerate(rest):
            if word.startswith("-") and not word.startswith("--") and "c" in word and i + 1 < len(rest):
                sink.shell(rest[i + 1], line)
                return True
    elif _PYTHON.match(program):
        if "-c" in rest and rest.index("-c") + 1 < len(rest):
            sink.python(rest[rest.index("-c") + 1], line)
            return True
    elif program in ("conda", "mamba", "micromamba", "poetry", "uv", "pipenv") and rest[:1] in (["run"], ["exec"]):
        tail = rest[1:]
        while tail and tail[0].startswith("-"):
            tail = tail[2:] if tail[0] in ("-n", "-p", "--name", "--prefix", "--with", "--python") else tail[1:]
        if tail:
            sink.argv(tail, line)
    elif program == "find" and ("-exec" in rest or "-execdir" in rest):
        tail = rest[next(i for i, w in enumerate(rest) if w in ("-exec", "-execdir")) + 1 :]
        if tail:
            sink.argv(tail, line)
    elif program in ("perl", "ruby", "node", "Rscript", "php") and len(rest) > 1 and rest[0] in ("-e", "-r", "--eval"):
        sink.foreign(rest[1], line)
    elif program == "eval" and rest:
        sink.shell(" ".join(rest), line)
        return True
    elif program in ("screen", "tmux", "start-stop-daemon", "dtach", "pm2", "supervisorctl"):
        tail = rest
        while tail and (tail[0].startswith("-") or tail[0] in ("new", "new-session", "start", "send-keys")):
            takes = tail[0] in ("-S", "-s", "-n", "-t", "-dmS", "-dS", "-R", "--exec", "-DmS") and len(tail) > 1
            if tail[0] == "--exec":
                break
            tail = tail[2:] if takes else tail[1:]
        if tail and tail[0] == "--exec":
            tail = tail[1:]
        if len(tail) == 1 and " " in tail[0]:
            sink.shell(tail[0], line)
        elif tail:
            sink.argv(tail, line)
    return False


def _install(program: str, rest: list[str], script: str, line: int, sink: Sink) -> None:
    if _PYTHON.match(program) and script in ("pip", "pip3", "uv"):
        program, rest = "pip", rest[rest.index(script) + 1 :]
    manager = _INSTALLERS.get(program) or ("pip" if re2.match(r"^pip[0-9.]+$", program) else None)
    if program == "docker" and rest[:1] in (["run"], ["pull"]):
        image = _image(rest[1:])
        if image:
            sink.fact(Kind.INSTALL, (f"docker:{image.partition(':')[0].lower()}",), "", line)
        return
    if program == "npx" and rest:
        package = next((w for w in rest if not w.startswith("-")), "")
        sink.fact(Kind.INSTALL, (f"npm:{package.lower()}",), "", line)
        return
    if manager is None or not _INSTALL_WORDS & set(rest[:6]):
        return
    after = max((i for i, w in enumerate(rest[:6]) if w in _INSTALL_WORDS), default=0)
    for word in rest[after + 1 :][:500]:
        found = _REPO.match(word) if "://" in word or word.startswith("git+") else None
        if found:
            _clone(word, found, line, sink)
            continue
        name = _PACKAGE.match(word)
        if name and not word.startswith("-") and len(name.group(0)) > 1:
            plain = name.group(0).lower()
            plain = plain.replace("_", "-") if manager == "pip" else plain
            sink.fact(
                Kind.INSTALL,
                (f"{manager}:{plain.rpartition('/')[2] if manager in ('go', 'apt') else plain}",),
                "",
                line,
            )


def _image(words: list[str]) -> str:
    """The image in the words after `docker run` or `docker pull`: the first that is no option and no option's value."""
    valued = False
    for word in words:
        if word.startswith("-"):
            valued = "=" not in word and word not in _DOCKER_SWITCHES
        elif valued:
            valued = False
        else:
            return word
    return ""


def _clone(url: str, found: "re2._Match[str]", line: int, sink: Sink) -> None:
    owner, name = found.group(1).lower(), found.group(2).lower()
    name = name.removesuffix(".git")
    sink.fact(Kind.CLONE, (name, f"{owner}/{name}"), url, line)


def _fetch(program: str, rest: list[str], line: int, sink: Sink, *, into_shell: bool) -> None:
    if program == "git":
        if any(w in ("clone", "pull", "remote", "fetch", "submodule") for w in rest[:5]):
            for word in rest:
                found = _REPO.match(word) if "/" in word and not word.startswith(("/", ".", "~")) else None
                if found:
                    _clone(word, found, line, sink)
        return
    if program == "gh" and rest[:2] == ["repo", "clone"] and len(rest) > 2:
        owner, _, name = rest[2].lower().rpartition("/")
        sink.fact(Kind.CLONE, (name, f"{owner}/{name}"), rest[2], line)
        return
    words = " ".join(rest)
    urls = [m.group(0) for m in _URL.finditer(words)]
    if program in _FETCHERS:
        urls += [w for w in rest if _SHORT_URL.match(w)]
        names = ("fetch", "run") if into_shell else ("fetch",)
        for url in urls[:200]:
            sink.fact(Kind.DOWNLOAD, names, url, line)
        if not urls and rest:
            sink.fact(Kind.DOWNLOAD, names, words[:2000], line)
