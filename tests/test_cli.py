"""Every command explains itself; data goes to standard output, one clear message to standard error."""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from mutirao import cli, config
from mutirao.accounts import accounts
from mutirao.instance import open_store
from mutirao.store import audit, heads

ROOT = Path(__file__).parents[1]
COMMANDS = [
    (),
    ("up",),
    ("doctor",),
    ("config",),
    ("config", "show"),
    ("config", "check"),
    ("config", "reference"),
    ("env",),
    ("env", "list"),
    ("env", "build"),
    ("env", "add"),
    ("env", "remove"),
    ("policy",),
    ("policy", "list"),
    ("policy", "adopt"),
    ("audit",),
    ("audit", "verify"),
    ("case",),
    ("case", "list"),
    ("case", "show"),
    ("rule",),
    ("rule", "list"),
    ("sanction",),
    ("sanction", "list"),
    ("sanction", "lift"),
    ("incident",),
    ("incident", "list"),
    ("incident", "reverse"),
    ("incident", "confirm"),
    ("exemption",),
    ("exemption", "list"),
    ("exemption", "grant"),
    ("exemption", "refuse"),
    ("audit", "heads"),
    ("audit", "key"),
    ("forget",),
    ("backup",),
    ("restore",),
    ("upgrade",),
    ("install",),
    ("uninstall",),
    ("invite",),
    ("scan",),
    ("rules",),
    ("rules", "list"),
    ("rules", "test"),
    ("rules", "explain"),
]


