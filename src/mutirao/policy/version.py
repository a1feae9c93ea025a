"""A version of the policy, read from `versions/<number>.yaml`.

The text of a version is final; when it is in force is the business of its adoption (`mutirao.store`), and
`effective` is only the date that the project proposes. A version may be `based_on` an older one and then holds
only what differs.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from mutirao.errors import PolicyError
from mutirao.policy.category import Category
from mutirao.policy.clause import Clause, Text, read_clause
from mutirao.policy.strict import Mapping, parse_yaml

__all__ = ["Clause", "PolicyVersion", "load_versions", "read_version"]


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """The whole policy under one number; `clauses` are in the order of `Category`.

    `always_allowed` is what no clause forbids: studying, teaching, detecting, defending, declared research.
    """

    number: int
    announced: date
    effective: date
    summary: Text
    always_allowed: Text
    clauses: dict[Category, Clause]

    @property
    def digest(self) -> str:
        """SHA-256 of every text in every language, in hexadecimal: two versions with one digest say the same."""
        said = {
            lang: [text[lang] for text in (self.summary, self.always_allowed)]
            + [[category, clause.text(lang).lines()] for category, clause in self.clauses.items()]
            for lang in sorted(self.summary)
        }
        return hashlib.sha256(json.dumps(said, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


@cache
def load_versions(folder: Traversable | None = None) -> dict[int, PolicyVersion]:
    """Every version by number, in ascending order; by default those that Mutirão ships.

    Raises PolicyError where a file is wrong, or the numbers don't run 1, 2, 3 and so on.
    """
    folder = folder if folder is not None else files("mutirao.policy") / "versions"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    for name in names:
        if not (stem := name.removesuffix(".yaml")).isascii() or not stem.isdigit():
            raise PolicyError(f"{name} is not the name of a policy version: call it like 3.yaml")
    versions: dict[int, PolicyVersion] = {}
    for name in sorted(names, key=lambda name: int(name.removesuffix(".yaml"))):
        version = read_version((folder / name).read_text(encoding="utf-8"), name, versions)
        if name != f"{version.number}.yaml":
            raise PolicyError(f"{name} has number {version.number}: name and number must agree")
        if version.number != len(versions) + 1:
            raise PolicyError(f"{name} comes after version {len(versions)}: number it {len(versions) + 1}")
        versions[version.number] = version
    return versions


def read_version(source: str, where: str, older: dict[int, PolicyVersion]) -> PolicyVersion:
    """The version that a YAML document states; `older` are the versions it may be based on."""
    entry = parse_yaml(source, where)
    number, base = entry.take("number", int), _base(entry, older)
    announced, effective = entry.take("announced", date), entry.take("effective", date)
    if effective < announced:
        raise PolicyError(f"{where}.effective is {effective}, before {announced} when it is announced: announce first")
    summary = entry.text("summary")
    always_allowed = base.always_allowed if base and "always_allowed" not in entry else entry.text("always_allowed")
    clauses = dict(base.clauses) if base else {}
    for key in entry.take("removed", list) if "removed" in entry else ():
        if clauses.pop(_category(key, f"{where}.removed"), None) is None:
            raise PolicyError(f"{where}.removed names {key!r}, which the older version doesn't have: leave it out")
    for key, value in entry.take("clauses", dict).items():
        category = _category(key, f"{where}.clauses")
        clauses[category] = read_clause(category, Mapping(value, f"{where}.clauses.{key}"))
    entry.done()
    if not clauses:
        raise PolicyError(f"{where}.clauses is empty: a policy disallows something")
    ordered = {category: clauses[category] for category in Category if category in clauses}
    return PolicyVersion(number, announced, effective, summary, always_allowed, ordered)


def _base(entry: Mapping, older: dict[int, PolicyVersion]) -> PolicyVersion | None:
    """The version that this one is based on, if it says so."""
    if "based_on" not in entry:
        return None
    number = entry.take("based_on", int)
    if number not in older:
        raise PolicyError(f"{entry.where}.based_on is {number}: must be an older one, {sorted(older) or 'none yet'}")
    return older[number]


def _category(key: object, where: str) -> Category:
    """The category called `key`."""
    try:
        return Category(str(key))
    except ValueError:
        raise PolicyError(f"{where} names {key!r}: must be one of {', '.join(Category)}") from None
