"""A certificate is checked before it is used, and copied to where only the proxy's uid can read the key."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mutirao import config
from mutirao.certificate import Certificate
from mutirao.errors import ConfigError
from tests.flows.certificates import make


def certificate(folder: Path, *hosts: str, days: int = 60) -> Certificate:
    cert, key = make(folder, *hosts, days=days)
    return Certificate(cert, key, hosts=("hub.example", "*.hub.example"))


def test_a_good_pair_needs_no_word(tmp_path: Path) -> None:
    assert certificate(tmp_path, "hub.example", "*.hub.example").check() == ()


@pytest.mark.parametrize(
    ("hosts", "days", "said"),
    [
        (("hub.example",), 60, "does not name *.hub.example"),
        (("other.example",), 60, "does not name hub.example and *.hub.example"),
        ((), 60, "does not name hub.example and *.hub.example"),
        (("hub.example", "*.hub.example"), 3, "lapses on "),
    ],
)
def test_what_will_trouble_browsers_is_said(tmp_path: Path, hosts: tuple[str, ...], days: int, said: str) -> None:
    (word,) = certificate(tmp_path, *hosts, days=days).check()
    assert word.startswith(said)


def test_a_lapsed_one_is_refused(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "hub.example", "*.hub.example", days=60)
    with pytest.raises(ConfigError, match=r"lapsed on \d{4}-\d\d-\d\d: renew it"):
        pair.check(datetime.now(UTC) + timedelta(days=61))


def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "hub.example")
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other", "hub.example")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no PEM")
    for cert, key in ((pair.cert, other.key), (nonsense, pair.key), (pair.cert, nonsense), (pair.key, pair.cert)):
        with pytest.raises(ConfigError, match="no pair of certificate and unencrypted key"):
            Certificate(cert, key).check()
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        Certificate(pair.cert, tmp_path / "none").check()


def test_the_copy_is_the_proxys_alone_and_follows_a_renewal(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "hub.example")
    copy, uid = tmp_path / "copy", os.geteuid()
    assert pair.install(copy, uid) == ["--ssl-key", str(copy / "key.pem"), "--ssl-cert", str(copy / "cert.pem")]
    assert (copy / "key.pem").stat().st_mode & 0o777 == 0o400
    assert copy.stat().st_mode & 0o777 == 0o710
    assert pair.installed(copy)

    certificate(tmp_path, "hub.example")
    assert not pair.installed(copy)
    pair.install(copy, uid)
    assert pair.installed(copy)

    pair.cert.unlink()  # in the middle of a renewal nothing is to be done yet
    assert pair.installed(copy)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_uid_than_the_proxys_can_not_read_the_key(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "hub.example")
    pair.install(tmp_path / "copy", 1234)
    found = (tmp_path / "copy" / "key.pem").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (1234, 0o400)
    assert (tmp_path / "copy").stat().st_uid == 0


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "hub.example")
    copy, victim = tmp_path / "copy", tmp_path / "victim"
    copy.mkdir()
    victim.write_text("untouched")
    (copy / "key.new").symlink_to(victim)
    pair.install(copy, os.geteuid())
    assert victim.read_text() == "untouched"


def test_the_settings_name_the_hosts(tmp_path: Path) -> None:
    cert, key = make(tmp_path, "hub.example")
    tables = {
        "service": {"subdomain_host": "https://hub.example"},
        "tls": {"cert": str(cert), "key": str(key), "redirect_port": 80},
    }
    found = Certificate.of(config.load(None, tables))
    assert found.hosts == ("hub.example", "*.hub.example")
    assert found.install(tmp_path / "copy", os.geteuid())[-2:] == ["--redirect-port", "80"]
