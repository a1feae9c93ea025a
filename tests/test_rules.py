"""Every rule is run: its firing cases fire it, its quiet cases leave the whole pack quiet."""

from collections import Counter
from pathlib import Path

import pytest

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.detect.pack import default_pack, load_pack
from mutirao.detect.rule import LANGUAGES, Rule
from mutirao.policy.category import Category

ROOT = Path(__file__).resolve().parents[1] / "rules"
PACK = load_pack(ROOT)
ENGINE = Engine(PACK)


def _cases(name: str) -> list[object]:
    return [
        pytest.param(rule, case, id=f"{rule.id}-{i}") for rule in PACK for i, case in enumerate(getattr(rule, name))
    ]


def _grave(findings: tuple[Finding, ...]) -> list[str]:
    return [f.rule for f in findings if f.level >= Level.WARN]


@pytest.mark.parametrize(("rule", "case"), _cases("fires"))
def test_a_firing_case_fires_its_rule_at_its_level(rule: Rule, case: str) -> None:
    """The rule is among the findings, on a line of the cell, with an excerpt and its reasons."""
    mine = [f for f in ENGINE.scan(case) if f.rule == rule.id]
    assert mine, f"{rule.id} does not fire on its own case"
    (finding,) = mine
    assert finding.category is rule.category
    assert finding.rule_version == rule.version
    assert finding.maturity is rule.maturity
    assert 1 <= finding.line <= case.count("\n") + 1
    assert 0 < len(finding.excerpt) <= 200
    assert set(finding.why) == set(LANGUAGES)


@pytest.mark.parametrize(("rule", "case"), _cases("quiet"))
def test_a_quiet_case_raises_no_alarm_from_any_rule(rule: Rule, case: str) -> None:
    assert _grave(ENGINE.scan(case)) == []


@pytest.mark.parametrize("rule", PACK, ids=lambda r: r.id)
def test_a_rule_is_complete(rule: Rule) -> None:
    """Two firing and two quiet cases, reasons in both languages, and one case at the rule's own level."""
    assert len(rule.fires) >= 2
    assert len(rule.quiet) >= 2
    assert all(40 <= len(rule.why[language]) <= 400 for language in LANGUAGES)
    assert rule.why["en"] != rule.why["pt-BR"]
    assert any(f.level is rule.level for case in rule.fires for f in ENGINE.scan(case) if f.rule == rule.id)


@pytest.mark.parametrize("rule", [r for r in PACK if r.level is Level.STOP], ids=lambda r: r.id)
def test_a_stop_needs_a_capability_and_a_signal(rule: Rule) -> None:
    assert rule.capability
    assert rule.signal


@pytest.mark.parametrize("category", Category)
def test_a_category_has_rules_and_one_that_stops(category: Category) -> None:
    mine = [r for r in PACK if r.category is category]
    assert len(mine) >= 4
    assert any(r.level is Level.STOP and r.maturity is Maturity.STABLE for r in mine)


def test_the_files_stand_where_their_ids_say() -> None:
    found = {(p.parent.name, p.stem) for p in ROOT.glob("*/*.yaml")}
    assert found == {(str(r.category), r.id) for r in PACK}
    assert Counter(r.id for r in PACK).most_common(1)[0][1] == 1


def test_the_default_pack_is_the_checkout_s() -> None:
    assert [r.id for r in default_pack()] == [r.id for r in PACK]


