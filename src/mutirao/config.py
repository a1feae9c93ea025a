"""The settings: one TOML file, typed; an unknown key is an error that names the nearest known one."""

import difflib
import ipaddress
import os
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import tomli_w
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from mutirao.errors import ConfigError
from mutirao.fairness import Cases, Mail, Roles
from mutirao.language import LANGUAGES
from mutirao.origins import Origins, is_address, is_loopback, origins
from mutirao.section import Section

DEFAULT_DATA = Path("/var/lib/mutirao/data")
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class Service(Section):
    """Where the service listens and keeps its data."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Anything but loopback needs subdomain_host, and TLS."
    )
    port: Port = Field(8000, description="Port to listen on.")
    data: Path = Field(DEFAULT_DATA, description="Folder of database, homes, logs and secrets; must be absolute.")
    public_url: str = Field(
        "", description="Address that members type, for links in notices; from host and port if empty."
    )
    subdomain_host: str = Field(
        "",
        description="https://HOST[:PORT] of the hub; members are then on NAME.HOST and the pages on "
        "mutirao--service.HOST, so that none can act as another. Needs wildcard DNS, and a wildcard certificate.",
    )
    shared_origin_accepted: bool = Field(
        False,
        description="Start without subdomain_host where others than this machine can come in: every member can then "
        "act as every other who opens a page of theirs.",
    )
    contact: str = Field("", description="Whom members write to: a mail address or URL, shown in cases and notices.")
    language: Literal["en", "pt-BR"] = Field("en", description="Language for clients that name none.")

    @field_validator("data")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @field_validator("public_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("subdomain_host")
    @classmethod
    def _host(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            known = False
        if not value:
            return value
        if not known or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("https://HOST or https://HOST:PORT, without a path")
        if is_address(parts.hostname or ""):
            raise ValueError("a name, because an address has no subdomains")
        # Browsers leave the usual port out, and compare.
        return value.rstrip("/").lower().removesuffix(":443" if parts.scheme == "https" else ":80")

    @model_validator(mode="after")
    def _one_host(self) -> "Service":
        if self.subdomain_host and self.public_url and self.public_url != self.subdomain_host:
            raise ValueError("the same in public_url and subdomain_host, or public_url left out")
        return self


class Tls(Section):
    """Encryption towards browsers: from files here, or by a proxy in front."""

    cert: str = Field("", description="File of the certificate with its chain, PEM; a wildcard for subdomain_host too.")
    key: str = Field("", description="File of its private key, PEM; root reads it, the proxy gets a copy of its own.")
    redirect_port: int = Field(
        0, ge=0, le=65535, description="Port on which http:// is sent on to https://; 0 for none. Usually 80."
    )
    behind_proxy: bool = Field(False, description="A proxy in front of this one does TLS.")
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses of that proxy: what they say about who asks (X-Forwarded-For) is believed, others' not.",
    )
    hsts_days: int = Field(
        365, ge=0, description="How long browsers are told to come by https only, subdomains included; 0: not at all."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            ipaddress.ip_address(address)
        return value

    @model_validator(mode="after")
    def _whole(self) -> "Tls":
        if bool(self.cert) != bool(self.key):
            raise ValueError("both cert and key, or neither")
        if self.cert and self.behind_proxy:
            raise ValueError("either cert and key, or behind_proxy")
        if self.redirect_port and not self.cert:
            raise ValueError("cert and key where redirect_port is set")
        return self


class LoginKind(StrEnum):
    """How members log in."""

    NATIVE = "native"
    DEMO = "demo"
    CLASS = "class"


class Login(Section):
    """Who may come in."""

    kind: LoginKind = Field(
        LoginKind.NATIVE,
        description="native: sign-up with approval or invite links; demo: one shared password, loopback only; "
        "class: any JupyterHub authenticator, named by class_name.",
    )
    class_name: str = Field(
        "", description="Authenticator class for kind = class, such as oauthenticator.github.GitHubOAuthenticator."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Traits of that class, such as client_id; a secret is better named by its environment variable: "
        'client_secret = { env = "NAME" }.',
    )
    operators: tuple[str, ...] = Field((), description="Names with administrator rights from the start.")
    open_sign_up: bool = Field(False, description="native only: let everybody in who signs up, without approval.")

    @model_validator(mode="after")
    def _class_named(self) -> "Login":
        if self.kind is LoginKind.CLASS and "." not in self.class_name:
            raise ValueError("needs class_name, the authenticator class with its module, when kind is class")
        return self

    def variables(self) -> set[str]:
        """The environment variables that the options name."""
        return {value["env"] for value in self.options.values() if isinstance(value, dict) and set(value) == {"env"}}

    def resolved_options(self) -> dict[str, Any]:
        """The options with values from the environment filled in; ConfigError where a variable is not set."""
        found = {}
        for key, value in self.options.items():
            if isinstance(value, dict) and set(value) == {"env"}:
                if value["env"] not in os.environ:
                    raise ConfigError(f"login.options.{key} names the variable {value['env']}, which is not set.")
                value = os.environ[value["env"]]
            found[key] = value
        return found


FromEnvironment = dict[Literal["env"], str]


def _resolved(key: str, value: str | FromEnvironment) -> str:
    """The value itself, or that of the variable which it names; ConfigError where that is not set."""
    if isinstance(value, str):
        return value
    if value["env"] not in os.environ:
        raise ConfigError(f"{key} names the variable {value['env']}, which is not set.")
    return os.environ[value["env"]]


class StoreSettings(Section):
    """Where cases, notices and the audit are kept, and where the hub keeps its own tables."""

    url: str | FromEnvironment = Field(
        "",
        description="Empty: SQLite in the data folder. Else postgresql://USER@HOST/DATABASE; one with a password is "
        'better named by its environment variable: { env = "NAME" }.',
    )
    hub_url: str | FromEnvironment = Field(
        "", description="The same for the hub's own tables; another database than url's, better with another user."
    )

    @field_validator("url", "hub_url")
    @classmethod
    def _kind(cls, value: str | FromEnvironment) -> str | FromEnvironment:
        if isinstance(value, dict) and set(value) != {"env"}:
            raise ValueError('must be text or { env = "NAME" }')
        if isinstance(value, str) and value and not value.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("must start with postgresql://, or be empty for SQLite")
        return value

    @model_validator(mode="after")
    def _apart(self) -> "StoreSettings":
        if self.url and self.url == self.hub_url:
            raise ValueError("has url and hub_url alike, but each needs a database of its own")
        return self

    def hub_variables(self) -> set[str]:
        """The environment variables that the hub needs for its own tables."""
        return set() if isinstance(self.hub_url, str) else {self.hub_url["env"]}


class Policy(Section):
    """Which shipped policy version is adopted at the first start."""

    version: int = Field(2, ge=1, description="Version in force from the first start; later: mutirao policy adopt.")


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
        20, gt=0, description="Seconds of reading a minute for one member's cells; past them only their own cells wait."
    )


class AuditSettings(Section):
    """The chain of everything that was done, and where its signed heads go."""

    heads: Path | None = Field(
        None,
        description="File that signed heads are added to, best on another machine's mount; must be absolute. "
        "audit/heads.jsonl in the data folder if left out.",
    )
    every_minutes: int = Field(10, ge=1, description="How often a head is signed, where the chain has grown.")

    @field_validator("heads")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value


class Privacy(Section):
    """How long personal data is kept."""

    keep_days: int = Field(
        365, ge=0, description="Days after which a case loses its names, excerpts and reasons; 0 keeps them for ever."
    )


class Logs(Section):
    """The parts' logs in the data folder."""

    max_mb: int = Field(20, ge=1, le=10_000, description="A log that has grown to this is cut, MiB.")
    keep: int = Field(5, ge=0, le=99, description="How many cut pieces of each log are kept.")


