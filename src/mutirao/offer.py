"""The settings of what members are offered: environments, sizes, the walls around them and the gate in front."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from mutirao.language import LANGUAGES
from mutirao.section import Port, Section


def _with_english(title: dict[str, str]) -> dict[str, str]:
    """A title must be there in English, which stands in for languages that are missing."""
    if "en" not in title:
        raise ValueError('must name at least the English title: { en = "…" }')
    return {lang: title.get(lang, title["en"]) for lang in (*LANGUAGES, *title)}


Title = Annotated[dict[str, str], AfterValidator(_with_english)]


class Environment(Section):
    """A named, locked, read-only Python environment that runtimes start from."""

    title: Title = Field(description="Name shown on the start page, by language tag.")
    packages: tuple[str, ...] = Field((), description="Packages named on the start page.")


class Size(Section):
    """What a runtime may use."""

    title: Title = Field(description="Name shown on the start page, by language tag.")
    memory_mb: int = Field(ge=256, description="Memory, MiB.")
    cpus: float = Field(gt=0, le=1024, description="CPU cores; 0.5 is half of one.")
    processes: int = Field(512, ge=64, description="Processes and threads.")
    open_files: int = Field(4096, ge=256, description="Open files for each process.")
    disk_mb: int = Field(5120, ge=64, description="The member's home, MiB; the largest size used so far counts.")


class Sandbox(Section):
    """Walls around runtimes."""

    uid_first: int = Field(2_000_000, ge=100_000, description="First host uid for members; never reused.")
    uid_count: int = Field(60_000, ge=1, description="How many members there can ever be.")
    subnet: str = Field("10.137.0.0/16", description="IPv4 range for runtimes; blackholed on the host.")
    tcp_ports: tuple[Port, ...] = Field((80, 443), description="TCP ports that runtimes may reach outside.")
    dns: bool = Field(True, description="May runtimes ask DNS.")
    dns_servers: tuple[str, ...] = Field((), description="Resolvers; those of the host if empty.")
    allow: tuple[str, ...] = Field((), description='Private ranges that are reachable, as "CIDR" or "CIDR:port".')
    visitors: bool = Field(
        False,
        description="May others come to a member's runtime where JupyterHub lets them (operators, shares). "
        "Its owner can then run cells in their name.",
    )
    start_timeout_s: int = Field(60, ge=5, description="A runtime that has not answered by then is given up.")

    @field_validator("dns_servers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            ipaddress.IPv4Address(server)
        return value

    @field_validator("allow")
    @classmethod
    def _ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            network, colon, port = entry.partition(":")
            ipaddress.IPv4Network(network)
            if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError('must be "CIDR" or "CIDR:port"')
        return value

    @field_validator("subnet")
    @classmethod
    def _range(cls, value: str) -> str:
        network = ipaddress.ip_network(value)
        if network.version != 4 or not network.is_private or network.prefixlen > 24:
            raise ValueError("must be a private IPv4 range of /24 or wider")
        return str(network)


class Gate(Section):
    """The relay in front of kernels."""

    max_message_mb: int = Field(100, ge=1, le=2048, description="Largest message to or from a kernel, MiB.")
    judge_timeout_s: float = Field(5, gt=0, description="A cell not judged by then is refused, honestly.")
    max_connections: int = Field(
        200, ge=1, le=10_000, description="Most connections to kernels for one member: one for each kernel in each tab."
    )
    workers: int = Field(0, ge=0, le=64, description="Worker processes; 0 is one for each core, at most 8.")
    scan_budget_s: float = Field(
        6, gt=0, description="Seconds of reading a minute for one member's cells; past them only their own cells wait."
    )


ENVIRONMENTS = {
    "base": Environment(
        title={"en": "Data science", "pt-BR": "Ciência de dados"},
        packages=("numpy", "pandas", "matplotlib", "scikit-learn", "ipywidgets"),
    ),
    "ml": Environment(
        title={"en": "Machine learning", "pt-BR": "Aprendizado de máquina"},
        packages=("PyTorch", "numpy", "pandas", "matplotlib", "scikit-learn", "ipywidgets"),
    ),
}
SIZES = {
    "small": Size(title={"en": "Small", "pt-BR": "Pequeno"}, memory_mb=1024, cpus=1),
    "medium": Size(title={"en": "Medium", "pt-BR": "Médio"}, memory_mb=4096, cpus=2),
    "large": Size(title={"en": "Large", "pt-BR": "Grande"}, memory_mb=12288, cpus=4),
}
