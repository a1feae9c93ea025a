"""`python -m mutirao.gate`: the gate as a process; settings come from the environment.

MUTIRAO_GATE_URL (where it listens), MUTIRAO_GATE_SECRET, MUTIRAO_DATABASE (a SQLAlchemy URL), JUPYTERHUB_API_URL,
MUTIRAO_SERVICE_TOKEN (of the service `mutirao`), MUTIRAO_PAGES_URL (of the case and policy pages), and if wanted
MUTIRAO_LANGUAGE, MUTIRAO_MAX_MESSAGE_MB, MUTIRAO_MAX_CONNECTIONS, MUTIRAO_JUDGE_TIMEOUT_S, MUTIRAO_SCAN_BUDGET_S,
MUTIRAO_CASES (`[cases]` of the settings as JSON), MUTIRAO_VISITORS (0 where nobody but its owner comes to a server)
and MUTIRAO_GATE_WORKER (its name). One process is one worker: MUTIRAO_GATE_URL names its own address.
"""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlsplit

from mutirao.cases.desk import Desk
from mutirao.cases.wording import Pages
from mutirao.detect.engine import Engine
from mutirao.detect.pack import default_pack
from mutirao.errors import ConfigError, MutiraoError
from mutirao.fairness import Cases
from mutirao.gate.actor import HubActors
from mutirao.gate.app import BUDGET_S, JUDGE_TIMEOUT_S, MAX_CONNECTIONS, Gate, main
from mutirao.gate.budget import Budget
from mutirao.gate.fair import PATIENCE_SHARE, FairReading
from mutirao.gate.measure import Measured
from mutirao.gate.readers import Readers
from mutirao.policy.version import load_versions
from mutirao.process import now, required, settled
from mutirao.store.store import Store


def serve(environment: Mapping[str, str]) -> None:
    """Serve until told to stop; the tables are expected to be migrated."""
    where = urlsplit(required(environment, "MUTIRAO_GATE_URL"))
    if where.hostname is None or where.port is None:
        raise ConfigError(f"MUTIRAO_GATE_URL is {where.geturl()!r}: must name host and port.")
    pages = Pages(required(environment, "MUTIRAO_PAGES_URL"))
    rules = Cases.model_validate_json(environment.get("MUTIRAO_CASES") or "{}")
    judge_timeout_s = float(environment.get("MUTIRAO_JUDGE_TIMEOUT_S", JUDGE_TIMEOUT_S))
    # The store gives up before the gate does: what was refused as not judged must not be recorded afterwards.
    store = Store(required(environment, "MUTIRAO_DATABASE"), patience_s=0.8 * judge_timeout_s)
    engine = Engine(default_pack())
    budget = Budget(float(environment.get("MUTIRAO_SCAN_BUDGET_S", BUDGET_S)))
    reading = FairReading(engine, Readers(), budget, judge_timeout_s * PATIENCE_SHARE)
    counters: Counter[str] = Counter()
    gate = Gate(
        secret=required(environment, "MUTIRAO_GATE_SECRET"),
        judge=Measured(Desk(store, engine, load_versions(), pages, now, rules, reading), counters),
        counters=counters,
        probe=store.check,
        actors=HubActors(
            required(environment, "JUPYTERHUB_API_URL"),
            required(environment, "MUTIRAO_SERVICE_TOKEN"),
            owners_only=environment.get("MUTIRAO_VISITORS", "1") != "1",
        ),
        max_message_bytes=int(environment.get("MUTIRAO_MAX_MESSAGE_MB", "100")) * 1024 * 1024,
        max_connections=int(environment.get("MUTIRAO_MAX_CONNECTIONS", MAX_CONNECTIONS)),
        language=environment.get("MUTIRAO_LANGUAGE", "en"),
        judge_timeout_s=judge_timeout_s,
        reading=reading,
        worker=environment.get("MUTIRAO_GATE_WORKER", "gate-0"),
    )
    settled()
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
