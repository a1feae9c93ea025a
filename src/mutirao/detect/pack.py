"""The pack: rule files read from a folder of `<category>/<rule-id>.yaml`. The only part of detect that opens files."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from mutirao.detect.lists import Lists, filled, parse_list
from mutirao.detect.rule import Rule, parse_rule
from mutirao.errors import RuleError


def load_pack(folder: Path) -> tuple[Rule, ...]:
    """Every rule below the folder, by category and id. Raises RuleError naming the file at fault."""
    paths = sorted(folder.glob("*/*.yaml"))
    if not paths:
        raise RuleError(f"No rules at {folder}: give the folder that holds <category>/<rule-id>.yaml.")
    lists = {p.stem: parse_list(p.read_text(encoding="utf-8"), p.name) for p in sorted(folder.glob("lists/*.txt"))}
    seen: dict[str, Path] = {}
    rules = []
    for path in paths:
        where = f"{path.parent.name}/{path.name}"
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 (a safe loader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RuleError(f"{where} is no YAML: {' '.join(str(error).split())}") from None
        rule = parse_rule(_filled(data, lists, where), where)
        if rule.id != path.stem:
            raise RuleError(f"{where}: id is {rule.id!r}: must be the file's name, {path.stem!r}.")
        if rule.category != path.parent.name:
            raise RuleError(f"{where}: category is {rule.category!r}: must be the folder's name, {path.parent.name!r}.")
        if rule.id in seen:
            raise RuleError(f"{where}: the id {rule.id!r} is taken by {seen[rule.id]}.")
        seen[rule.id] = path
        rules.append(rule)
    return tuple(rules)


@cache
def default_pack() -> tuple[Rule, ...]:
    """The rules that Mutirão ships: inside an installed package, or at the root of a checkout."""
    package = Path(str(files("mutirao")))
    inside = package / "rules"
    return load_pack(inside if inside.is_dir() else package.parents[1] / "rules")


def _filled(data: Any, lists: Lists, where: str) -> Any:
    """A rule's document with its lists filled in; its own cases and words stay as they are."""
    if not isinstance(data, dict):
        return data
    return {key: filled(value, lists, where) if key in _LISTED else value for key, value in data.items()}


_LISTED = ("needs", "unless", "anchors")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
