"""The service starts from its environment, and says which variable is missing."""

import pytest

from mutirao.errors import ConfigError
from mutirao.web import __main__ as service

COMPLETE = {
    "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:1",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/mutirao/",
    "JUPYTERHUB_API_TOKEN": "token",
    "JUPYTERHUB_CLIENT_ID": "service-mutirao",
    "MUTIRAO_DATABASE": "sqlite://",
    "MUTIRAO_COOKIE_SECRET": "s" * 32,
    "MUTIRAO_ROLES": '{"reviewers": "staff"}',
    "MUTIRAO_CONTACT": "help@house.test",
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    calls: list[dict[str, object]] = []
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("uvicorn.run", lambda app, **given: calls.append(given))
    return calls


def test_it_listens_where_the_hub_looks_for_it(served: list[dict[str, object]]) -> None:
    assert service.main() == 0
    assert (served[0]["host"], served[0]["port"]) == ("127.0.0.1", 1)


@pytest.mark.parametrize(
    "name",
    [name for name in COMPLETE if name not in ("MUTIRAO_ROLES", "MUTIRAO_CONTACT")],
)
def test_a_missing_variable_is_named(
    served: list[dict[str, object]], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(name)
    assert service.main() == 2
    assert f"{name} is not set" in capsys.readouterr().err
    assert served == []


@pytest.mark.parametrize("url", ["127.0.0.1:80", "http://127.0.0.1", "/run/socket"])
def test_an_address_without_host_or_port_is_refused(served: list[dict[str, object]], url: str) -> None:
    with pytest.raises(ConfigError, match="must name host and port"):
        service.serve({**COMPLETE, "JUPYTERHUB_SERVICE_URL": url})


def test_a_short_secret_is_refused(served: list[dict[str, object]]) -> None:
    with pytest.raises(ConfigError, match="MUTIRAO_COOKIE_SECRET has 5 characters"):
        service.serve({**COMPLETE, "MUTIRAO_COOKIE_SECRET": "short"})
