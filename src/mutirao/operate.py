"""The operator's commands on audit, privacy, copies and systemd."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mutirao import config
from mutirao.errors import ConfigError, MutiraoError
from mutirao.instance import actor, note, open_store
from mutirao.store import audit


def settings_of(options: argparse.Namespace) -> config.Settings:
    """The settings that the command line names, changed as it says."""
    changes: dict[str, dict[str, Any]] = {}
    for key in ("host", "port", "data"):
        value = getattr(options, key, None)
        if value is not None:
            changes.setdefault("service", {})[key] = str(value.absolute()) if isinstance(value, Path) else value
    if getattr(options, "demo", False):
        changes["login"] = {"kind": "demo"}
    return config.load(config_file(options), changes)


def config_file(options: argparse.Namespace) -> Path | None:
    """The configuration that the command reads, None for defaults alone."""
    named: Path | None = options.config
    if named is None and Path("mutirao.toml").is_file():
        return Path("mutirao.toml")
    return named


def audit_verify(options: argparse.Namespace) -> None:
    """Check every link of the audit, and every signed head."""
    from mutirao.store import heads
    from mutirao.upkeep import key_file

    settings = settings_of(options)
    file = options.heads or (settings.heads_file if settings.heads_file.exists() else None)
    signed: dict[int, str] = {}
    if file is not None:
        own = key_file(settings.service.data)
        text = options.key or (own.with_name("key.pub").read_text().strip() if own.exists() else "")
        if not text:
            raise ConfigError("There is no key to check the heads with: name it with --key (`mutirao audit key`).")
        signed = dict(heads.trusted(heads.read(file), heads.public_key(text)))
    check = audit.Check(signed)
    with open_store(settings) as store, store.read() as session:
        broken = None
        for entry in audit.entries(session):
            broken = check.take(entry)
            if broken:
                break
        broken = broken or check.end()
    if broken:
        raise MutiraoError(f"The audit is broken at entry {broken.number}: {broken.reason}.")
    print(f"{check.number} entries, all in order.")
    if signed:
        print(f"{len(signed)} signed heads in {file} fit, the last at entry {max(signed)}.")


def audit_heads(options: argparse.Namespace) -> None:
    """List the signed heads."""
    from mutirao.store import heads

    settings = settings_of(options)
    for head in heads.read(options.heads or settings.heads_file):
        print(f"{head.number}\t{head.signed_at}\t{head.hash}")


def audit_key(options: argparse.Namespace) -> None:
    """Print the public key that the heads are signed with; keep it elsewhere."""
    from mutirao.upkeep import key_file

    public = key_file(settings_of(options).service.data).with_name("key.pub")
    try:
        print(public.read_text().strip())
    except FileNotFoundError:
        raise ConfigError(f"There is no {public} yet: the first start of the service makes it.") from None


def forget(options: argparse.Namespace) -> None:
    """Take away what is recorded about a person: names, excerpts, reasons. The audit still verifies."""
    from mutirao.store import personal

    settings = settings_of(options)
    with open_store(settings, patience_s=600) as store:
        gone = personal.forget(store, options.name, datetime.now(UTC), actor())
    print(f"{gone.cases} cases and {gone.entries} audit entries lost their personal data.")
    if gone.kept:
        print(f"{gone.kept} cases wait until their restriction has ended or their appeal or report is answered:")
        print("lift or answer them, or run this again then.")
    print("Not touched: the hub's account (delete it on the hub's admin page), the home in sandbox/homes,")
    print("the line in sandbox/uids.jsonl (a uid is never given twice), backups, and logs until they are cut.")


def backup_(options: argparse.Namespace) -> None:
    """Write everything into one file, while the service runs or not."""
    from mutirao import backup

    settings = settings_of(options)
    note(settings, "service.backup", file=str(options.file.absolute()), homes=options.homes)
    for line in backup.write(settings, config_file(options), options.file, homes=options.homes):
        print(line)


def restore(options: argparse.Namespace) -> None:
    """Put a backup in place of the data folder, after checking every byte and the audit."""
    from mutirao.restore import restore as put_back

    settings = settings_of(options)
    for line in put_back(settings, options.file, force=options.force, actor=actor()):
        print(line)


def upgrade(options: argparse.Namespace) -> None:
    """Bring the databases to this version's shape, after a backup."""
    from mutirao.upgrade import upgrade as bring_up

    settings = settings_of(options)
    for line in bring_up(settings, config_file(options), options.backup, actor()):
        print(line)


def install(options: argparse.Namespace) -> None:
    """Write a systemd unit for this service."""
    from mutirao import unit

    for line in unit.install(options.prefix, config_file(options), enable=options.enable):
        print(line)


def uninstall(options: argparse.Namespace) -> None:
    """Stop the systemd unit and take it away; data stays."""
    from mutirao import unit

    for line in unit.uninstall(options.prefix):
        print(line)


FILE: tuple[tuple[str, ...], dict[str, Any]] = (("file",), {"type": Path})
PREFIX: tuple[tuple[str, ...], dict[str, Any]] = (
    ("--prefix",),
    {"type": Path, "default": Path("/"), "help": "write below this folder instead of /, for packagers"},
)
HEADS: tuple[tuple[str, ...], dict[str, Any]] = (
    ("--heads",),
    {"type": Path, "help": "file of signed heads; audit.heads if left out"},
)


def add_commands(command: Any, group: Any, commands: Any) -> None:
    """Add these commands to the parser."""
    audits = group("audit", "the chain of everything that was done")
    key = (("--key",), {"help": "public key to check the heads with; the data folder's if left out"})
    command(audits, "verify", audit_verify, HEADS, key)
    command(audits, "heads", audit_heads, HEADS)
    command(audits, "key", audit_key)
    command(commands, "forget", forget, (("name",), {}))
    homes = (("--homes",), {"action": "store_true", "help": "members' homes too"})
    command(commands, "backup", backup_, FILE, homes)
    force = (("--force",), {"action": "store_true", "help": "put what is there aside first"})
    command(commands, "restore", restore, FILE, force)
    where = (
        ("--backup",),
        {"type": Path, "help": "where the backup goes; into backups/ in the data folder if left out"},
    )
    command(commands, "upgrade", upgrade, where)
    enable = (("--enable",), {"action": "store_true", "help": "start it now and at every boot"})
    command(commands, "install", install, PREFIX, enable)
    command(commands, "uninstall", uninstall, PREFIX)
