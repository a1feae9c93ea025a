"""`python -m mutirao.store.chores`: what is done to the store from time to time, as the user whose files it is.

`head [NUMBER]` prints the chain's last entry, and the hash at NUMBER, as JSON. `sweep DAYS` lets personal data expire.
The store's address is in MUTIRAO_DATABASE.
"""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from mutirao.errors import MutiraoError
from mutirao.store import personal
from mutirao.store.models import Audit
from mutirao.store.store import Store


def head(store: Store, known: int) -> dict[str, Any]:
    """The chain's last number and hash, and the hash that entry `known` has now (None where it is gone)."""
    with store.read() as session:
        last = session.execute(select(Audit.id, Audit.hash).order_by(Audit.id.desc()).limit(1)).first()
        then = session.scalars(select(Audit.hash).where(Audit.id == known)).first()
    return {"number": last.id if last else 0, "hash": last.hash if last else "", "known": then}


def sweep(store: Store, keep_days: int) -> dict[str, Any]:
    """Let personal data older than `keep_days` expire."""
    gone = personal.expire(store, datetime.now(UTC), timedelta(days=keep_days))
    return {"cases": gone.cases, "entries": gone.entries}


def main(arguments: list[str]) -> int:
    """One chore; its result as a line of JSON."""
    store = Store(os.environ["MUTIRAO_DATABASE"])
    try:
        match arguments:
            case ["head", known]:
                print(json.dumps(head(store, int(known))))
            case ["sweep", days]:
                print(json.dumps(sweep(store, int(days))))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except MutiraoError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