# What people rightly do near a disallowed subject. Written by ourselves; each row is one cell.
HARMLESS = {
    "names in a string": 'tools = ["xmrig", "hashcat", "webui", "ngrok", "MHDDoS", "DeepFaceLab"]',
    "names in a comment": "# !./xmrig -o stratum+tcp://pool.example.org:3333\nx = 1",
    "a printed command": 'print("hashcat -m 0 -a 0 hashes.txt words.txt")',
    "a displayed command": 'from IPython.display import Markdown\ndisplay(Markdown("run `./xmrig -o stratum+tcp://a:3`"))',
    "a markdown cell magic": "%%markdown\n!hashcat -m 0 hashes.txt words.txt",
    "looking for a word": "!grep -rn 'stratum+tcp' logs/ | head\n!pgrep -a xmrig\n!which hashcat aria2c",
    "asking a package index": "!apt search hashcat\n!pip download libtorrent --no-deps\n!apt-cache show openvpn",
    "asking for help": "!hashcat --help\n!transmission-daemon --help\n!openvpn --version",
    "a folder with a name": "!mkdir -p stable-diffusion-webui && cd stable-diffusion-webui",
    "a shared demo": "import gradio as gr\ngr.Interface(f, 'text', 'text').launch(share=True)",
    "tensorboard": "%load_ext tensorboard\n%tensorboard --logdir runs",
    "hashes in class": "import hashlib\nfor w in open('words.txt'):\n    print(hashlib.sha256(w.encode()).hexdigest())",
    "price analysis": "import yfinance as yf\nxmr = yf.download('XMR-USD')\nxmr['Close'].plot(title='Monero')",
    "an intrusion data set": "df = pd.read_csv('Friday-DDos.pcap_ISCX.csv')\ndf = df[df.Label != 'DoS Hulk']",
    "deepfake detection": "model = timm.create_model('xception', num_classes=2)\ntrain(model, 'FaceForensics++/c23', 'Celeb-DF')",
    "photo restoration": "!python inference_gfpgan.py -i old -o new -v 1.4 -s 2\n!git clone https://github.com/sczhou/CodeFormer",
    "face recognition": "from insightface.app import FaceAnalysis\napp = FaceAnalysis('buffalo_l')\nfaces = app.get(img)",
    "one's own data": "!rclone copy results mydrive:results -P\n!rsync -av out/ me@campus.example:out/",
    "a local server": "app.run(host='127.0.0.1', port=5000)\n!python -m http.server 8000 --bind 127.0.0.1",
    "a packet lesson": "from scapy.all import *\nsr1(IP(dst='192.0.2.1')/ICMP(), timeout=2)",
    "ssh as a client": "!ssh-keygen -t ed25519 -N '' -f key\n!git clone git@github.com:a/b.git\n!ssh me@campus.example ls",
    "a cluster's port": "!kubectl port-forward svc/api 8080:80 &\n!ssh -N -L 5432:db:5432 me@gateway.example",
    "an institution's proxy": "%env HTTPS_PROXY=http://proxy.example:3128\n!pip install --proxy $HTTPS_PROXY numpy",
    "weights by aria2": "!aria2c -x16 -s16 https://huggingface.co/a/b/resolve/main/model.safetensors",
    "a database": "import psycopg2\nconn = psycopg2.connect(host='db', port=5432)\nconn.cursor().execute('select 22')",
    "an R cell's words": "library(xmrig)\nprint('./xmrig -o stratum+tcp://x:1')",
    "detection research by its repository": "!git clone https://github.com/a/xmrig-detection\n!git clone https://github.com/a/slowloris-detection-ml",
    "password strength": "!git clone https://github.com/a/password-strength-classifier\nimport zxcvbn\nzxcvbn.zxcvbn('x')",
    "a stratum lesson": "import json\njson.loads('{\"method\": \"mining.notify\"}')\nprint('mining.subscribe')",
    "a load test of one's own": "!ab -n 10000 -c 100 http://127.0.0.1:8000/\n!hey -n 100 http://localhost:5000",
    "physics called ssh": "ssh = SuSchriefferHeeger(t1=1.0, t2=0.5)\nssh.hamiltonian(k)\nbands = ssh.run(100)",
    "a paper's code": "!git clone https://github.com/a/face-anti-spoofing\n%cd face-anti-spoofing\n!python train.py --epochs 3",
    "polling a sensor": "import time, requests\nwhile True:\n    rows.append(requests.get(url).json())\n    time.sleep(1)",
    "a bandit lesson": "import random\nrandom.choice(arms)\nclass Bot:\n    def run(self, x):\n        return x\nBot().run('hashcat -m 0')",
    "traffic data": "!wget https://example.org/ISCX-VPN-NonVPN-2016.zip\n!git clone https://github.com/a/vpn-traffic-classification",
    "a flask lesson": "from flask import Flask\napp = Flask(__name__)\napp.run()",
    "a virtual display": "!Xvfb :1 -screen 0 1024x768x24 &\n!apt-get install -y xvfb python-opengl ffmpeg",
    "an experiment called start.py": "!python start.py train --lr 0.1\n!python runner.py GET_features --out f.csv",
}


