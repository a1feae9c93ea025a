"""The settings: defaults that work, and errors that say what to do."""

from pathlib import Path

import pytest

from mutirao import config, reference
from mutirao.errors import ConfigError

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"


def write(folder: Path, text: str) -> Path:
    path = folder / "mutirao.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, "")) == config.load(None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[service]\nprot = 1", "service.prot in mutirao.toml is not a setting; the nearest one is port."),
        ("[servce]\nport = 1", "servce in mutirao.toml is not a setting; the nearest one is service."),
        ("[sizes.a]\ntitle = {en = 'A'}\nmemory_mb = 512\ncpu = 1\ncpus = 1", "sizes.a.cpu in mutirao.toml is not a setting; the nearest one is cpus."),
        ("[service]\nport = 'http'", "service.port is 'http' in mutirao.toml: must be"),
        ("[service]\nport = 70000", "service.port is 70000 in mutirao.toml: must be less than or equal to 65535."),
        ("[service]\ndata = 'here'", "service.data is 'here' in mutirao.toml: must be an absolute path."),
        ("[service]\npublic_url = 'example.org'", "must start with http:// or https://"),
        ("[service]\nsubdomain_host = 'hub.example'", "must be https://HOST or https://HOST:PORT, without a path"),
        ("[service]\nsubdomain_host = 'https://hub.example/x'", "without a path"),
        ("[service]\nsubdomain_host = 'https://a@hub.example'", "without a path"),
        ("[service]\nsubdomain_host = 'https://hub.example:x'", "without a path"),
        ("[service]\nsubdomain_host = 'https://10.0.0.1'", "an address has no subdomains"),
        ("[service]\nsubdomain_host = 'https://[::1]:80'", "an address has no subdomains"),
        ("[service]\nsubdomain_host = 'https://a.example'\npublic_url = 'https://b.example'", "the same in public_url and subdomain_host"),
        ("[tls]\ncert = '/x'", "both cert and key, or neither"),
        ("[tls]\ncert = '/x'\nkey = '/y'\nbehind_proxy = true", "either cert and key, or behind_proxy"),
        ("[tls]\nredirect_port = 80", "cert and key where redirect_port is set"),
        ("[tls]\ntrusted_proxies = ['caddy']", "tls.trusted_proxies is ['caddy']"),
        ("[sandbox]\nsubnet = '8.8.0.0/16'", "must be a private IPv4 range of /24 or wider"),
        ("[sandbox]\nsubnet = 'ten'", "sandbox.subnet is 'ten'"),
        ("[sizes.a]\ntitle = {en = 'A'}\nmemory_mb = -1\ncpus = 1", "sizes.a.memory_mb is -1"),
        ("[sizes.a]\ntitle = {en = 'A'}\ncpus = 1", "sizes.a.memory_mb is missing in mutirao.toml"),
        ("[sizes.a]\ntitle = {}\nmemory_mb = 512\ncpus = 1", "must name at least the English title"),
        ("[sandbox]\nallow = ['nonsense']", "sandbox.allow is ['nonsense']"),
        ("[sandbox]\nallow = ['10.0.0.0/8:x']", "CIDR:port"),
        ("[sandbox]\ndns_servers = ['x']", "sandbox.dns_servers is ['x']"),
        ("[sandbox]\ntcp_ports = [0]", "must be greater than or equal to 1"),
        ("[service]\nport = 0", "service.port is 0"),
        ("[sizes]\n", "sizes in mutirao.toml: needs at least one entry."),
        ("[login]\nkind = 'class'", "needs class_name"),
        ("[login]\nkind = 'magic'", "login.kind is 'magic'"),
        ("port = = 1", "is not valid TOML"),
        ("\udcff", "is not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_setting_says_which_value_and_what_to_do(tmp_path: Path, text: str, said: str | None) -> None:
    path = tmp_path / "mutirao.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigError) as caught:
        config.load(path)

    assert said is None or said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[login]\nkind = 'class'\noptions = {client_secret = 'hunter2'}",
        "[login]\noptions = 'hunter2'",
        "[metrics]\ntoken = 'hunter2'",
        "[store]\nurl = 'mysql://me:hunter2@host/x'",
        "[store]\nurl = 'postgresql://me:hunter2@host/x'\nhub_url = 'postgresql://me:hunter2@host/x'",
    ],
)
def test_what_is_said_of_a_wrong_setting_repeats_no_secret(tmp_path: Path, text: str) -> None:
    """It is printed, and kept in the journal of the machine."""
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, text))

    assert "hunter2" not in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        config.load(tmp_path / "none.toml")


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "[service]\nport = 1234\nhost = '::1'")

    settings = config.load(path, {"service": {"port": 5678}})

    assert (settings.service.port, settings.service.host) == (5678, "::1")
    assert settings.public_url == "http://[::1]:5678"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Hub.Example/", "https://hub.example"),
        ("https://hub.example:443", "https://hub.example"),
        ("http://hub.example:80", "http://hub.example"),
        ("https://hub.example:8443", "https://hub.example:8443"),
        ("https://hub.example:80", "https://hub.example:80"),
    ],
)
def test_the_hubs_origin_is_written_as_browsers_write_it(given: str, kept: str) -> None:
    settings = config.load(None, {"service": {"subdomain_host": given}})
    assert settings.service.subdomain_host == kept
    assert settings.public_url == settings.origins.hub == kept


def test_show_masks_secrets_and_can_be_loaded_again(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[login]\nkind = "class"\nclass_name = "a.B"\n[login.options]\nclient_secret = "s3cret"\nx = 1'
    )

    shown = config.show(config.load(path))

    assert "s3cret" not in shown
    again = config.load(write(tmp_path, shown))
    assert again.login.options["x"] == 1


def test_an_option_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        tmp_path, '[login]\nkind = "class"\nclass_name = "a.B"\noptions = { client_secret = { env = "MUTIRAO_X" } }'
    )
    login = config.load(path).login

    with pytest.raises(ConfigError, match="MUTIRAO_X, which is not set"):
        login.resolved_options()
    monkeypatch.setenv("MUTIRAO_X", "found")
    assert login.resolved_options() == {"client_secret": "found"}


def test_the_reference_page_is_up_to_date() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference.page(), "run ./run docs"
