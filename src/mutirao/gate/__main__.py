"""`python -m mutirao.gate`: the gate as a process; settings come from the environment.

MUTIRAO_GATE_URL (where it listens), MUTIRAO_GATE_SECRET, MUTIRAO_DATABASE (a SQLAlchemy URL), JUPYTERHUB_API_URL,
MUTIRAO_SERVICE_TOKEN (of the service `mutirao`), MUTIRAO_PAGES_URL (of the case and policy pages), and if wanted
MUTIRAO_LANGUAGE, MUTIRAO_MAX_MESSAGE_MB, MUTIRAO_JUDGE_TIMEOUT_S and MUTIRAO_VISITORS (0 where nobody but its owner
comes to a server).
"""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from mutirao.cases.desk import Desk
from mutirao.cases.wording import Pages
from mutirao.detect.engine import Engine
from mutirao.detect.pack import default_pack
from mutirao.errors import ConfigError, MutiraoError
from mutirao.gate.actor import HubActors
from mutirao.gate.app import Gate, main
from mutirao.policy.version import load_versions
from mutirao.store.store import Store


def required(environment: Mapping[str, str], name: str) -> str:
    """The variable's value; ConfigError where it is missing or empty."""
    value = environment.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set: the gate is started by `mutirao up` or by mutirao.guard(c).")
    return value


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def serve(environment: Mapping[str, str]) -> None:
    """Serve until told to stop; the tables are expected to be migrated."""
    where = urlsplit(required(environment, "MUTIRAO_GATE_URL"))
    if where.hostname is None or where.port is None:
        raise ConfigError(f"MUTIRAO_GATE_URL is {where.geturl()!r}: must name host and port.")
    pages = Pages(required(environment, "MUTIRAO_PAGES_URL"))
    store = Store(required(environment, "MUTIRAO_DATABASE"))
    gate = Gate(
        secret=required(environment, "MUTIRAO_GATE_SECRET"),
        judge=Desk(store, Engine(default_pack()), load_versions(), pages, now),
        actors=HubActors(
            required(environment, "JUPYTERHUB_API_URL"),
            required(environment, "MUTIRAO_SERVICE_TOKEN"),
            owners_only=environment.get("MUTIRAO_VISITORS", "1") != "1",
        ),
        max_message_bytes=int(environment.get("MUTIRAO_MAX_MESSAGE_MB", "100")) * 1024 * 1024,
        language=environment.get("MUTIRAO_LANGUAGE", "en"),
        judge_timeout_s=float(environment.get("MUTIRAO_JUDGE_TIMEOUT_S", "5")),
    )
    try:
        main(gate, where.hostname, where.port)
    finally:
        store.close()


if __name__ == "__main__":
    try:
        serve(os.environ)
    except MutiraoError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
