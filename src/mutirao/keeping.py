"""The settings of what is kept: cases and the audit, for how long, logs, and who may read the figures."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from mutirao.section import FromEnvironment, Section


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
