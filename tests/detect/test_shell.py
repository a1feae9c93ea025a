"""Shell is read as commands with their arguments, whatever they are wrapped in."""

import pytest

from mutirao.detect.fact import Fact, Kind
from mutirao.detect.source.reader import read


def _commands(code: str) -> list[str]:
    return [f.text for f in read(code, "bash").of(Kind.COMMAND)]


def _names(code: str, kind: Kind) -> list[str]:
    return [f.names[0] for f in read(code, "bash").of(kind)]


WRAPPED = [
    ("sudo ./a -x", "./a -x"),
    ("sudo -u nobody ./a -x", "./a -x"),
    ("env A=1 B=2 ./a -x", "./a -x"),
    ("A=1 nohup setsid ./a -x &", "./a -x"),
    ("timeout -s KILL 60 ./a -x", "./a -x"),
    ("nice -n 10 ionice -c 3 ./a -x", "./a -x"),
    ("bash -lc './a -x'", "./a -x"),
    ("su - user -c './a -x'", "./a -x"),
    ("screen -dmS name ./a -x", "./a -x"),
    ("tmux new-session -d -s n './a -x'", "./a -x"),
    ("eval './a -x'", "./a -x"),
    ("(cd /tmp && ./a -x)", "./a -x"),
    ("if true; then ./a -x; fi", "./a -x"),
    ("while :; do ./a -x; done", "./a -x"),
    ("f() { ./a -x; }", "./a -x"),
    ("echo $(./a -x)", "./a -x"),
    ("X=-x; ./a $X", "./a -x"),
    ('X=a; ./"$X" -x', "./a -x"),
    ("export X='-x'\n./a ${X}", "./a -x"),
    ("./a \\\n  -x", "./a -x"),
    ("./'a' \"-x\"", "./a -x"),
    ("./a -x > log 2>&1", "./a -x"),
    ("./a -x | tee log", "./a -x"),
    ("cat <<EOF | ./a -x\nhello\nEOF", "./a -x"),
    ("echo './a -x' | sh", "./a -x"),
]


@pytest.mark.parametrize(("code", "command"), WRAPPED)
def test_the_command_under_its_wrapping_is_seen(code: str, command: str) -> None:
    assert command in _commands(code)


def test_a_comment_and_a_heredoc_for_a_file_run_nothing() -> None:
    assert _commands("# ./a -x") == []
    assert _commands("cat > f.txt <<EOF\n./a -x\nEOF") == ["cat"]


def test_a_heredoc_is_what_is_written() -> None:
    (fact,) = read("cat > conf.ini <<EOF\nwallet = 1\nEOF", "bash").of(Kind.WRITES)
    assert (fact.names, fact.text.strip(), fact.line) == (("conf.ini",), "wallet = 1", 2)


def test_a_line_echoed_into_a_file_is_what_is_written() -> None:
    (fact,) = read('echo "PermitRootLogin yes" >> /etc/ssh/sshd_config', "bash").of(Kind.WRITES)
    assert fact.names == ("/etc/ssh/sshd_config",)
    assert "PermitRootLogin yes" in fact.text


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("pip install -q Foo_Bar==1.2 baz", ["pip:foo-bar", "pip:baz"]),
        ("python3 -m pip install foo", ["pip:foo"]),
        ("apt-get -qq install -y foo bar", ["apt:foo", "apt:bar"]),
        ("npm i -g foo", ["npm:foo"]),
        ("docker run --rm -p 1:2 owner/image:latest", ["docker:owner/image"]),
        ("pip download foo", []),
        ("apt search foo", []),
        ("pip show foo", []),
    ],
)
def test_an_installed_package_is_a_fact_and_a_sought_one_is_not(code: str, names: list[str]) -> None:
    assert _names(code, Kind.INSTALL) == names


@pytest.mark.parametrize(
    "code",
    [
        "git clone https://github.com/Owner/Repo.git",
        "git clone --depth 1 https://github.com/owner/repo dest",
        "git clone git@github.com:owner/repo.git",
        "pip install git+https://github.com/owner/repo.git@main",
        "gh repo clone owner/repo",
        "O=owner; git clone https://github.com/$O/repo",
    ],
)
def test_a_fetched_repository_is_known_by_owner_and_name(code: str) -> None:
    (fact,) = read(code, "bash").of(Kind.CLONE)
    assert fact.names == ("repo", "owner/repo")


@pytest.mark.parametrize(
    ("code", "run"),
    [
        ("curl -sL https://x.example/a.sh | bash", True),
        ("curl -sL https://x.example/a.sh | sudo bash -s -- arg", True),
        ('bash -c "$(curl -fsSL https://x.example/a.sh)"', True),
        ("bash <(curl -s https://x.example/a.sh)", True),
        ("curl -s https://x.example/a.json | python -m json.tool", False),
        ("wget https://x.example/a.sh", False),
    ],
)
def test_a_download_that_is_run_at_once_is_told_apart(code: str, run: bool) -> None:
    facts: list[Fact] = [f for f in read(code, "bash").of(Kind.DOWNLOAD) if "x.example" in f.text]
    assert facts
    assert any("run" in f.names for f in facts) is run


def test_asking_a_program_about_itself_is_no_command() -> None:
    assert _commands("./a --help; ./b --version; ./c -h") == []


def test_lines_count_from_one() -> None:
    assert [f.line for f in read("true\n\n./a\n", "bash").of(Kind.COMMAND)] == [1, 3]
