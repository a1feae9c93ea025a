"""No input makes the reader hang or raise anything but TooLongError, and what it can't judge is never passed."""

import random
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Level
from mutirao.detect.pack import default_pack
from mutirao.detect.source.reader import LONGEST, read
from mutirao.errors import TooLongError

ENGINE = Engine(default_pack())
PADDING = "x = 1\n" * (LONGEST // 6 + 1)
_PIECES = st.sampled_from(
    [
        "!",
        "!!",
        "%",
        "%%",
        "%%bash",
        "%%writefile",
        "%run",
        "$(",
        "`",
        "'",
        '"',
        "'''",
        '"""',
        "\\",
        "\n",
        "\n\n",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "|",
        "&&",
        ";",
        "&",
        ">",
        ">>",
        "<",
        "<<",
        "<<EOF",
        "EOF",
        "#",
        "=",
        ":",
        ",",
        ".",
        "*",
        "@",
        "os.system(",
        "subprocess.run(",
        "exec(",
        "eval(",
        "b64decode(",
        ".join(",
        ".format(",
        "%s",
        "f'",
        "chr(",
        "[::-1]",
        "import",
        "from",
        "as",
        "def",
        "class",
        "for",
        "while",
        "if",
        "xmrig",
        "-o",
        "stratum+tcp://a:1",
        "git",
        "clone",
        "https://github.com/a/b",
        "pip",
        "install",
        "x",
        "sudo",
        "env",
        "python3",
        "-c",
        "bash",
        "-c",
        "x",
        "$x",
        "{x}",
        "\x00",
        "�",
        "é",
        "😀",
        "display(Javascript(",
        "setInterval(",
        "-m",
        "0",
        "sshd",
        "22",
        "tcp",
        "curl",
        "|",
        "sh",
    ]
)
_CODE = st.lists(st.one_of(_PIECES, st.text(max_size=8)), max_size=40).map(" ".join)
_TIGHT = st.lists(st.one_of(_PIECES, st.characters()), max_size=40).map("".join)


_CASES = st.sampled_from([case for rule in default_pack() for case in (*rule.fires, *rule.quiet)])
_CUTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), st.one_of(_PIECES, _CASES)), max_size=6)


def _cut(case: str, cuts: list[tuple[int, int, str]]) -> str:
    """The case with pieces of it replaced by others."""
    for at, length, piece in cuts:
        case = case[: at % (len(case) + 1)] + piece + case[at % (len(case) + 1) + length :]
    return case


_MUTATED = st.builds(_cut, _CASES, _CUTS)


@given(code=st.one_of(_MUTATED, _CODE, _TIGHT, st.text()), language=st.sampled_from(["python", "bash", "R", ""]))
@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reading_never_raises(code: str, language: str) -> None:
    with suppress(TooLongError):
        read(code, language)
    with suppress(TooLongError):
        ENGINE.scan(code, language)


@pytest.mark.campaign
def test_a_million_inputs_neither_raise_nor_hang() -> None:
    """The same, fed with a million random buffers; a failing one is in the traceback's frame, and comes again by its seed."""
    fuzz = test_reading_never_raises.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    rng = random.Random(20261125)
    read_ones = tried = 0
    while read_ones < 1_000_000:
        buffer = rng.randbytes(rng.choice((64, 256, 1024)))
        start = time.process_time()
        read_ones += fuzz(buffer) is not None
        tried += 1
        assert time.process_time() - start < 3, buffer
    assert read_ones > tried // 4


def _nested_exec(depth: int) -> str:
    code = "import os; os.system('hashcat -m 0 a b')"
    for _ in range(depth):
        code = f"exec({code!r})"
    return code


