"""What every part's process begins with: its settings, which come by the environment, and the time."""

import gc
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from mutirao.errors import ConfigError


def required(environment: Mapping[str, str], name: str) -> str:
    """The variable's value; ConfigError where it is missing or empty."""
    value = environment.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set: this part is started by `mutirao up` or by mutirao.guard(c).")
    return value


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def settled() -> None:
    """Leave all that is here now out of the garbage collector's rounds: going through it takes a tenth of a second.

    For a process that has loaded what it needs, and keeps it to its end.
    """
    gc.collect()
    gc.freeze()


def run(serve: Callable[[], None]) -> int:
    """Serve until told to stop; exit status 2, and one sentence, where the environment is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        serve()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
