"""`mutirao.guard(c)`: gate and pages for a JupyterHub that stands already, with any spawner."""

import os
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.proxy import ConfigurableHTTPProxy, Proxy
from jupyterhub.utils import subdomain_hook_idna, subdomain_hook_legacy
from traitlets.config.loader import LazyConfigValue
from traitlets.utils.importstring import import_item

from mutirao.cases import adoption
from mutirao.errors import ConfigError
from mutirao.gate.shard import split_urls
from mutirao.hub import actor_api
from mutirao.hub.proxy import Guarded
from mutirao.hub.standing import Standings, refuse_restricted
from mutirao.hub.traefik import Prefixing
from mutirao.hub.warden import SCOPES
from mutirao.hub.warden import SERVICE as WARDEN
from mutirao.origins import Origins, origins
from mutirao.policy.version import load_versions
from mutirao.store.store import MIGRATION_PATIENCE_S, Store

SETS = ("extra_user_scopes",)
"""Those of the hub's traits that are a set where the others are lists."""


def guard(
    c: Any,
    *,
    database: str = "sqlite:///mutirao.sqlite",
    policy: int = 2,
    gate_url: str | Sequence[str] = "http://127.0.0.1:8091",
    pages_url: str = "http://127.0.0.1:8092",
    public_url: str = "",
    contact: str = "",
    language: str = "en",
    service_user: str | None = None,
) -> None:
    """Add gate and pages to a hub's configuration; call it last in jupyterhub_config.py.

    `database` is a SQLAlchemy URL that the services can write; `gate_url` and `pages_url` are free loopback addresses,
    several for the gate where it should have several workers;
    `public_url` is the hub's address as members type it (links are root-relative without it); `service_user` is the
    system user for gate and pages where the hub runs as root.
    """
    prepare_store(database, policy)
    base_url = _base_url(c)
    seen = _origins(c, public_url)
    gate_secret, service_token = secrets.token_hex(32), secrets.token_hex(32)
    c.JupyterHub.proxy_class = guarded_class(c.JupyterHub.get("proxy_class", ConfigurableHTTPProxy))
    gate_urls = split_urls(gate_url if isinstance(gate_url, str) else ",".join(gate_url))
    if not gate_urls:
        raise ConfigError(
            "guard(gate_url=…) names no address: give one for each worker, such as http://127.0.0.1:8091."
        )
    os.environ["MUTIRAO_GATE_URL"] = ",".join(gate_urls)
    os.environ["MUTIRAO_GATE_SECRET"] = gate_secret
    shared = {"MUTIRAO_DATABASE": database}
    if "PYTHONPATH" in os.environ:
        shared["PYTHONPATH"] = os.environ["PYTHONPATH"]
    gate_environment = shared | {
        "MUTIRAO_GATE_SECRET": gate_secret,
        "MUTIRAO_SERVICE_TOKEN": service_token,
        "MUTIRAO_PAGES_URL": f"{seen.pages}{base_url}services/mutirao/",
    }
    pages_environment = shared | {
        "MUTIRAO_COOKIE_SECRET": secrets.token_hex(32),
        "MUTIRAO_CONTACT": contact,
        "MUTIRAO_LANGUAGE": language,
        "MUTIRAO_SUBDOMAIN_HOST": seen.to_hub,
        "MUTIRAO_PUBLIC_URL": seen.hub,
        "MUTIRAO_PAGES_HOST": urlsplit(seen.pages).hostname or "",
        "MUTIRAO_GATE_URLS": ",".join(gate_urls),
    }
    user = {"user": service_user} if service_user else {}
    c.JupyterHub.services = [
        *_listed(c, "services"),
        {
            "name": "mutirao",
            "url": pages_url,
            "command": [sys.executable, "-m", "mutirao.web"],
            "environment": pages_environment,
            "api_token": service_token,
            "oauth_no_confirm": True,
            "oauth_client_allowed_scopes": ["inherit"],
            **user,
        },
        *(
            {
                "name": f"mutirao-gate-{number}" if number else "mutirao-gate",
                "command": [sys.executable, "-m", "mutirao.gate"],
                "environment": gate_environment | {"MUTIRAO_GATE_URL": url, "MUTIRAO_GATE_WORKER": f"gate-{number}"},
                "display": False,
                **user,
            }
            for number, url in enumerate(gate_urls)
        ),
        {
            "name": WARDEN,
            "command": [sys.executable, "-m", "mutirao.hub.warden"],
            "environment": shared,
            "display": False,
            **user,
        },
    ]
    c.JupyterHub.load_roles = [
        *_with_roles(_listed(c, "load_roles"), _listed(c, "extra_user_scopes")),
        {"name": WARDEN, "services": [WARDEN], "scopes": SCOPES},
    ]
    standings = Standings(f"{pages_url}{base_url}services/mutirao/", service_token)
    c.Spawner.pre_spawn_hook = refuse_restricted(standings, c.Spawner.get("pre_spawn_hook", None))
    c.JupyterHub.extra_handlers = [*_listed(c, "extra_handlers"), (actor_api.PATH, actor_api.ActorAPIHandler)]


