"""A PostgreSQL server of this test run's own, in a temporary folder; each test gets an empty database."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

_running: dict[str, str] = {}


def url_of(request: pytest.FixtureRequest) -> str:
    """The address of an empty database; the server starts once and ends with the session."""
    if "base" not in _running:
        _running["base"] = _start(request)
    name = f"t{uuid.uuid4().hex[:12]}"
    admin = create_engine(f"{_running['base']}&dbname=postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return f"{_running['base']}&dbname={name}"


def _start(request: pytest.FixtureRequest) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="mutirao-pg-"))
    folder.chmod(0o755)
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    binaries, data = found[-1], folder / "data"

    def run(*command: str) -> None:
        before = ("setpriv", "--reuid", user, "--regid", user, "--init-groups") if os.geteuid() == 0 else ()
        subprocess.run([*before, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    run(str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "mutirao", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")

    def stop() -> None:
        run(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)
        _running.clear()

    request.session.config.add_cleanup(stop)
    return f"postgresql+psycopg://mutirao@/?host={folder}"