class Metrics(Section):
    """What Prometheus may read."""

    token: FromEnvironment | None = Field(
        None,
        description="Variable with the token that opens the pages' /metrics: { env = \"NAME\" }. Operators' own "
        "tokens open it too, and nobody on this machine needs one.",
    )

    @field_validator("token")
    @classmethod
    def _named(cls, value: FromEnvironment | None) -> FromEnvironment | None:
        if value is not None and set(value) != {"env"}:
            raise ValueError('must be { env = "NAME" }')
        return value


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


class Settings(Section):
    """The whole file; every table may be left out."""

    service: Service = Service()
    tls: Tls = Tls()
    login: Login = Login()
    store: StoreSettings = StoreSettings()
    policy: Policy = Policy()
    sandbox: Sandbox = Sandbox()
    gate: Gate = Gate()
    cases: Cases = Cases()
    roles: Roles = Roles()
    mail: Mail = Mail()
    audit: AuditSettings = AuditSettings()
    privacy: Privacy = Privacy()
    logs: Logs = Logs()
    metrics: Metrics = Metrics()
    environments: dict[Name, Environment] = Field(ENVIRONMENTS, description="Environments on the start page, by name.")
    sizes: dict[Name, Size] = Field(SIZES, description="Sizes on the start page, by name; the first is preselected.")

    @field_validator("sizes", "environments")
    @classmethod
    def _some(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("needs at least one entry")
        return value

    @property
    def public_url(self) -> str:
        """The address members type, without a slash at its end."""
        if self.service.subdomain_host or self.service.public_url:
            return self.service.subdomain_host or self.service.public_url
        host = "127.0.0.1" if self.service.host in ("", "0.0.0.0", "::") else self.service.host  # noqa: S104 - a comparison
        scheme = "https" if self.tls.cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.service.port}"

    @property
    def origins(self) -> Origins:
        """Where hub, pages and members are seen from outside."""
        return origins(self.service.subdomain_host, self.public_url)

    @property
    def local_only(self) -> bool:
        """True where only this machine can come in, by what is listened on and by what members type."""
        return is_loopback(self.service.host) and is_loopback(urlsplit(self.public_url).hostname or "")

    @property
    def store_url(self) -> str:
        """Where the cases are kept, as SQLAlchemy names it; with its password."""
        url = _resolved("store.url", self.store.url)
        return _with_driver(url) or f"sqlite:///{self.service.data / 'store' / 'mutirao.sqlite'}"

    @property
    def heads_file(self) -> Path:
        """Where signed heads of the audit go."""
        return self.audit.heads or self.service.data / "audit" / "heads.jsonl"

    @property
    def metrics_token(self) -> str:
        """What opens the metrics from afar, empty for none."""
        return _resolved("metrics.token", self.metrics.token) if self.metrics.token else ""

    @property
    def hub_database_url(self) -> str:
        """Where the hub keeps its own tables; with its password."""
        url = _resolved("store.hub_url", self.store.hub_url)
        return _with_driver(url) or f"sqlite:///{self.service.data / 'hub' / 'jupyterhub.sqlite'}"


