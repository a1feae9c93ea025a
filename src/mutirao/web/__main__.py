"""`python -m mutirao.web`: the pages as a JupyterHub service; settings come from the environment.

From JupyterHub: JUPYTERHUB_SERVICE_URL, JUPYTERHUB_SERVICE_PREFIX, JUPYTERHUB_BASE_URL, JUPYTERHUB_API_URL,
JUPYTERHUB_API_TOKEN, JUPYTERHUB_CLIENT_ID, JUPYTERHUB_OAUTH_ACCESS_SCOPES. From Mutirão: MUTIRAO_DATABASE (a
SQLAlchemy URL), MUTIRAO_COOKIE_SECRET, and if wanted MUTIRAO_CONTACT, MUTIRAO_LANGUAGE, MUTIRAO_SUBDOMAIN_HOST and
MUTIRAO_PUBLIC_URL (where browsers see the hub), MUTIRAO_PAGES_HOST, MUTIRAO_TRUSTED_PROXIES (addresses separated by
commas), MUTIRAO_HSTS_S, MUTIRAO_PAGES_URL (absolute, for links in notices), and MUTIRAO_CASES, MUTIRAO_ROLES and
MUTIRAO_MAIL, each that table of the settings as JSON. For the metrics: MUTIRAO_GATE_URLS, MUTIRAO_METRICS_TOKEN and
MUTIRAO_STATE, the file in which the last signed head of the audit stands.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from jupyterhub.services.auth import HubOAuth

from mutirao.cases.office import Office
from mutirao.cases.rounds import Rounds
from mutirao.cases.wording import Pages
from mutirao.errors import ConfigError
from mutirao.fairness import Cases, Mail, Roles
from mutirao.origins import origins
from mutirao.policy.version import load_versions
from mutirao.process import now, required, run, settled
from mutirao.store.store import Store
from mutirao.web.app import make_app
from mutirao.web.hub import JupyterHub
from mutirao.web.limit import Limits
from mutirao.web.metrics import Watch


def serve(environment: Mapping[str, str]) -> None:
    """Serve until a signal comes; the tables are expected to be migrated."""
    where = urlsplit(required(environment, "JUPYTERHUB_SERVICE_URL"))
    if where.hostname is None or where.port is None:
        raise ConfigError(f"JUPYTERHUB_SERVICE_URL is {where.geturl()!r}: must name host and port.")
    auth = HubOAuth(
        api_token=required(environment, "JUPYTERHUB_API_TOKEN"),
        oauth_client_id=required(environment, "JUPYTERHUB_CLIENT_ID"),
    )
    office = Office(
        load_versions(),
        Pages(environment.get("MUTIRAO_PAGES_URL") or required(environment, "JUPYTERHUB_SERVICE_PREFIX")),
        Cases.model_validate_json(environment.get("MUTIRAO_CASES") or "{}"),
    )
    roles = Roles.model_validate_json(environment.get("MUTIRAO_ROLES") or "{}")
    store = Store(required(environment, "MUTIRAO_DATABASE"))
    app = make_app(
        store,
        load_versions(),
        JupyterHub(auth, roles),
        secret=required(environment, "MUTIRAO_COOKIE_SECRET"),
        clock=now,
        prefix=required(environment, "JUPYTERHUB_SERVICE_PREFIX"),
        base_url=environment.get("JUPYTERHUB_BASE_URL", "/"),
        contact=environment.get("MUTIRAO_CONTACT", ""),
        default_language=environment.get("MUTIRAO_LANGUAGE", "en"),
        origins=origins(
            environment.get("MUTIRAO_SUBDOMAIN_HOST", ""),
            environment.get("MUTIRAO_PUBLIC_URL", ""),
            environment.get("MUTIRAO_PAGES_HOST", ""),
        ),
        limits=Limits(trusted=tuple(filter(None, environment.get("MUTIRAO_TRUSTED_PROXIES", "").split(",")))),
        hsts_s=int(environment.get("MUTIRAO_HSTS_S", "0")),
        watch=Watch(
            gate_urls=tuple(filter(None, environment.get("MUTIRAO_GATE_URLS", "").split(","))),
            token=environment.get("MUTIRAO_METRICS_TOKEN", ""),
            state_file=Path(environment["MUTIRAO_STATE"]) if environment.get("MUTIRAO_STATE") else None,
        ),
        service_token=required(environment, "JUPYTERHUB_API_TOKEN"),
        office=office,
    )
    rounds = Rounds(
        store,
        office,
        Mail.model_validate_json(environment.get("MUTIRAO_MAIL") or "{}"),
        now,
        environment.get("MUTIRAO_LANGUAGE", "en"),
    )
    rounds.start()
    settled()
    try:
        # Our own reading of X-Forwarded-* knows which proxies to believe.
        uvicorn.run(
            app, host=where.hostname, port=where.port, server_header=False, proxy_headers=False, log_level="warning"
        )
    finally:
        rounds.stop()
        store.close()


def main() -> int:
    """Exit status 2 where the environment is wrong."""
    return run(lambda: serve(os.environ))


if __name__ == "__main__":
    sys.exit(main())