@pytest.mark.parametrize("case", HARMLESS.values(), ids=HARMLESS.keys())
def test_harmless_work_is_left_alone(case: str) -> None:
    assert _grave(ENGINE.scan(case)) == []


# The same act behind usual disguises: each must be seen as what it is.
DISGUISED = {
    "joined strings": ('import os\nos.system("./xm" + "rig -o po" + "ol.example.org:3333 -u W")', "mining"),
    "base64 and exec": (
        "import base64\nexec(base64.b64decode('aW1wb3J0IG9zO29zLnN5c3RlbSgiLi94bXJpZyAtbyBhOjEgLXUgYiIp'))",
        "mining",
    ),
    "hex and getattr": (
        "getattr(__import__('so'[::-1]), 'sys' + 'tem')(bytes.fromhex('2f7573722f7362696e2f73736864202d44').decode())",
        "remote-access",
    ),
    "rot13": (
        "import codecs, os\nos.system(codecs.decode('unfupng -z 0 -n 0 u.gkg j.gkg', 'rot13'))",
        "password-cracking",
    ),
    "a list of chr": (
        "import os\nos.system(''.join(chr(c) for c in [104,97,115,104,99,97,116,32,45,109,32,48,32,104,46,116,120,116]))",
        "password-cracking",
    ),
    "an f-string": ("pool = 'stratum+tcp://a.example:3'\n!./worker -o {pool} -u w", "mining"),
    "a shell variable": ("%%bash\nT=magnet:?xt=urn:btih:abc\naria2c --seed-time=0 $T", "p2p"),
    "wrappers": ("!sudo -E nohup timeout 3600 nice -n 5 env A=b ./xmrig -o pool.example.org:1 -u w &", "mining"),
    "bash -c": ("!bash -c 'sudo /usr/sbin/sshd -D'", "remote-access"),
    "su and screen": ('!screen -dmS w bash -c "./xmrig -o pool.example.org:1 -u w"', "mining"),
    "quotes inside a word": ("!./xm''rig -o pool.example.org:3333 -u w", "mining"),
    "a backslash": ("!hash\\cat -m 0 h.txt w.txt", "password-cracking"),
    "Popen with a list": ("import subprocess as s\ns.Popen(['./v2ray', 'run'])", "proxy"),
    "split": ("from subprocess import Popen\nPopen('./v2ray run'.split())", "proxy"),
    "an alias": ("import os\nf = os.system\nf('hashcat -m 0 h.txt w.txt')", "password-cracking"),
    "a wrapper of one's own": (
        "import subprocess\ndef go(c):\n    subprocess.run(c, shell=True)\ngo('hashcat -m 0 h.txt w.txt')",
        "password-cracking",
    ),
    "python -c": ("!python3 -c \"import os; os.system('hashcat -m 0 h.txt w.txt')\"", "password-cracking"),
    "a cell that doesn't parse": ("print 'x'\nx = = 1\n!/usr/sbin/sshd -D", "remote-access"),
    "run_line_magic": ("get_ipython().run_line_magic('run', 'MHDDoS/start.py UDP 203.0.113.7:80 100 60')", "dos"),
    "a heredoc for bash": ("%%bash\nbash <<EOF\nhashcat -m 0 h.txt w.txt\nEOF", "password-cracking"),
    "a form and braces": ('cmd = "hashcat -m 0 -a 3 h.txt" #@param {type:"string"}\n!{cmd}', "password-cracking"),
    "a name that is bound anew later": (
        "tool = 'hashcat'\n!{tool} -m 0 h.txt\ntool = 'ls'\nx = !{tool}",
        "password-cracking",
    ),
    "a name that its own line binds": ("cmd = 'hashcat -m 0 h.txt'\ncmd = !{cmd}", "password-cracking"),
    "a tool in braces": ("tool = 'hashcat'\n!{tool} -m 0 h.txt", "password-cracking"),
    "an expression in braces": ("!{'hash' + 'cat'} -m 0 -a 3 h.txt", "password-cracking"),
    "this Python in braces": (
        "import sys\n!{sys.executable} -c \"import os; os.system('hashcat -m 0 h')\"",
        "password-cracking",
    ),
    "the environment": ("import os\nos.environ['CMD'] = 'hashcat -m 0 h.txt'\n!$CMD", "password-cracking"),
    "%env": ("%env CMD=hashcat -m 0 h.txt\n!$CMD", "password-cracking"),
    "the environment in Python": (
        "import os\nos.environ['C'] = 'hashcat -m 0 h.txt'\nos.system(os.environ.get('C'))",
        "password-cracking",
    ),
    "a byte order mark": ("\ufeff%%bash\nhashcat -m 0 h.txt", "password-cracking"),
    "old Mac lines": ("import os\r!hashcat -m 0 h.txt\r", "password-cracking"),
    "Windows lines": ("%%bash\r\nhashcat -m 0 \\\r\n h.txt\r\n", "password-cracking"),
    "%%bash --bg": ("%%bash --bg\nhashcat -m 0 h.txt", "password-cracking"),
    "%%capture above %%bash": ("%%capture out\n%%bash\nhashcat -m 0 h.txt", "password-cracking"),
    "an indented line": ("for i in range(3):\n    if i:\n        !hashcat -m 0 h{i}.txt", "password-cracking"),
    "a list that grows": (
        "import subprocess\nc = ['hashcat']\nc += ['-m', '0']\nsubprocess.run(c)",
        "password-cracking",
    ),
    "a list with a star": ("import subprocess\nc = ['-m', '0']\nsubprocess.run(['hashcat', *c])", "password-cracking"),
    "a list in a list": ("import subprocess\nsubprocess.run(['hashcat -m 0 h.txt'], shell=True)", "password-cracking"),
    "a loop over commands": (
        "import os\nfor c in ['ls', 'hashcat -m 0 h.txt']:\n    os.system(c)",
        "password-cracking",
    ),
    "a thread": (
        "import os, threading\nthreading.Thread(target=os.system, args=('hashcat -m 0 h.txt',)).start()",
        "password-cracking",
    ),
    "map": ("import os\nlist(map(os.system, ['hashcat -m 0 h.txt']))", "password-cracking"),
    "an annotated name": ("import os\nc: str = 'hashcat -m 0 h.txt'\nos.system(command=c)", "password-cracking"),
    "find -exec": ("!find . -name h.txt -exec hashcat -m 0 {} ;", "password-cracking"),
    "conda run": ("!conda run -n x hashcat -m 0 h.txt", "password-cracking"),
    "unshare and strace": ("!unshare -n strace -f hashcat -m 0 h.txt", "password-cracking"),
    "base64 into a shell": ("!echo aGFzaGNhdCAtbSAwIC1hIDMgaC50eHQ= | base64 -d | bash", "password-cracking"),
    "perl": ("%%perl\nsystem('hashcat -m 0 h.txt');", "password-cracking"),
    "renamed main.py": ("!python x.py go --training-data-src-dir a --training-data-dst-dir b", "deepfake"),
}


@pytest.mark.parametrize(("case", "category"), DISGUISED.values(), ids=DISGUISED.keys())
def test_a_disguise_does_not_hide_the_act(case: str, category: str) -> None:
    assert category in {f.category for f in ENGINE.scan(case) if f.level is Level.STOP}


def test_a_shell_kernel_s_cell_is_shell() -> None:
    assert _grave(ENGINE.scan("hashcat -m 0 -a 0 hashes.txt words.txt", "bash")) == [
        "password-cracking-hashcat",
        "password-cracking-tool-used",
    ]
    assert ENGINE.scan("hashcat -m 0 -a 0 hashes.txt words.txt", "python") == ()


def test_another_language_s_shell_call_is_read() -> None:
    assert "password-cracking-hashcat" in _grave(ENGINE.scan('system("hashcat -m 0 h.txt w.txt")', "R"))


def test_code_that_is_only_written_to_a_file_never_stops() -> None:
    """It is known, but nobody has seen it run."""
    findings = ENGINE.scan("%%writefile run.sh\n./xmrig -o stratum+tcp://pool.example.org:3333 -u w")
    assert findings
    assert max(f.level for f in findings) is Level.WARN
