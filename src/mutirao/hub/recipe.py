"""What a runtime is made of: the broker's own working out of a member's choice, from settings that it loaded itself."""

from dataclasses import dataclass

from mutirao.config import Settings
from mutirao.errors import ConfigError, SandboxError
from mutirao.hub import environment
from mutirao.language import LANGUAGES
from mutirao.sandbox.ask import AskError, Start
from mutirao.sandbox.spec import HOME, Limits, NetworkPolicy, RuntimeSpec

PORT = 8888
"""Where a member's server listens, in a network of its own."""

ARGUMENTS = ("--ServerApp.terminals_enabled=False",)
"""On the command line, which a configuration file in the member's home can't overrule."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Makes specs by `settings`."""

    settings: Settings

    def spec(self, asked: Start) -> RuntimeSpec:
        """The spec of what was asked; AskError for what is not offered, SandboxError for what is not there yet."""
        offered = self.settings
        for key, value, known in (
            ("environment", asked.environment, offered.environments),
            ("size", asked.size, offered.sizes),
            ("language", asked.language, LANGUAGES),
        ):
            if value not in known:
                raise AskError(f"{key} {value[:64]!r} is not offered: have {', '.join(known)}.")
        try:
            chosen = environment.find(asked.environment, offered.service.data)
        except ConfigError as error:
            raise SandboxError(str(error)) from error
        if not chosen.ready:
            raise SandboxError(f"The environment {asked.environment} is not built yet.")
        size, rules = offered.sizes[asked.size], offered.sandbox
        env = dict(asked.env) | {
            "HOME": HOME,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "SHELL": "/bin/bash",
            "USER": "member",
            "LOGNAME": "member",
            "MUTIRAO_ENVIRONMENT": asked.environment,
            "MUTIRAO_LANGUAGE": asked.language,
            # One thread a core that the size gives: a library that counts the host's cores would thrash.
            "OMP_NUM_THREADS": str(max(1, round(size.cpus))),
        }
        return RuntimeSpec(
            member=asked.member,
            server=asked.server,
            environment=chosen.path,
            argv=(str(chosen.path / "bin" / "mutirao-start"), *ARGUMENTS),
            env=env,
            limits=Limits(size.memory_mb, size.cpus, size.processes, size.open_files, size.disk_mb),
            port=PORT,
            network=NetworkPolicy(rules.tcp_ports, rules.dns, rules.dns_servers, rules.allow),
        )
