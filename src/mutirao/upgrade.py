"""An upgrade: databases are brought to this version's shape, after a backup."""

import os
from datetime import UTC, datetime
from pathlib import Path

from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import make_url

from mutirao import __version__, backup
from mutirao.accounts import accounts, hand_over, own
from mutirao.config import Settings
from mutirao.errors import ConfigError, StoreError
from mutirao.hub_tables import hub_lags, upgrade_hub_tables
from mutirao.instance import open_store, stopped
from mutirao.store import audit
from mutirao.store.store import MIGRATION_PATIENCE_S, newest_revision, script_directory


def upgrade(settings: Settings, config_file: Path | None, target: Path | None, actor: str) -> list[str]:
    """Bring store and hub to this version's shape after a backup; what was done, in sentences."""
    data = settings.service.data
    if not data.is_dir():
        raise ConfigError(f"There is no data folder {data}: the first start makes it.")
    with stopped(data):
        with open_store(settings) as store:
            before = store.revision()
        after = newest_revision()
        if before is None:
            raise StoreError("The store is empty: the first start makes it.")
        hub = data / "hub"
        _give_to_the_hub(settings, hub)
        if before == after and not hub_lags(settings, hub):
            return [f"The store has the shape {after}, and so has the hub: nothing to do."]
        if target is None:
            (data / "backups").mkdir(mode=0o700, exist_ok=True)
            target = data / "backups" / f"before-{after}-{datetime.now(UTC):%Y%m%d%H%M%S}.tar.gz"
        said = []
        if before != after:
            _known(settings, before)
        said += backup.write(settings, config_file, target, homes=False)
        with open_store(settings, MIGRATION_PATIENCE_S) as store:
            store.migrate()
            with store.write() as session:
                content = {"from": before, "to": after, "mutirao": __version__}
                audit.append(session, datetime.now(UTC), "service.upgrade", actor=actor, subject=None, content=content)
        said.append(f"The store went from {before} to {after}.")
        if hub_lags(settings, hub):
            upgrade_hub_tables(settings, hub.stat().st_uid)
            said.append("The hub's tables were brought up to date by JupyterHub.")
        return said


def _give_to_the_hub(settings: Settings, folder: Path) -> None:
    """The hub's files are its own, as each start makes them: an older version, or root at hand, left them to root."""
    if os.geteuid() == 0 and folder.is_dir():
        account = accounts(settings).hub
        own(folder, 0o700, account)
        hand_over(folder, account)


def _known(settings: Settings, revision: str) -> None:
    """StoreError where a newer Mutirão wrote the store; nothing is changed."""
    try:
        script_directory().get_revision(revision)
    except (CommandError, ResolutionError) as error:
        place = make_url(settings.store_url).render_as_string(hide_password=True)
        raise StoreError(
            f"The database {place} has the shape {revision}, which this Mutirão does not know: a newer one wrote it. "
            "Update Mutirão, or restore the backup from before."
        ) from error
