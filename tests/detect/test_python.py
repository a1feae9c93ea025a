"""Python is read by its tree: what is imported, called and run; what is merely said is not."""

import pytest

from mutirao.detect.fact import Kind
from mutirao.detect.source.reader import read


def _commands(code: str) -> list[str]:
    return [f.text for f in read(code).of(Kind.COMMAND)]


def _calls(code: str) -> list[str]:
    return [f.names[0] for f in read(code).of(Kind.CALL)]


RUNS = [
    "import os\nos.system('./a -x')",
    "import os as o\no.popen('./a -x')",
    "from os import system\nsystem('./a -x')",
    "from os import system as s\ns('./a -x')",
    "import subprocess\nsubprocess.run(['./a', '-x'])",
    "import subprocess as sp\nsp.Popen('./a -x', shell=True)",
    "from subprocess import check_output\ncheck_output(args=['./a', '-x'])",
    "import subprocess, shlex\nsubprocess.call(shlex.split('./a -x'))",
    "import asyncio\nawait asyncio.create_subprocess_shell('./a -x')",
    "import asyncio\nawait asyncio.create_subprocess_exec('./a', '-x')",
    "import os\nos.execvp('./a', ['./a', '-x'])",
    "import os\nos.execl('./a', './a', '-x')",
    "import pty\npty.spawn('./a -x')",
    "get_ipython().system('./a -x')",
    "get_ipython().system_raw('./a -x')",
    "ip = get_ipython()\nip.system('./a -x')",
    "get_ipython().run_line_magic('system', './a -x')",
    "get_ipython().run_cell_magic('bash', '', './a -x')",
    "!./a -x",
    "!!./a -x",
    "%sx ./a -x",
    "%system ./a -x",
    "out = !./a -x",
    "out = %sx ./a -x",
    "%%bash\n./a -x",
    "%%sh\n./a -x",
    "%%script bash\n./a -x",
    "%%shell\n./a -x",
    "#@title a form\n%%bash --bg\n./a -x",
    "%%capture\n!./a -x",
    "%%time\n!./a -x",
    "for i in range(3):\n    !./a -x",
    "if x:\n  pass\nelse:\n  !./a -x",
    "x = '-x'\n!./a {x}",
    "x = '-x'\n!./a $x",
    "def go(c):\n    import subprocess\n    subprocess.run(c, shell=True)\ngo('./a -x')",
    "run_sh('./a -x')",
    "exec('import os; os.system(\"./a -x\")')",
    "eval(compile('__import__(\"os\").system(\"./a -x\")', '', 'exec'))",
    "import importlib\nimportlib.import_module('os').system('./a -x')",
    "cmd = './a'\ncmd += ' -x'\nimport os\nos.system(cmd)",
    "!./a \\\n  -x",
    "print 'python 2'\n!./a -x",
    "x = = broken\nimport os\nos.system('./a -x')",
]


@pytest.mark.parametrize("code", RUNS)
def test_every_way_to_run_a_command_is_seen(code: str) -> None:
    assert "./a -x" in _commands(code)


SAYS = [
    "print('./a -x')",
    "cmd = './a -x'",
    "# !./a -x",
    "'''\n!./a -x\n'''",
    'text = """\n%%bash\n!./a -x\n"""',
    "%%markdown\n!./a -x",
    "%%html\n<p>./a -x</p>",
    "import logging\nlogging.info('./a -x')",
    "from IPython.display import Markdown, display\ndisplay(Markdown('./a -x'))",
    "df['cmd'] = df['cmd'].str.contains('./a -x')",
    "x != y",
    "y = 7 % 3",
    "import re\nre.search('./a -x', log)",
    "parser.add_argument('--cmd', default='./a -x')",
]


@pytest.mark.parametrize("code", SAYS)
def test_what_is_only_said_is_not_run(code: str) -> None:
    assert _commands(code) == []


def test_names_follow_their_imports() -> None:
    assert "libtorrent.session" in _calls("import libtorrent as lt\nlt.session()")
    assert "pyngrok.ngrok.connect" in _calls("from pyngrok import ngrok as n\nn.connect(22)")


def test_a_call_s_arguments_are_text() -> None:
    (fact,) = read("ngrok.connect(22, proto='tcp')").of(Kind.CALL)
    assert fact.text == "22 proto=tcp"
    assert fact.names == ("ngrok.connect", ".connect")


def test_imports_are_known_by_module_and_name() -> None:
    names = [f.names for f in read("import a.b\nfrom C.d import E").of(Kind.IMPORT)]
    assert names == [("a.b",), ("c.d.e", "c.d")]


def test_what_goes_to_the_browser_is_a_page() -> None:
    for code in (
        "display(Javascript('go()'))",
        "%%javascript\ngo()",
        "eval_js('go()')",
        "%%html\n<script>go()</script>",
    ):
        (fact,) = read(code).of(Kind.PAGE)
        assert "go()" in fact.text


def test_lines_survive_magics_and_cell_magics() -> None:
    facts = read("x = 1\n!./a\n\nimport os\nos.system('./b')")
    assert {f.text: f.line for f in facts.of(Kind.COMMAND)} == {"./a": 2, "./b": 5}
    assert [f.line for f in read("%%bash\n\n./a").of(Kind.COMMAND)] == [3]


def test_a_written_script_is_read_as_deferred() -> None:
    for code in ("%%writefile go.sh\n./a -x", "%%bash\ncat > go.sh <<EOF\n./a -x\nEOF"):
        (fact,) = [f for f in read(code).of(Kind.COMMAND) if f.text == "./a -x"]
        assert fact.deferred