def run(*arguments: str, cwd: Path | None = None, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it."""
    return subprocess.run(
        [*before, sys.executable, "-m", "mutirao", *arguments],
        env=os.environ | {"PYTHONPATH": os.environ.get("MUTIRAO_APP", str(ROOT / "src"))},
        cwd=cwd or "/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one message of a command that failed."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("mutirao: ")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])

    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: mutirao {' '.join(command)}".rstrip())
    assert len(out.splitlines()) >= 4


def test_no_command_is_missing_from_this_table() -> None:
    def walk(parser: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        groups = [action for action in parser._actions if hasattr(action, "_name_parser_map")]  # type: ignore[attr-defined]
        return [
            path,
            *(
                found
                for group in groups
                for name, inner in group.choices.items()
                for found in walk(inner, (*path, name))
            ),
        ]

    assert sorted(walk(cli._parser(), ())) == sorted(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [(), ("absent",), ("up", "--port", "many"), ("policy", "adopt", "2"), ("env", "add", "x"), ("--absent",)],
)
def test_a_command_that_is_none_is_refused_with_its_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: mutirao")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_what_config_show_prints_loads_again(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        f'[service]\nport = 9000\ncontact = "help@example.org"\ndata = "{tmp_path}"\n'
        '[login]\noperators = ["ana"]\n[sizes.tiny]\ntitle = { en = "Tiny", pt-BR = "Mínimo" }\nmemory_mb = 512\ncpus = 0.5\n'
    )
    shown = run("config", "show", "--config", str(mine))
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout)

    assert config.load(again) == config.load(mine)


def test_config_show_masks_secrets_and_shows_the_command_line(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[login]\nkind = "class"\nclass_name = "oauthenticator.github.GitHubOAuthenticator"\n'
        '[login.options]\nclient_id = "abc"\nclient_secret = "do-not-print-me"\n'
    )
    done = run("config", "show", "--config", str(mine), "--port", "9001", "--data", "relative")

    assert "do-not-print-me" not in done.stdout + done.stderr
    values = tomllib.loads(done.stdout)
    assert values["service"]["port"] == 9001
    assert values["service"]["data"] == "/relative"
    assert values["login"]["options"]["client_id"] == "abc"


def test_mutirao_toml_of_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "mutirao.toml").write_text("[service]\nport = 9002\n")

    assert tomllib.loads(run("config", "show", cwd=tmp_path).stdout)["service"]["port"] == 9002


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[service]\nprt = 1\n", ("service.prt", "port")),
        ("[sevice]\nport = 1\n", ("sevice", "service")),
        ('[service]\nport = "many"\n', ("service.port", "'many'")),
        ("[service]\nport = 99999\n", ("service.port", "99999")),
        ("service = 7\n", ("service", "7")),
        ("[service\n", ("not valid TOML",)),
        ("\udcff", ("not valid TOML",)),
        ("[login]\nkind = 'class'\n", ("class_name",)),
        ("[sizes]\n", ("sizes", "at least one")),
        ('[sizes.BAD]\ntitle = { en = "x" }\nmemory_mb = 512\ncpus = 1\n', ("BAD",)),
        ('[sizes.tiny]\ntitle = { en = "x" }\ncpus = 1\n', ("sizes.tiny.memory_mb", "missing")),
        ('[sandbox]\nsubnet = "8.8.8.0/24"\n', ("sandbox.subnet", "private")),
        ('[sandbox]\nsubnet = "10.1.2.3/16"\n', ("sandbox.subnet",)),
    ],
)
def test_a_wrong_configuration_is_one_clear_message(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    file = tmp_path / "mutirao.toml"
    file.write_bytes(content.encode(errors="surrogateescape"))

    said = refusal(run("config", "check", "--config", str(file)))

    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("env", "build", "absent"), ("'absent'", "base")),
        (("env", "build", "../x"), ("'../x'",)),
        (("env", "remove", "base"), ("'base'", "added here")),
        (("env", "add", "Bad Name", "requirements.txt"), ("'Bad Name'", "small letters")),
        (("env", "add", "mine", "absent.txt"), ("absent.txt",)),
        (("policy", "adopt", "99", "--now", "--by", "us", "--reason", "why"), ("database",)),
        (("policy", "list"), ("database",)),
        (("audit", "verify"), ("database",)),
        (("audit", "heads"), ("heads.jsonl", "No such file")),
        (("audit", "key"), ("key.pub", "first start")),
        (("audit", "verify", "--heads", "/nonexistent/heads"), ("no key",)),
        (("audit", "verify", "--heads", "/dev/null", "--key", "x"), ("no public key", "mutirao audit key")),
        (("forget", "ana"), ("database",)),
        (("backup", "b.tar.gz"), ("no data folder",)),
        (("upgrade",), ("no data folder",)),
        (("restore", "/nonexistent/b.tar.gz"), ("/nonexistent/b.tar.gz",)),
        (("restore", "/etc/hostname"), ("damaged or no backup",)),
        (("install", "--prefix", "/proc/nonexistent"), ("/proc/nonexistent", "can't be written")),
        (("invite", "--days", "0"), ("0 days",)),
        (("invite", "--days", "99999999"), ("99999999 days",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_can_not_be_done_is_one_clear_message(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = refusal(run(*arguments, "--data", str(tmp_path / "data")))

    assert all(word in said for word in words), said


@pytest.mark.skipif(os.geteuid() != 0, reason="steps down from root")
def test_an_invite_without_root_says_what_is_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    said = refusal(
        run("invite", "--data", "/root/absent", before=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    )

    assert "Permission denied" in said


def test_an_invite_is_a_link_that_the_hubs_own_user_can_read() -> None:
    # Not pytest's tmp_path: that is 0700, and root steps down to the hub's user.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        data = Path(place)
        data.chmod(0o711)
        done = run("invite", "--data", str(data))

        assert done.stdout.startswith("http://127.0.0.1:8000/hub/signup?invite"), done.stderr
        (written,) = (data / "hub" / "invites").glob("*.invite")
        assert os.geteuid() != 0 or written.stat().st_uid == 1_999_998
        assert written.stat().st_mode & 0o077 == 0


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A data folder whose store stands, as after a first start."""
    data = tmp_path / "data"
    (data / "store").mkdir(parents=True)
    for folder in (*list(data.parents)[:4], data, data / "store"):
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    settings = config.Settings.model_validate({"service": {"data": data}})
    if os.geteuid() == 0:
        os.chown(data / "store", accounts(settings).gate.uid, -1)
    with open_store(settings) as store:
        store.migrate()
    return data


def acts(data: Path) -> list[tuple[str, str]]:
    """Acts and who did them."""
    with open_store(config.Settings.model_validate({"service": {"data": data}})) as store, store.read() as session:
        assert audit.verify(audit.entries(session)) is None
        return [(entry.act, entry.actor) for entry in audit.entries(session)]


@pytest.mark.skipif(os.geteuid() != 0, reason="the store belongs to the service's own user")
def test_what_administrators_do_stands_in_the_audit(started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "olga")
    data = ("--data", str(started))
    for arguments in (
        ("invite",),
        ("policy", "adopt", "2", "--now", "--by", "the board", "--reason", "why"),
        ("backup", str(started.parent / "b.tar.gz")),
        ("forget", "nobody"),
    ):
        assert run(*arguments, *data).returncode == 0, arguments

    assert acts(started) == [
        ("invite.issue", "cli:olga"),
        ("policy.adopt", "the board"),
        ("service.backup", "cli:olga"),
    ]
    assert run("audit", "verify", *data).stdout == "3 entries, all in order.\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the store belongs to the service's own user")
