"""Demotion: a rule whose decisions are reversed too often may do less, until somebody mends it as a new version.

Counted are people, not cells: whom this version of the rule has stopped, and in how many of those matters an appeal was
answered "reversed". An incident is not counted: a poisoned package is not the rule's fault. A demoted rule stops nobody
any more, so that its record can't improve by itself, and it stays down.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mutirao.cases.appeal import Outcome
from mutirao.detect.finding import Finding, Maturity
from mutirao.store import audit
from mutirao.store.consequence import Appeal
from mutirao.store.models import Case, Decision, Observation

PEOPLE = 3
"""Fewer people than this are bad luck."""

WARN_SHARE = 0.2
"""From this share of reversed people on a stable rule may only warn."""

SHADOW_SHARE = 0.5
"""From this share on any rule only counts."""

STOPPING = ("hold", "stop", "restrict")


@dataclass(frozen=True, slots=True)
class Standing:
    """The record of one version of a rule: people stopped by it, and people for whom that was reversed."""

    stopped: int = 0
    reversed: int = 0

    def allows(self, maturity: Maturity) -> Maturity:
        """What a rule of this maturity may still do."""
        if self.reversed < PEOPLE:
            return maturity
        share = self.reversed / max(self.stopped, self.reversed)
        if share >= SHADOW_SHARE:
            return Maturity.SHADOW
        return Maturity.WARN if share >= WARN_SHARE and maturity is Maturity.STABLE else maturity


def standing(session: Session, category: str, rule: str, version: str) -> Standing:
    """The record of a rule's version."""
    seen = select(Observation.id).where(
        Observation.case_id == Case.id, Observation.rule == rule, Observation.rule_version == version
    )
    people = select(func.count(func.distinct(Case.member))).where(
        Case.fingerprint == f"{category}:{rule}", Case.member.is_not(None), seen.exists()
    )
    acted = select(Decision.id).where(Decision.case_id == Case.id, Decision.action.in_(STOPPING))
    undone = select(Appeal.id).where(Appeal.case_id == Case.id, Appeal.outcome == Outcome.REVERSED.value)
    return Standing(
        stopped=session.scalar(people.where(acted.exists())) or 0,
        reversed=session.scalar(people.where(undone.exists())) or 0,
    )


def graded(session: Session, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, each with the maturity that its rule's record leaves it."""
    found = []
    for finding in findings:
        left = standing(session, finding.category, finding.rule, finding.rule_version).allows(finding.maturity)
        found.append(finding if left is finding.maturity else replace(finding, maturity=left))
    return tuple(found)


def note(session: Session, case: Case, now: datetime) -> None:
    """After a reversal: where that demoted the case's rule, the audit says so."""
    last = session.scalars(
        select(Observation).where(Observation.case_id == case.id).order_by(Observation.id.desc()).limit(1)
    ).first()
    if last is None:
        return
    record = standing(session, case.category, last.rule, last.rule_version)
    maturity = Maturity(last.maturity)
    if record.allows(maturity) is not maturity:
        content = {
            "rule": last.rule,
            "version": last.rule_version,
            "to": record.allows(maturity).value,
            "stopped": record.stopped,
            "reversed": record.reversed,
        }
        audit.append(session, now, "rule.demote", actor=None, subject=None, content=content)
