"""Which gate worker serves a server: the hub's proxy, its announcer and the tests all ask here.

Rendezvous hashing (Thaler and Ravishankar, 1998) over the workers' numbers: the same server always meets the same
worker, and where their number grows by one only the share of the new one moves. Addresses don't count, because ports
change with every start.
"""

import hashlib
import os
from collections.abc import Sequence

MOST_BY_CORES = 8


def workers_by_cores() -> int:
    """How many workers serve a machine by default: one for each core that we may use, at most eight."""
    return min(MOST_BY_CORES, max(1, len(os.sched_getaffinity(0))))


def worker_of(gate_urls: Sequence[str], user: str, server: str) -> str:
    """The address of the worker for a member's server; ValueError where there are no workers."""
    if not gate_urls:
        raise ValueError("the gate has no workers")
    return gate_urls[max(range(len(gate_urls)), key=lambda number: _weight(number, user, server))]


def split_urls(text: str) -> tuple[str, ...]:
    """The addresses in a text that separates them by commas."""
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())


def _weight(number: int, user: str, server: str) -> bytes:
    # The server's name holds no line break, and a member's neither: no two pairs give one text.
    return hashlib.sha256(f"{number}\n{server}\n{user}".encode("utf-8", "surrogatepass")).digest()