def test_a_database_s_files_stay_the_service_s(started: Path) -> None:
    uid = (started / "store").stat().st_uid
    for arguments in (("invite",), ("audit", "verify"), ("policy", "list")):
        run(*arguments, "--data", str(started))

    assert {path.stat().st_uid for path in (started / "store").iterdir()} == {uid}


@pytest.mark.skipif(os.geteuid() != 0, reason="the store belongs to the service's own user")
def test_verify_uses_heads_and_key_and_finds_a_tail_that_is_gone(started: Path) -> None:
    data = ("--data", str(started))
    for _ in range(2):
        run("invite", *data)
    key = heads.Key.make(started / "mine")
    settings = config.Settings.model_validate({"service": {"data": started}})
    with open_store(settings) as store, store.read() as session:
        last = list(audit.entries(session))[-1]
    file = started / "heads.jsonl"
    heads.append(file, key.sign(last.id, last.hash, last.at))
    checked = ("audit", "verify", "--heads", str(file), "--key", key.public, *data)

    assert "1 signed heads" in run(*checked).stdout
    assert run("audit", "heads", "--heads", str(file), *data).stdout.startswith("2\t")
    with open_store(settings) as store, store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE id = 2")
    assert "entry 2 is missing" in refusal(run(*checked))


@pytest.mark.parametrize(
    ("store_table", "words"),
    [
        ('url = "mysql://x/y"', ("store.url", "postgresql://")),
        ('url = { variable = "X" }', ("store.url",)),
        ('url = "postgresql://a:secret@h/x"\nhub_url = "postgresql://a:secret@h/x"', ("database of its own",)),
        ('url = { env = "MUTIRAO_NOT_SET" }', ("MUTIRAO_NOT_SET", "not set")),
    ],
)
def test_a_wrong_database_is_said_without_its_password(
    tmp_path: Path, store_table: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "mutirao.toml"
    file.write_text(f"[store]\n{store_table}\n")
    said = refusal(run("config", "check", "--config", str(file)))

    assert all(word in said for word in words), said
    assert "secret" not in said


def test_config_show_masks_a_database_s_password(tmp_path: Path) -> None:
    file = tmp_path / "mutirao.toml"
    file.write_text(
        '[store]\nurl = "postgresql://mutirao:do-not-print@db/x"\nhub_url = { env = "HUB_DATABASE" }\n'
        '[metrics]\ntoken = { env = "SCRAPE" }\n'
    )
    shown = run("config", "show", "--config", str(file)).stdout

    assert "do-not-print" not in shown
    values = tomllib.loads(shown)
    assert values["store"] == {"url": "postgresql://mutirao:**********@db/x", "hub_url": {"env": "HUB_DATABASE"}}
    assert values["metrics"] == {"token": {"env": "SCRAPE"}}


def test_a_reader_that_leaves_is_no_error() -> None:
    """`mutirao config show | head -1`."""
    command = f"'{sys.executable}' -m mutirao config reference | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "# Configuration\n"
    assert done.stderr == ""