NASTY = {
    "parentheses": "(" * 100_000,
    "brackets closed": "x = " + "[" * 5000 + "]" * 5000,
    "one long sum": "x = " + "+".join(["1"] * 100_000),
    "one long string sum": "import os\nos.system(" + "+".join(["'a'"] * 50_000) + ")",
    "attributes": "a" + ".b" * 50_000 + "()",
    "shell parentheses": "!" + "(" * 50_000,
    "substitutions": "!" + "$(" * 20_000,
    "braces": "!echo " + "{" * 100_000,
    "quotes": "!" + "'\"" * 100_000,
    "pipes": "!" + "a|" * 50_000 + "b",
    "magics": "!ls\n" * 60_000,
    "assignments": "import os\n" + "".join(f"a{i} = 'x'\n" for i in range(20_000)) + "os.system('{a1} $a2')",
    "interpolations": "\n".join(f"v{i}='{{v{i + 1}}}'" for i in range(300)) + "\n!echo " + "{v1} " * 500,
    "spaces": "%" + " " * 300_000 + "=",
    "backslashes": "!" + "a \\\n" * 50_000,
    "a bomb of exec": "x = 'exec(x);' * 5000\nexec(x)",
    "nested exec": _nested_exec(12),
    "megabytes of base64": "from base64 import b64decode\nexec(b64decode('" + "QUFB" * 500_000 + "'))",
    "a long line of quotes in a call": "os.system('" + "sudo " * 60_000 + "')",
    "heredocs": "%%bash\n" + "cat <<EOF\n" * 20_000,
    "pieces that don't parse": "x = = 1\nimport os\n" * 10_000,
    "names that repeat": "!" + "xmrig hashcat sshd ngrok " * 15_000,
    "surrogates": "!echo \ud800\udfff xmrig",
    "doubling in the shell": "%%bash\nA0=xmrig\n" + "".join(f"A{i + 1}=$A{i}$A{i}\n" for i in range(60)) + "$A60",
    "doubling in one word": "%%bash\nA=" + "x" * 20_000 + "\necho " + "$A" * 50_000,
    "doubling by braces": "".join(f"a{i}='{{a{i + 1}}}{{a{i + 1}}}'\n" for i in range(60)) + "!echo {a0}",
    "doubling lists": "a0 = ['x']\n" + "".join(f"a{i + 1} = [a{i}, a{i}]\n" for i in range(60)) + "f(a60)",
    "doubling strings": "a0 = 'x'\n" + "".join(f"a{i + 1} = a{i} + a{i}\n" for i in range(60)) + "os.system(a60)",
    "doubling numbers": "a = 9\n" + "a = a + a\n" * 20_000 + "os.system(f'{a}')",
    "calls in loops": "".join(" " * i + "for a in b:\n" for i in range(90)) + (" " * 90 + "f(a)\n") * 2000,
    "null bytes": "!xmrig\x00 -o a",
}


@pytest.mark.parametrize("code", NASTY.values(), ids=NASTY.keys())
def test_nasty_inputs_are_read_in_time(code: str) -> None:
    """A scan takes about a second at most on a quiet machine; processor time is measured, as this one may be busy."""
    start = time.process_time()
    with suppress(TooLongError):
        read(code)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "code",
    [
        PADDING + "!hashcat -m 0 -a 0 h.txt w.txt",
        "!hashcat -m 0 -a 0 h.txt w.txt\n" + PADDING,
        "%%bash\n" + "# " + "-" * LONGEST + "\nhashcat -m 0 -a 0 h.txt w.txt",
        "if True:\n"
        + "    x = 1\n" * (LONGEST // 10 + 1)
        + "    get_ipython().system('hashcat -m 0 -a 0 h.txt w.txt')",
        "x" * (LONGEST + 1),
    ],
    ids=["behind padding", "before padding", "in a long script", "in a long block", "a word"],
)
def test_what_can_not_be_read_whole_is_refused(code: str) -> None:
    """A part of a cell means something else than the whole: nothing of it is judged, so nothing of it may run."""
    with pytest.raises(TooLongError, match="250000 is the most"):
        ENGINE.scan(code)


ACT = "hashcat -m 0 -a 0 h.txt w.txt"
PADDED = {
    "a long comment that is run": f"exec('#' + 'a' * 190_000)\nexec('#' + 'b' * 190_000)\n!{ACT}",
    "many commands": "!true\n" * 12_000 + f"!{ACT}",
    "many facts": "".join(f"f({i})\n" for i in range(12_000)) + f"!{ACT}",
    "many nodes": "x = [" + "-1," * 60_000 + f"]\n!{ACT}",
    "a long script": "%%bash\n" + ("# " + "-" * 98 + "\n") * 2_400 + ACT,
    "many words": "%%bash\n" + "true\n" * 9_000 + ACT,
    "code in code": _nested_exec(12),
}


@pytest.mark.parametrize("code", PADDED.values(), ids=PADDED.keys())
def test_nothing_hides_behind_a_bound(code: str) -> None:
    """What stands past a bound is either seen, or the whole cell is refused."""
    try:
        found = ENGINE.scan(code)
    except TooLongError:
        return
    assert any(f.level is Level.STOP for f in found)


def test_the_longest_cell_is_read_to_its_end() -> None:
    last = "\n!hashcat -m 0 -a 0 h.txt w.txt"

    assert ENGINE.scan("#" * (LONGEST - len(last)) + last)[0].level is Level.STOP


def test_a_fault_is_raised_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not judged must not run."""
    monkeypatch.setattr("mutirao.detect.engine.read", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        ENGINE.scan("!hashcat -m 0 -a 0 h.txt w.txt")
