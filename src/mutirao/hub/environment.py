"""Environments: named, locked, read-only, shared by all runtimes.

A lock file (hashes, no addresses) is built once into `<home>/envs/<name>-<key>/`; the key covers the lock and the files
that Mutirão lays into every environment, so that a change of either makes a new environment beside the old one.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mutirao.errors import ConfigError

PYTHON = "/usr/bin/python3"
"""The system's own: one that every sandbox's uid can read, with no library path into somebody's home."""

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def home() -> Path:
    """Where environments are built: $MUTIRAO_HOME, else /var/lib/mutirao."""
    return Path(os.environ.get("MUTIRAO_HOME", "/var/lib/mutirao"))


def uv() -> str:
    """The uv that builds environments: $MUTIRAO_UV, else the one on the PATH."""
    found = os.environ.get("MUTIRAO_UV") or shutil.which("uv")
    if not found:
        raise ConfigError("uv is not there: start Mutirão through ./run, or install uv.")
    return found


def shipped_locks() -> Path:
    """The folder of lock files that ship with Mutirão, in a wheel or in a checkout."""
    package = Path(str(files("mutirao")))
    inside = package / "environments"
    return inside if inside.is_dir() else package.parents[1] / "environments"


@dataclass(frozen=True, slots=True)
class Environment:
    """A lock file and where it is built; `ready` once it can be used."""

    name: str
    lock: Path
    path: Path
    plain: bool = False
    """True for exactly what the lock says, without Mutirão's own files: what benchmarks call stock."""

    @property
    def ready(self) -> bool:
        """True once built whole."""
        return (self.path / ".ready").exists()


def find(name: str, data: Path) -> Environment:
    """The environment `name`: an operator's own before a shipped one; ConfigError where there is none."""
    for folder in (data / "environments", shipped_locks()):
        lock = folder / f"{name}.txt"
        if NAME.fullmatch(name) and lock.is_file():
            folder_name = f"{name}-{_key(lock)}"
            ours = home() / "envs" / folder_name
            # What root built (`sudo ./run prepare`) everybody else uses as it is.
            theirs = Path(os.environ.get("MUTIRAO_SHARED", ours)) / "envs" / folder_name
            return Environment(name, lock, theirs if not ours.exists() and (theirs / ".ready").exists() else ours)
    raise ConfigError(f"There is no environment called {name!r}: have {', '.join(names(data))}.")


def names(data: Path) -> list[str]:
    """The names of all environments, built or not."""
    folders = (shipped_locks(), data / "environments")
    return sorted({lock.stem for folder in folders if folder.is_dir() for lock in folder.glob("*.txt")})


def add(name: str, requirements: Path, data: Path) -> Environment:
    """Lock an operator's requirements, together with what every runtime needs, as environment `name`."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for an environment: small letters, digits and dashes, 32 at most.")
    if not requirements.is_file():
        raise ConfigError(f"{requirements} is not a file: give a requirements.txt.")
    folder = data / "environments"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{name}.txt"
    fresh = lock.with_suffix(".new")
    command = [uv(), "pip", "compile", "-q", "--generate-hashes", "--no-emit-index-url", "--no-annotate"]
    command += [
        "--no-header",
        "--python",
        PYTHON,
        "-o",
        str(fresh),
        str(shipped_locks() / "runtime.in"),
        str(requirements),
    ]
    _run(command, f"{requirements} can't be locked")
    fresh.replace(lock)
    return find(name, data)


def remove(name: str, data: Path) -> None:
    """Forget an operator's environment; running runtimes keep what they have."""
    lock = data / "environments" / f"{name}.txt"
    if not NAME.fullmatch(name) or not lock.is_file():
        raise ConfigError(f"{name!r} is no environment that was added here.")
    lock.unlink()


def build(environment: Environment) -> None:
    """Build it whole or not at all; returns at once where it stands. Others who build it wait."""
    if environment.ready:
        # Before the lock, which lies where another user may have built it.
        return
    with _alone(environment):
        if environment.ready:
            return
        print(f"Building environment {environment.name} (once; some minutes at most)", file=sys.stderr)
        if environment.path.exists():
            shutil.rmtree(environment.path)
        python = environment.path / "bin" / "python"
        _run([uv(), "venv", "-q", "--python", PYTHON, str(environment.path)], "The environment can't be made")
        command = [uv(), "pip", "sync", "-q", "--require-hashes", "--compile-bytecode", "--link-mode", "copy"]
        _run(
            [*command, "--python", str(python), str(environment.lock)], f"Environment {environment.name} can't be built"
        )
        if not environment.plain:
            _lay(environment.path)
        (environment.path / ".ready").touch()


def _lay(path: Path) -> None:
    """Put Mutirão's own files into an environment: how the server starts, its settings, the kernel, the extension."""
    runtime = Path(str(files("mutirao.hub"))) / "runtime"
    start = path / "bin" / "mutirao-start"
    shutil.copy(runtime / "start.sh", start)
    start.chmod(0o755)
    shutil.copytree(runtime / "config", path / "etc" / "jupyter", dirs_exist_ok=True)
    kernel = (runtime / "kernel" / "kernel.json").read_text(encoding="utf-8")
    spec = path / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.write_text(kernel.replace("@python@", str(path / "bin" / "python")), encoding="utf-8")
    shutil.copytree(runtime / "labextension", path / "share" / "jupyter" / "labextensions" / "mutirao")


def _key(lock: Path) -> str:
    runtime = Path(str(files("mutirao.hub"))) / "runtime"
    digest = hashlib.sha256(lock.read_bytes())
    for file in sorted(runtime.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(runtime)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    # Whoever builds it may have a stricter umask than members' uids can live with.
    before = os.umask(0o022)
    try:
        environment.path.parent.mkdir(parents=True, exist_ok=True)
        with environment.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    finally:
        os.umask(before)


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise ConfigError(f"{failure}:\n{tail}")
