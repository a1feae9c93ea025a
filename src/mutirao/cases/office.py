"""What every act about a case needs beside the database: policies, addresses of pages, rules of enforcement."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mutirao.cases.wording import Pages
from mutirao.fairness import Cases
from mutirao.policy.category import Category
from mutirao.policy.version import Clause, PolicyVersion
from mutirao.store.models import Case


@dataclass(frozen=True, slots=True)
class Office:
    """The shipped policies by number, the addresses of pages, and the numbers of `[cases]`."""

    policies: Mapping[int, PolicyVersion]
    pages: Pages
    rules: Cases = field(default_factory=Cases)

    def clause(self, case: Case) -> Clause | None:
        """The clause that a case is about, under its own policy version; None where that had none."""
        version = self.policies.get(case.policy_version)
        return version.clauses.get(Category(case.category)) if version else None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an act was not done: one word that pages translate, listed where it is returned."""

    why: str
