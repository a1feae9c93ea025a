"""The command `mutirao`: one function a command; data to standard output, the rest to standard error."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mutirao import __version__, cli_detect, config, operate, reference
from mutirao.cli_cases import Commands
from mutirao.errors import ConfigError, MutiraoError
from mutirao.instance import as_owner, note, open_store
from mutirao.operate import settings_of as _settings


def main(arguments: list[str] | None = None) -> None:
    """Run one command; an error is one clear message and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except MutiraoError as error:
        print(f"mutirao: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has seen enough, like `| head`; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"mutirao: {error}. Does this need root, and is there room on the disk?", file=sys.stderr)
        sys.exit(1)


def up(options: argparse.Namespace) -> None:
    """Start the service and stay until Ctrl-C."""
    # Until the supervisor takes them over, and while one long step (an environment is built, say) is under way.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop_at_once)
    from mutirao.supervisor import Supervisor

    asyncio.run(Supervisor(_settings(options)).run())


def _stop_at_once(number: int, _frame: object) -> None:
    print("Stopped before anything was started.", file=sys.stderr)
    sys.exit(128 + number)


def config_show(options: argparse.Namespace) -> None:
    """Print the settings in force."""
    print(config.show(_settings(options)), end="")


def config_check(options: argparse.Namespace) -> None:
    """Say whether the settings are right, and whether what they name is there."""
    from traitlets.utils.importstring import import_item

    from mutirao import reach
    from mutirao.certificate import Certificate
    from mutirao.hub import environment
    from mutirao.policy.version import load_versions

    settings = _settings(options)
    for name in settings.environments:
        environment.find(name, settings.service.data)
    if settings.policy.version not in load_versions():
        raise ConfigError(f"policy.version is {settings.policy.version}: have {sorted(load_versions())}.")
    settings.login.resolved_options()
    reach.need_origins(settings)
    if settings.tls.cert:
        Certificate.of(settings).check()
    if settings.store_url == settings.hub_database_url:
        raise ConfigError("store.url and store.hub_url are one database: each needs its own.")
    settings.metrics_token  # noqa: B018 - says which variable is missing
    if settings.login.class_name:
        try:
            import_item(settings.login.class_name)
        except ImportError as error:
            raise ConfigError(f"login.class_name is {settings.login.class_name}: {error}.") from error
    print("The configuration is right.")


def config_reference(_options: argparse.Namespace) -> None:
    """Print the reference page of the configuration."""
    print(reference.page(), end="")


def doctor(options: argparse.Namespace) -> None:
    """Print what this machine can do, and what to do about each lack."""
    from mutirao import reach, upkeep
    from mutirao.sandbox.doctor import examine

    marks = {"ok": "ok  ", "lack": "LACK", "note": "note"}
    settings = _settings(options)
    checks = (*examine(settings.service.data), *reach.examine(settings), *upkeep.examine(settings))
    for check in checks:
        print(f"{marks[check.state]}  {check.name}: {check.found}")
        if check.do:
            print(f"      do: {check.do}")
    if any(check.state == "lack" for check in checks):
        sys.exit(1)


def env_list(options: argparse.Namespace) -> None:
    """List the environments."""
    from mutirao.hub import environment

    data = _settings(options).service.data
    for name in environment.names(data):
        print(f"{name}\t{'ready' if environment.find(name, data).ready else 'not built'}")


def env_build(options: argparse.Namespace) -> None:
    """Build an environment."""
    from mutirao.hub import environment

    environment.build(environment.find(options.name, _settings(options).service.data))


def env_add(options: argparse.Namespace) -> None:
    """Lock and build an operator's own environment."""
    from mutirao.hub import environment

    settings = _settings(options)
    added = environment.add(options.name, options.requirements, settings.service.data)
    environment.build(added)
    note(settings, "env.add", name=options.name)
    print(f"Environment {options.name} is built. To offer it on the start page, add to mutirao.toml:\n")
    print(f'[environments.{options.name}]\ntitle = {{ en = "{options.name}", pt-BR = "{options.name}" }}')


def env_remove(options: argparse.Namespace) -> None:
    """Forget an operator's environment."""
    from mutirao.hub import environment

    settings = _settings(options)
    environment.remove(options.name, settings.service.data)
    note(settings, "env.remove", name=options.name)


def policy_list(options: argparse.Namespace) -> None:
    """List what was adopted and since when."""
    from mutirao.cases import adoption

    with open_store(_settings(options)) as store, store.read() as session:
        for entry in adoption.adoptions(session):
            print(
                f"policy {entry.version}\tfrom {entry.effective_from:%Y-%m-%d %H:%M} UTC\tby {entry.by}\t{entry.reason}"
            )


def policy_adopt(options: argparse.Namespace) -> None:
    """Announce a version; it takes effect after the notice period, or now with --now."""
    from mutirao.cases import adoption
    from mutirao.policy.version import load_versions

    now = datetime.now(UTC)
    effective = now if options.now else now + timedelta(days=options.notice_days)
    with open_store(_settings(options)) as store, store.write() as session:
        known = set(load_versions())
        adoption.adopt(
            session,
            options.version,
            known=known,
            effective_from=effective,
            now=now,
            by=options.by,
            reason=options.reason,
        )
    print(f"Policy {options.version} takes effect at {effective:%Y-%m-%d %H:%M} UTC.")


def invite(options: argparse.Namespace) -> None:
    """Print a link by which somebody signs up without waiting for approval."""
    from mutirao.accounts import accounts, own
    from mutirao.hub.invite import Invites

    settings = _settings(options)
    hub = accounts(settings).hub
    own(settings.service.data / "hub", 0o700, hub)
    with as_owner(settings.service.data / "hub"):
        token = Invites(settings.service.data / "hub" / "invites").issue(
            operator=options.operator, life=timedelta(days=options.days)
        )
    # The link is not shown before it stands in the audit that there is one.
    note(settings, "invite.issue", operator=options.operator, days=options.days)
    print(f"{settings.public_url}/hub/signup?invite_key={token}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mutirao", description="A notebook service whose rules are in the open.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(parent: Any, name: str, run: Any, *extra: Any) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = parent.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.add_argument("--config", type=Path, help="mutirao.toml; ./mutirao.toml if it is there")
        added.add_argument("--data", type=Path, help="folder of database, homes and logs")
        added.set_defaults(run=run)
        for flags, settings in extra:
            added.add_argument(*flags, **settings)
        return added

    def group(name: str, description: str) -> Any:
        return commands.add_parser(name, help=description).add_subparsers(required=True, metavar="COMMAND")

    host = (("--host",), {"help": "address to listen on"})
    port = (("--port",), {"type": int, "help": "port to listen on"})
    name: tuple[tuple[str, ...], dict[str, Any]] = (("name",), {})
    demo = (("--demo",), {"action": "store_true", "help": "one shared password ($MUTIRAO_PASSWORD), loopback only"})
    command(commands, "up", up, host, port, demo)
    command(commands, "doctor", doctor)
    settings = group("config", "the settings")
    command(settings, "show", config_show, host, port, demo)
    command(settings, "check", config_check)
    command(settings, "reference", config_reference)
    environments = group("env", "environments that runtimes start from")
    command(environments, "list", env_list)
    command(environments, "build", env_build, name)
    command(environments, "add", env_add, name, (("requirements",), {"type": Path}))
    command(environments, "remove", env_remove, name)
    policies = group("policy", "the policy in force")
    command(policies, "list", policy_list)
    command(
        policies,
        "adopt",
        policy_adopt,
        (("version",), {"type": int}),
        (("--now",), {"action": "store_true", "help": "take effect at once (for a first policy, or a milder one)"}),
        (("--notice-days",), {"type": int, "default": 14, "help": "days between announcement and effect (14)"}),
        (("--by",), {"required": True, "help": "who decided it"}),
        (("--reason",), {"required": True, "help": "why, for everybody to read"}),
    )
    cli_detect.add(group, command, commands)
    Commands(_settings).add(group, command)
    command(
        commands,
        "invite",
        invite,
        (("--operator",), {"action": "store_true", "help": "whoever uses it becomes an operator"}),
        (("--days",), {"type": int, "default": 7, "help": "days until it lapses (7)"}),
    )
    operate.add_commands(command, group, commands)
    return parser
