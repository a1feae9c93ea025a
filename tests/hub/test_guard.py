"""`guard(c)` adds to what a hub's configuration holds already, and takes nothing away."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets.config import Config

from mutirao.errors import ConfigError
from mutirao.gate.shard import split_urls
from mutirao.hub.guard import guard
from mutirao.hub.proxy import Guarded

PAGES = "access:services!service=mutirao"


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """`guard` hands the gate's secret to the proxy class by the hub's environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def guarded(c: Config, tmp_path: Path, **options: Any) -> Config:
    guard(c, database=f"sqlite:///{tmp_path / 'mutirao.sqlite'}", **options)
    return c


def role(c: Config, name: str) -> dict[str, list[str]]:
    found = [one for one in c.JupyterHub.load_roles if one["name"] == name]
    assert len(found) == 1
    return found[0]


def pages_url(c: Config) -> str:
    gate = next(one for one in c.JupyterHub.services if one["name"] == "mutirao-gate")
    return str(gate["environment"]["MUTIRAO_PAGES_URL"])


def test_an_empty_configuration_is_guarded(tmp_path: Path) -> None:
    c = guarded(Config(), tmp_path)

    assert issubclass(c.JupyterHub.proxy_class, Guarded)
    assert issubclass(c.JupyterHub.proxy_class, ConfigurableHTTPProxy)
    assert [one["name"] for one in c.JupyterHub.services] == ["mutirao", "mutirao-gate", "mutirao-warden"]
    assert role(c, "user")["scopes"] == ["self", PAGES]


def test_what_was_assigned_stays(tmp_path: Path) -> None:
    c = Config()
    c.JupyterHub.services = [{"name": "cull"}]
    c.JupyterHub.load_roles = [
        {"name": "cull", "scopes": ["list:users"]},
        {"name": "user", "scopes": ["self", "shares"]},
    ]
    c.JupyterHub.extra_handlers = [("/x", object)]
    guarded(c, tmp_path)

    assert [one["name"] for one in c.JupyterHub.services] == ["cull", "mutirao", "mutirao-gate", "mutirao-warden"]
    assert role(c, "cull")["scopes"] == ["list:users"]
    assert role(c, "user")["scopes"] == ["self", "shares", PAGES]
    assert len(c.JupyterHub.extra_handlers) == 2


def test_what_was_appended_stays(tmp_path: Path) -> None:
    """`c.JupyterHub.services.append(…)` without an assignment leaves no list, but a promise of one."""
    c = Config()
    c.JupyterHub.services.append({"name": "cull"})
    c.JupyterHub.load_roles.append({"name": "cull", "scopes": []})
    c.JupyterHub.extra_user_scopes.add("shares")
    guarded(c, tmp_path)

    assert [one["name"] for one in c.JupyterHub.services] == ["cull", "mutirao", "mutirao-gate", "mutirao-warden"]
    assert role(c, "cull")
    assert role(c, "user")["scopes"] == ["self", "shares", PAGES]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("base_url", "/", "/services/mutirao/"),
        ("base_url", "/jupyter/", "/jupyter/services/mutirao/"),
        ("base_url", "jupyter", "/jupyter/services/mutirao/"),
        ("bind_url", "http://:8000/a/b", "/a/b/services/mutirao/"),
        ("bind_url", "http://:8000", "/services/mutirao/"),
    ],
)
def test_links_know_the_hubs_prefix(tmp_path: Path, name: str, value: str, expected: str) -> None:
    c = Config()
    c.JupyterHub[name] = value

    assert pages_url(guarded(c, tmp_path)) == expected


def test_links_know_the_public_address(tmp_path: Path) -> None:
    assert (
        pages_url(guarded(Config(), tmp_path, public_url="https://hub.example/"))
        == "https://hub.example/services/mutirao/"
    )


def test_the_proxy_class_may_be_named_and_is_guarded_once(tmp_path: Path) -> None:
    c = Config()
    c.JupyterHub.proxy_class = "jupyterhub.proxy.ConfigurableHTTPProxy"
    first = guarded(c, tmp_path).JupyterHub.proxy_class
    again = Config()
    again.JupyterHub.proxy_class = first

    assert guarded(again, tmp_path).JupyterHub.proxy_class is first


def test_something_else_than_a_proxy_is_refused(tmp_path: Path) -> None:
    c = Config()
    c.JupyterHub.proxy_class = dict
    with pytest.raises(ConfigError, match="must be a JupyterHub proxy class"):
        guarded(c, tmp_path)