def roles() -> list[dict[str, Any]]:
    """What the service may ask of the hub, and who may see the pages: every user."""
    return _with_roles([], [])


def _with_roles(load_roles: list[dict[str, Any]], user_scopes: list[str]) -> list[dict[str, Any]]:
    """The hub's own roles with ours; a `user` role that the hub defines itself keeps its scopes and gains one."""
    asking = ["list:users", "read:users", "read:servers"]
    own = next((role for role in load_roles if role["name"] == "user"), {"name": "user"})
    scopes = [*own.get("scopes", ["self", *user_scopes]), "access:services!service=mutirao"]
    return [
        *(role for role in load_roles if role is not own),
        {"name": "mutirao", "services": ["mutirao"], "scopes": asking},
        own | {"scopes": scopes},
    ]


def _listed(c: Any, name: str) -> list[Any]:
    """A list or set of the hub's configuration, whether it was assigned or added to."""
    found = c.JupyterHub.get(name, [])
    if isinstance(found, LazyConfigValue):
        return list(found.get_value(set() if name in SETS else []))
    return list(found)


def _base_url(c: Any) -> str:
    """The hub's prefix, with a slash at both ends, from base_url or from the path of bind_url."""
    found = c.JupyterHub.get("base_url", "") or urlsplit(c.JupyterHub.get("bind_url", "")).path
    return f"/{found.strip('/')}/" if found.strip("/") else "/"


def _origins(c: Any, public_url: str) -> Origins:
    """Where browsers see hub and pages, by the hub's own settings; `public_url` counts where it has no subdomains."""
    host = c.JupyterHub.get("subdomain_host", "")
    if not host:
        return origins("", public_url or c.JupyterHub.get("public_url", ""))
    host = host if "://" in host else f"https://{host}"
    hook = c.JupyterHub.get("subdomain_hook", "idna")
    named = {"idna": subdomain_hook_idna, "legacy": subdomain_hook_legacy}
    found = named[hook] if isinstance(hook, str) else hook
    return origins(host, pages_host=found("mutirao", urlsplit(host).hostname, kind="service"))


def guarded_class(proxy_class: Any) -> type:
    """The proxy class with the gate in it; a class or the name of one."""
    if isinstance(proxy_class, str):
        proxy_class = import_item(proxy_class)
    if not (isinstance(proxy_class, type) and issubclass(proxy_class, Proxy)):
        raise ConfigError(f"c.JupyterHub.proxy_class is {proxy_class!r}: must be a JupyterHub proxy class.")
    if issubclass(proxy_class, Guarded):
        return proxy_class
    needed = (Prefixing,) if hasattr(proxy_class, "_dynamic_config_for_route") else ()
    return type(f"Guarded{proxy_class.__name__}", (Guarded, *needed, proxy_class), {})


def prepare_store(url: str, version: int) -> None:
    """Migrate the store and, where no policy was ever adopted, adopt `version` now."""
    store = Store(url, MIGRATION_PATIENCE_S)
    store.migrate()
    now = datetime.now(UTC)
    known = set(load_versions())
    with store.write() as session:
        if not adoption.adoptions(session):
            adoption.adopt(
                session, version, known=known, effective_from=now, now=now, by="mutirao", reason="first start"
            )
    store.close()