def _with_driver(url: str) -> str:
    return re.sub(r"^postgresql://", "postgresql+psycopg://", url)


def load(path: Path | None, changes: dict[str, dict[str, Any]] | None = None) -> Settings:
    """The settings in `path` (None: defaults), with `changes` from the command line on top."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    for section, entries in (changes or {}).items():
        if isinstance(values.setdefault(section, {}), dict):
            values[section] |= entries
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(entry, path) for entry in error.errors())) from error


def _explain(entry: Any, path: Path | None) -> str:
    where = ".".join(str(part) for part in entry["loc"])
    file = path.name if path else "the command line"
    if entry["type"] == "extra_forbidden":
        known = known_keys(tuple(entry["loc"][:-1]))
        near = difflib.get_close_matches(str(entry["loc"][-1]), known, n=1, cutoff=0.0)
        return f"{where} in {file} is not a setting; the nearest one is {near[0] if near else 'none'}."
    if entry["type"] == "missing":
        return f"{where} is missing in {file}: it has no default."
    message = entry["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    shown = "…" if "secret" in where or where.split(".")[0] == "store" else repr(entry["input"])
    return f"{where} is {shown} in {file}: must be {message.removeprefix('must be ')}."


def known_keys(loc: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at a place in the file, in the order of the file."""
    model: Any = Settings
    for part in loc:
        if isinstance(model, type) and issubclass(model, Section):
            annotation = model.model_fields[str(part)].annotation
            inner = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, Section)]
            model = inner[0] if inner and not isinstance(annotation, type) else annotation
            if inner:
                model = {"entries": inner[0]}
        elif isinstance(model, dict):
            model = model["entries"]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, Section) else []


SECRET_WORDS = ("secret", "password", "token", "key")


def show(settings: Settings) -> str:
    """The settings in force as TOML; secrets are masked."""
    values = settings.model_dump(mode="json", exclude_none=True)
    for name in values["login"]["options"]:
        if any(word in name.lower() for word in SECRET_WORDS):
            values["login"]["options"][name] = "**********"
    for name in ("url", "hub_url"):
        if isinstance(values["store"][name], str):
            values["store"][name] = re.sub(r"(://[^:/@]*:)[^@]*@", r"\1**********@", values["store"][name])
    return tomli_w.dumps(values)
