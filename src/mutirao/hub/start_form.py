"""The start page's form: an environment, a size, and one click for the usual case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment as Jinja
from jinja2 import FileSystemLoader, StrictUndefined, Template

from mutirao.errors import SandboxError
from mutirao.hub.standing import FREE, Standing
from mutirao.language import translate

FIELD_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Environment:
    """A set of packages that a runtime starts from; `title` is by language tag, `ready` says that it is built."""

    name: str
    title: Mapping[str, str]
    packages: tuple[str, ...]
    ready: bool


@dataclass(frozen=True, slots=True)
class Size:
    """What a runtime may use: memory in MiB, CPU cores."""

    name: str
    title: Mapping[str, str]
    memory_mb: int
    cpus: float

    @property
    def memory(self) -> str:
        """Memory as people read it: 512 MiB, 4 GiB, 1.5 GiB."""
        return f"{self.memory_mb / 1024:g} GiB" if self.memory_mb >= 1024 else f"{self.memory_mb} MiB"


def start_form(environments: Sequence[Environment], sizes: Sequence[Size], lang: str, standing: Standing = FREE) -> str:
    """The form's fields as HTML; the first environment that is ready and the first size are chosen beforehand.

    Who may not run code finds the restriction in words and the reading room's door, and nothing to choose.
    """

    def say(text: str, /, **values: object) -> str:
        return translate(lang, "web", text, **values)

    usual = next((entry.name for entry in environments if entry.ready), None)
    return _template().render(_=say, lang=lang, standing=standing, environments=environments, sizes=sizes, usual=usual)


def parse_start_form(
    formdata: Mapping[str, Sequence[str]], environments: Sequence[Environment], sizes: Sequence[Size]
) -> dict[str, str]:
    """The choice as {"environment": name, "size": name}; SandboxError for one that is not offered or not ready."""
    environment = _one(formdata, "environment", [entry.name for entry in environments])
    size = _one(formdata, "size", [entry.name for entry in sizes])
    if not next(entry.ready for entry in environments if entry.name == environment):
        raise SandboxError(f"The environment {environment} is not built yet: choose another, or ask an operator.")
    return {"environment": environment, "size": size}


def progress_steps(lang: str) -> list[tuple[int, str]]:
    """What the waiting page says while a runtime starts: (percent, text), in order."""
    steps = (
        (10, "Finding a place for your runtime …"),
        (30, "Building its walls …"),
        (50, "Opening your home folder …"),
        (70, "Starting JupyterLab …"),
        (85, "Nearly there …"),
    )
    return [(percent, translate(lang, "web", text)) for percent, text in steps]


def _one(formdata: Mapping[str, Sequence[str]], field: str, offered: Sequence[str]) -> str:
    values = formdata.get(field, ())
    if len(values) != 1:
        raise SandboxError(f"The form has {len(values)} values for {field}: choose one of {', '.join(offered)}.")
    if values[0] not in offered:
        raise SandboxError(f"{field} {values[0][:FIELD_LENGTH]!r} is not offered: choose one of {', '.join(offered)}.")
    return values[0]


@cache
def _template() -> Template:
    folder = files("mutirao") / "hub" / "templates"
    jinja = Jinja(loader=FileSystemLoader(str(folder)), autoescape=True, undefined=StrictUndefined)
    return jinja.get_template("start_form.html")
