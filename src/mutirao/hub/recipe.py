"""What a runtime is made of: the broker's own working out of a member's choice, from settings that it loaded itself."""

from dataclasses import dataclass

from mutirao.config import Settings
from mutirao.errors import ConfigError, SandboxError
from mutirao.hub import environment, room
from mutirao.hub.room import READING_ROOM
from mutirao.language import LANGUAGES
from mutirao.offer import Size
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
            ("size", asked.size, (*offered.sizes, READING_ROOM)),
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
        reading = asked.size == READING_ROOM
        size, rules = self._reading_room() if reading else offered.sizes[asked.size], offered.sandbox
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
        network = NetworkPolicy(rules.tcp_ports, rules.dns, rules.dns_servers, rules.allow)
        return RuntimeSpec(
            member=asked.member,
            server=asked.server,
            environment=chosen.path,
            argv=(str(chosen.path / "bin" / "mutirao-start"), *ARGUMENTS, *(room.ARGUMENTS if reading else ())),
            env=env | (room.ENVIRONMENT if reading else {}),
            limits=Limits(size.memory_mb, size.cpus, size.processes, size.open_files, size.disk_mb),
            port=PORT,
            network=room.NETWORK if reading else network,
            read_only=(room.FILES,) if reading else (),
        )

    def _reading_room(self) -> Size:
        """Fixed here, so that a hub that was taken over can't widen it; the home stays as large as it was."""
        sizes = self.settings.sizes.values()
        return Size(
            title={"en": READING_ROOM},
            memory_mb=room.MEMORY_MB,
            cpus=room.CPUS,
            processes=room.PROCESSES,
            disk_mb=max(size.disk_mb for size in sizes),
        )
