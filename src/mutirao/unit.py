"""The systemd unit: written, taken away, and told when the service is ready."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mutirao.errors import ConfigError

NAME = "mutirao.service"
MARK = "# Written by `mutirao install`; `mutirao uninstall` takes it away."

CAPABILITIES = (
    "CAP_SYS_ADMIN CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_CHOWN "
    "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_SYS_CHROOT CAP_SYS_PTRACE "
    "CAP_SYS_RESOURCE CAP_SYS_NICE CAP_LINUX_IMMUTABLE"
)

UNIT = """{mark}
[Unit]
Description=Mutirão, notebooks whose rules are in the open
Documentation=file:{docs}
Wants=network-online.target
After=network-online.target nftables.service postgresql.service
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory=/
{environment}
# The first start may build an environment; a stop waits for members' runtimes.
TimeoutStartSec=1h
TimeoutStopSec=120
Restart=on-failure
RestartSec=2
# The supervisor stops its parts in order; whatever is left after it has ended is killed.
KillMode=mixed
# Runtimes have control groups of their own.
Delegate=yes
# One runtime that runs out of memory must not end the service.
OOMPolicy=continue
LimitNOFILE=65536
LimitCORE=0
TasksMax=infinity
UMask=0022
# No setting here that gives the service a mount namespace of its own (PrivateTmp, ProtectSystem, ProtectHome, ...):
# homes that are mounted must be seen by the next start, or an image could be mounted twice.
CapabilityBoundingSet={capabilities}
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the unit goes, below a prefix that packagers choose; `/` on a machine."""

    prefix: Path

    @property
    def unit(self) -> Path:
        """The unit file."""
        return self.prefix / "etc/systemd/system" / NAME

    @property
    def live(self) -> bool:
        """True where this machine's own systemd is meant, and runs."""
        return self.prefix == Path("/") and Path("/run/systemd/system").is_dir()


def text(config: Path | None) -> str:
    """The unit for the way in which this command was started: through ./run, or from an installed package."""
    run = os.environ.get("MUTIRAO_RUN")
    words = [run, "up"] if run else [sys.executable, "-m", "mutirao", "up"]
    if config is not None:
        words += ["--config", str(config.absolute())]
    kept = [f"{name}={os.environ[name]}" for name in ("MUTIRAO_HOME", "MUTIRAO_PYTHON") if name in os.environ]
    if not run and "PYTHONPATH" in os.environ:
        kept.append(f"PYTHONPATH={os.environ['PYTHONPATH']}")
    environment = [f"Environment={_quoted(entry)}" for entry in kept]
    environment.append("# Secrets that mutirao.toml names by { env = ... }: NAME=value, one a line, mode 0600.")
    environment.append("EnvironmentFile=-/etc/mutirao/environment")
    docs = (Path(run).parent if run else Path(__file__).parent) / "docs" / "howto" / "operate.md"
    return UNIT.format(
        mark=MARK,
        docs=quote(str(docs)).replace("%", "%%"),
        command=" ".join(_quoted(word) for word in words),
        environment="\n".join(environment),
        capabilities=CAPABILITIES,
    )


def install(prefix: Path, config: Path | None, *, enable: bool) -> list[str]:
    """Write the unit; with `enable` start it at boot and now. What was done, in sentences."""
    paths = Paths(prefix)
    _ours(paths.unit)
    try:
        paths.unit.parent.mkdir(parents=True, exist_ok=True)
        fresh = paths.unit.with_suffix(".new")
        fresh.write_text(text(config), encoding="utf-8")
        fresh.chmod(0o644)
        fresh.rename(paths.unit)
    except OSError as error:
        raise ConfigError(f"{paths.unit} can't be written: {error.strerror}. Does this need root?") from error
    done = [f"Wrote {paths.unit}."]
    if enable:
        if not paths.live:
            raise ConfigError(f"{paths.unit} is written, but systemd does not run here: nothing was enabled.")
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", NAME)
        return [*done, f"Enabled and started {NAME}."]
    return [*done, "Nothing was enabled. Do it with: systemctl daemon-reload && systemctl enable --now mutirao"]


def uninstall(prefix: Path) -> list[str]:
    """Stop and disable the service where systemd runs, and take the unit away. Data stays."""
    paths = Paths(prefix)
    if not paths.unit.exists():
        return [f"There is no {paths.unit}: nothing to do."]
    _ours(paths.unit)
    done = []
    if paths.live:
        _systemctl("disable", "--now", NAME)
        done.append(f"Stopped and disabled {NAME}.")
    paths.unit.unlink()
    if paths.live:
        _systemctl("daemon-reload")
    return [*done, f"Removed {paths.unit}. The data folder is untouched."]


def notify(state: str) -> None:
    """Tell systemd how far we are (sd_notify(3)); nothing where it did not ask."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as said:
        said.sendto(state.encode(), address)


def _ours(unit: Path) -> None:
    """ConfigError where somebody else wrote the unit."""
    if unit.exists() and MARK not in unit.read_text(errors="replace"):
        raise ConfigError(f"{unit} was not written by mutirao install: move it away first.")


def _systemctl(*words: str) -> None:
    program = shutil.which("systemctl")
    if program is None:
        raise ConfigError("systemctl is missing: this machine has no systemd.")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}")


def _quoted(word: str) -> str:
    """A word as systemd reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(letter.isspace() for letter in word) else word
