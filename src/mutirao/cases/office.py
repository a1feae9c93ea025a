"""What every act about a case needs beside the database: policies, addresses of pages, rules of enforcement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mutirao.cases import letter
from mutirao.cases.action import Action
from mutirao.cases.notice import Notice
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

    def letter(
        self,
        case: Case,
        kind: str,
        action: Action,
        *,
        version: int | None = None,
        lead: str = "",
        follows: str | None = None,
        next_step: str = letter.READ_ON,
        **values: Any,
    ) -> Notice:
        """A notice about a case in the words of `letter`, under the case's policy version unless one is given."""
        return letter.compose(
            kind,
            action,
            case.number,
            self.pages,
            clause=self.clause(case),
            version=case.policy_version if version is None else version,
            lead=lead,
            follows=follows,
            next_step=next_step,
            **values,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an act was not done: one word that pages translate, listed where it is returned."""

    why: str
