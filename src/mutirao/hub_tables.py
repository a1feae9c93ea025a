"""The hub's own tables, which JupyterHub makes, checks and upgrades itself, as the user whose files they are."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import make_url

from mutirao.config import Settings
from mutirao.errors import StoreError

_HUB_UPGRADE = (
    "import logging, os; from jupyterhub.dbutil import upgrade_if_needed as up; "
    "up(os.environ['URL'], backup=False, log=logging.getLogger())"
)


def make_hub_tables(settings: Settings, owner: int) -> None:
    """Have JupyterHub make its own tables, and those of accounts with passwords."""
    code = (
        "import os; import nativeauthenticator.orm; from jupyterhub.orm import new_session_factory as new; "
        "new(os.environ['URL']).kw['bind'].dispose()"
    )
    _hub_python(settings, owner, code)


def _hub_python(settings: Settings, owner: int, code: str) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "URL": settings.hub_database_url}
    environment |= {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd="/",
        user=owner,
        group=owner,
        extra_groups=[],
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        *_, said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise StoreError(f"The hub's tables can't be made: {said}")


def hub_lags(settings: Settings, folder: Path) -> bool:
    """True where JupyterHub would refuse its tables because they are older."""
    url = make_url(settings.hub_database_url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return False
    code = (
        "import os, sys; from sqlalchemy import create_engine; from jupyterhub import orm\n"
        "try: orm.check_db_revision(create_engine(os.environ['URL']))\n"
        "except orm.DatabaseSchemaMismatch: sys.exit('older')\n"
    )
    try:
        _hub_python(settings, folder.stat().st_uid, code)
    except StoreError as error:
        if str(error).endswith("older"):
            return True
        raise
    return False


def upgrade_hub_tables(settings: Settings, owner: int) -> None:
    """Have JupyterHub bring its tables to its own version's shape."""
    _hub_python(settings, owner, _HUB_UPGRADE)
