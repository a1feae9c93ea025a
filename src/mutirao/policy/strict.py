"""YAML read strictly: a doubled, unknown or missing key is an error that names the key and the file."""

from collections.abc import Hashable
from datetime import date
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

from mutirao.errors import PolicyError
from mutirao.language import LANGUAGES

KINDS: dict[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "a text",
    int: "a whole number",
    date: "a date like 2026-10-15",
}

T = TypeVar("T")

MAX_TEXT = 1_000  # characters; a longer text is no longer a clause that people read


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a doubled key is refused rather than overwritten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise PolicyError(f"key {key!r} is written twice (line {node.start_mark.line + 1}): keep one")
        return super().construct_mapping(node, deep)


class Mapping:
    """A mapping whose keys are all taken or refused; `where` leads every message."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise PolicyError(f"{where} is {value!r}: must be a mapping")
        self.where = where
        self._left: dict[Any, Any] = dict(value)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        """True while `key` is there and nobody has taken it."""
        self._known.append(key)
        return key in self._left

    def take(self, key: str, kind: type[T]) -> T:
        """The value under `key`, which must be there and of exactly `kind`."""
        if key not in self:
            raise PolicyError(f"{self.where}.{key} is missing: add {KINDS[kind]}")
        value = self._left.pop(key)
        if type(value) is not kind:
            raise PolicyError(f"{self.where}.{key} is {value!r}: must be {KINDS[kind]}")
        return value

    def text(self, key: str) -> dict[str, str]:
        """The text under `key`, in every language of the service."""
        return read_text(self.take(key, dict), f"{self.where}.{key}")

    def texts(self, key: str) -> tuple[dict[str, str], ...]:
        """The texts listed under `key`; at least one."""
        items = self.take(key, list)
        if not items:
            raise PolicyError(f"{self.where}.{key} is empty: give at least one example")
        return tuple(read_text(item, f"{self.where}.{key}[{n}]") for n, item in enumerate(items))

    def done(self) -> None:
        """Raises PolicyError for a key that nobody took, and names the nearest known one."""
        for key in self._left:
            near = get_close_matches(str(key), self._known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(dict.fromkeys(self._known))}"
            raise PolicyError(f"{self.where}.{key} is not a known key: {advice}")


def read_text(value: object, where: str) -> dict[str, str]:
    """One text by language: every language present, none empty, none over 1,000 characters, no control characters."""
    entry = Mapping(value, where)
    said = {lang: entry.take(lang, str).strip() for lang in LANGUAGES}
    entry.done()
    for lang, text in said.items():
        if not text:
            raise PolicyError(f"{where}.{lang} is empty: write the text")
        if len(text) > MAX_TEXT:
            raise PolicyError(f"{where}.{lang} has {len(text)} characters: {MAX_TEXT} are the most")
        if not text.isprintable():
            raise PolicyError(f"{where}.{lang} holds line breaks or control characters: write one paragraph")
    return said


def parse_yaml(source: str, where: str) -> Mapping:
    """The one mapping that a YAML document holds."""
    try:
        return Mapping(yaml.load(source, Loader=_Loader), where)  # noqa: S506 (a safe loader underneath)
    except yaml.YAMLError as error:
        raise PolicyError(f"{where} is not YAML: {error}") from error
    except PolicyError as error:
        raise PolicyError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
