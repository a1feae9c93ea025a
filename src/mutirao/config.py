"""The settings: one TOML file, typed; an unknown key is an error that names the nearest known one."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import tomli_w
from pydantic import Field, ValidationError, field_validator

from mutirao.entrance import Login, Service, Tls
from mutirao.errors import ConfigError
from mutirao.fairness import Cases, Mail, Policy, Roles
from mutirao.keeping import AuditSettings, Logs, Metrics, Privacy, StoreSettings
from mutirao.offer import ENVIRONMENTS, SIZES, Environment, Gate, Sandbox, Size
from mutirao.origins import Origins, is_loopback, origins
from mutirao.section import Section, resolved

SECRET_WORDS = ("secret", "password", "token", "key")
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


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
        return self.service.subdomain_host or self.service.public_url or self.local_url

    @property
    def local_url(self) -> str:
        """The address by which this machine reaches what is listened on, without a slash at its end."""
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
        url = resolved("store.url", self.store.url)
        return _with_driver(url) or f"sqlite:///{self.service.data / 'store' / 'mutirao.sqlite'}"

    @property
    def heads_file(self) -> Path:
        """Where signed heads of the audit go."""
        return self.audit.heads or self.service.data / "audit" / "heads.jsonl"

    @property
    def metrics_token(self) -> str:
        """What opens the metrics from afar, empty for none."""
        return resolved("metrics.token", self.metrics.token) if self.metrics.token else ""

    @property
    def hub_database_url(self) -> str:
        """Where the hub keeps its own tables; with its password."""
        url = resolved("store.hub_url", self.store.hub_url)
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
    if not message.startswith(("must ", "needs ", "has ")):
        message = f"must be {message}"
    if isinstance(entry["input"], dict):
        # A whole table is long, and may hold secrets.
        return f"{where} in {file}: {message}."
    secret = where.startswith("store.") or any(word in where.lower() for word in (*SECRET_WORDS, "options"))
    return f"{where} is {'…' if secret else repr(entry['input'])} in {file}: {message}."


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