def test_each_address_of_the_gate_gets_a_worker_and_the_proxy_knows_them_all(tmp_path: Path) -> None:
    addresses = ["http://127.0.0.1:8091", "http://127.0.0.1:8093"]
    c = guarded(Config(), tmp_path, gate_url=addresses)

    workers = [one for one in c.JupyterHub.services if one["name"].startswith("mutirao-gate")]
    assert [one["name"] for one in workers] == ["mutirao-gate", "mutirao-gate-1"]
    assert [one["environment"]["MUTIRAO_GATE_URL"] for one in workers] == addresses
    assert len({one["environment"]["MUTIRAO_GATE_SECRET"] for one in workers}) == 1
    assert split_urls(c.JupyterHub.proxy_class().gate_url) == tuple(addresses)


@pytest.mark.parametrize("nothing", ["", " , ", []])
def test_a_gate_without_an_address_is_refused(tmp_path: Path, nothing: object) -> None:
    with pytest.raises(ConfigError, match="names no address"):
        guarded(Config(), tmp_path, gate_url=nothing)


def test_secrets_are_made_anew_and_the_pages_do_not_get_the_gates(tmp_path: Path) -> None:
    first, second = (
        {one["name"]: one["environment"] for one in guarded(Config(), tmp_path).JupyterHub.services} for _ in range(2)
    )

    assert first["mutirao-gate"]["MUTIRAO_GATE_SECRET"] != second["mutirao-gate"]["MUTIRAO_GATE_SECRET"]
    assert "MUTIRAO_GATE_SECRET" not in first["mutirao"]


def test_the_store_stands_afterwards_with_the_first_policy_alone(tmp_path: Path) -> None:
    guarded(Config(), tmp_path)
    guarded(Config(), tmp_path)  # a second start adopts nothing

    from mutirao.cases import adoption
    from mutirao.store.store import Store

    store = Store(f"sqlite:///{tmp_path / 'mutirao.sqlite'}")
    with store.read() as session:
        assert [entry.version for entry in adoption.adoptions(session)] == [2]
    store.close()


@pytest.mark.parametrize(
    ("settings", "pages", "members"),
    [
        ({"subdomain_host": "https://hub.example"}, "https://mutirao--service.hub.example", "https://hub.example"),
        ({"subdomain_host": "hub.example:8443"}, "https://mutirao--service.hub.example:8443", "https://hub.example:8443"),
        ({"subdomain_host": "http://hub.example", "subdomain_hook": "legacy"}, "http://services.hub.example", "http://hub.example"),
        ({"subdomain_host": "http://hub.example", "subdomain_hook": lambda name, domain, kind: f"{kind}-{name}.{domain}"}, "http://service-mutirao.hub.example", "http://hub.example"),
        ({}, "", ""),
    ],
)  # fmt: skip
def test_with_subdomains_links_lead_to_the_services_own_host(
    tmp_path: Path, settings: dict[str, object], pages: str, members: str
) -> None:
    c = Config()
    for name, value in settings.items():
        c.JupyterHub[name] = value
    guarded(c, tmp_path)

    assert pages_url(c) == f"{pages}/services/mutirao/"
    environment = next(one for one in c.JupyterHub.services if one["name"] == "mutirao")["environment"]
    assert environment["MUTIRAO_SUBDOMAIN_HOST"] == members
    assert environment["MUTIRAO_PAGES_HOST"] == pages.partition("://")[2].partition(":")[0]


def test_traefik_is_told_to_put_the_claims_before_the_path() -> None:
    """Traefik drops the path of a target; without the claims the gate would refuse every kernel."""
    place = os.environ.get("MUTIRAO_HUB5", "")
    if not place:
        pytest.skip("MUTIRAO_HUB5 names no environment: ./run test sets it up")
    code = """
import json
from mutirao.hub.guard import guarded_class
proxy = guarded_class("jupyterhub_traefik_proxy.fileprovider.TraefikFileProviderProxy")
made = proxy(should_start=False)
twin = "/user/ana/api/kernels/"
print(json.dumps([made._dynamic_config_for_route(twin, "http://127.0.0.1:9/r/claims.x", {})[0],
                  made._dynamic_config_for_route("/user/ana/", "http://127.0.0.1:4000", {})[0]]))
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([f"{place}/bin/python", "-c", code], env=env, capture_output=True, text=True, check=True)
    twin, own = json.loads(done.stdout)
    (name,) = twin["http"]["middlewares"]
    assert twin["http"]["middlewares"][name] == {"addPrefix": {"prefix": "/r/claims.x"}}
    assert [router["middlewares"] for router in twin["http"]["routers"].values()] == [[name]]
    assert [each["loadBalancer"]["servers"] for each in twin["http"]["services"].values()] == [
        [{"url": "http://127.0.0.1:9"}]
    ]
    assert "middlewares" not in own["http"]
