"""A table of the settings file, and the values that several tables know."""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mutirao.errors import ConfigError

Port = Annotated[int, Field(ge=1, le=65535)]
FromEnvironment = dict[Literal["env"], str]
"""Names the variable that holds a value which is better not in the file."""


class Section(BaseModel):
    """A table of the file: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def from_environment(key: str, variable: str) -> str:
    """The variable's value; ConfigError, which names the setting `key`, where it is not set."""
    if variable not in os.environ:
        raise ConfigError(f"{key} names the variable {variable}, which is not set.")
    return os.environ[variable]


def resolved(key: str, value: str | FromEnvironment) -> str:
    """The value itself, or that of the variable which it names; ConfigError where that is not set."""
    return value if isinstance(value, str) else from_environment(key, value["env"])
