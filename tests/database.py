"""SQLite databases with all their tables, copied from one that was migrated once: quicker than migrating each."""

import functools
import tempfile
from pathlib import Path

from mutirao.store.store import Store


def migrated(place: Path) -> Store:
    """A new store at `place`, as `Store.migrate` leaves it."""
    place.write_bytes(_template())
    place.chmod(0o600)
    return Store(f"sqlite:///{place}")


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "template.sqlite"
        store = Store(f"sqlite:///{place}")
        store.migrate()
        store.close()
        return place.read_bytes()
