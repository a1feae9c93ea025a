"""The settings of the way in: where the service listens, encryption, and who may come in."""

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from mutirao.origins import is_address
from mutirao.section import Port, Section, from_environment

DEFAULT_DATA = Path("/var/lib/mutirao/data")


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
        return {value["env"] for value in self.options.values() if _names_one(value)}

    def resolved_options(self) -> dict[str, Any]:
        """The options with values from the environment filled in; ConfigError where a variable is not set."""
        return {
            key: from_environment(f"login.options.{key}", value["env"]) if _names_one(value) else value
            for key, value in self.options.items()
        }


def _names_one(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"env"}
