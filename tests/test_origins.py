"""Where hub, pages and members are seen from outside, and that no two members share a host."""

import itertools
import re
from pathlib import Path

import pytest

from mutirao import config
from mutirao.errors import ConfigError
from mutirao.origins import RESERVED, Origins, is_loopback, origins, subdomain
from mutirao.reach import examine, need_origins, unencrypted

HOST = "hub.example"
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def settings(**tables: dict[str, object]) -> config.Settings:
    return config.load(None, tables)


def test_with_a_subdomain_host_everybody_is_apart() -> None:
    found = origins("https://hub.example:8443")
    assert found == Origins("https://hub.example:8443", "https://mutirao--service.hub.example:8443", "hub.example")
    assert found.members == "https://*.hub.example:8443"
    assert (found.apart, found.secure) == (True, True)
    assert (found.to_hub, found.to_pages) == (found.hub, found.pages)


def test_without_one_links_stay_relative() -> None:
    found = origins("", "https://hub.example/")
    assert (found.to_hub, found.to_pages, found.members, found.domain) == ("", "", "", "")
    assert (found.hub, found.pages, found.secure) == ("https://hub.example", "https://hub.example", True)


NAMES = (
    "ana", "Ana", "ANA", "a.b", "a-b", "a_b", "ab", "-ana", "ana-", "123", "1a", "é", "josé", "jose", "JOSÉ", "ана", "аna",
    "a@b.org", "a b", "a+b", "a%b", "x" * 63, "x" * 64, "x" * 255, "🦜", "🦜" * 100, "xn--jos-dma", "u-ana--abc", "mutirao--service",
    "mutirao", "..x", ".", "..", "u-x", "a--b", "a&b", "o'neil", "ß", "ss", "ﬁ", "fi", "İ", "i̇", *sorted(RESERVED),
)  # fmt: skip


def test_every_name_has_a_host_and_no_two_share_one() -> None:
    hosts = {name: subdomain(name, HOST, "user") for name in NAMES}
    for name, host in hosts.items():
        label, dot, domain = host.partition(".")
        assert (dot, domain) == (".", HOST), name
        assert LABEL.fullmatch(label), (name, label)
    assert len(set(hosts.values())) == len(NAMES)


@pytest.mark.parametrize("name", ["ana", "a-b", "1a", "x" * 63])
def test_a_plain_name_is_its_own_host(name: str) -> None:
    assert subdomain(name, HOST, "user") == f"{name}.{HOST}"


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_nobody_gets_a_host_that_means_the_operator(name: str) -> None:
    assert subdomain(name, HOST, "user") != f"{name}.{HOST}"


def test_nobody_gets_the_pages_host() -> None:
    pages = subdomain("mutirao", HOST, "service")
    assert origins(f"https://{HOST}").pages == f"https://{pages}"
    assert pages not in {subdomain(name, HOST, "user") for name in NAMES}


def test_hosts_can_not_be_made_equal_by_trying() -> None:
    """JupyterHub's own 28 bits meet after some 20,000 names; a name that meets a given one takes minutes."""
    names = ["".join(letters) + ".x" for letters in itertools.product("abcdefgh", repeat=5)]
    assert len({subdomain(name, HOST, "user") for name in names}) == len(names)
    assert len(subdomain("a.b", HOST, "user").partition(".")[0].rpartition("--")[2]) == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "a.localhost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "hub.example", "localhost.example", "127.0.0.1.example"]
)
def test_everything_else_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "service",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.0.2.1"},
        {"host": "hub.example"},
        {"public_url": "https://hub.example"},
        {"host": "0.0.0.0", "public_url": "http://127.0.0.1:8000"},
    ],
)
def test_a_shared_origin_is_refused_where_others_come_in(service: dict[str, object]) -> None:
    with pytest.raises(
        ConfigError, match=r"service\.subdomain_host is not set.*could act as whoever.*shared_origin_accepted"
    ):
        need_origins(settings(service=service))
    need_origins(settings(service=service | {"shared_origin_accepted": True}))
    if "public_url" not in service:
        need_origins(settings(service=service | {"subdomain_host": "https://hub.example"}))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_one_origin_will_do(host: str) -> None:
    need_origins(settings(service={"host": host}))
    assert unencrypted(settings(service={"host": host})) == ""


def test_without_tls_it_says_so() -> None:
    service = {"host": "0.0.0.0", "subdomain_host": "http://hub.example"}
    assert "no TLS" in unencrypted(settings(service=service))
    assert unencrypted(settings(service=service, tls={"behind_proxy": True})) == ""


def states(**tables: dict[str, object]) -> dict[str, str]:
    return {check.name: str(check.state) for check in examine(settings(**tables))}


def test_the_doctor_says_what_is_missing(tmp_path: Path) -> None:
    assert states() == {"origins": "ok", "names": "ok", "tls": "ok"}
    assert states(service={"host": "0.0.0.0"})["origins"] == "lack"
    assert states(service={"host": "0.0.0.0", "shared_origin_accepted": True}) == {
        "origins": "note",
        "names": "ok",
        "tls": "note",
    }
    # .invalid never resolves (RFC 2606).
    apart = states(service={"subdomain_host": "https://hub.invalid"}, tls={"behind_proxy": True})
    assert apart == {"origins": "ok", "names": "note", "tls": "ok"}
    assert states(service={"subdomain_host": "http://hub.invalid"}, tls={"behind_proxy": True})["tls"] == "note"
    missing = {"cert": str(tmp_path / "none"), "key": str(tmp_path / "none")}
    assert states(tls=missing)["tls"] == "lack"
    assert states(service={"subdomain_host": "http://x.localhost:8000"})["names"] == "ok"
