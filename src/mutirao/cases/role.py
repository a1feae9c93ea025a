"""Who may do what: a person's role comes from their JupyterHub groups, and what it allows from one table. Pure."""

from collections.abc import Iterable
from enum import StrEnum

from mutirao.fairness import Roles


class Role(StrEnum):
    """What somebody is here; everybody is a member."""

    MEMBER = "member"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class Act(StrEnum):
    """What can be done with cases; acts about one's own case need no role."""

    OWN = "own"  # read one's own cases, appeal, ask for an exemption
    READ = "read"  # read anybody's case; audited
    DECIDE = "decide"  # restrict, lift, answer appeals and exemptions, link and close reports
    SUSPEND = "suspend"  # suspend an account
    INCIDENT = "incident"  # confirm or reverse an incident
    AUDIT = "audit"  # read the audit
    OPERATE = "operate"  # settings, policies, backup; no decision about people


_MAY = {
    Role.MEMBER: {Act.OWN},
    Role.REVIEWER: {Act.READ, Act.DECIDE, Act.SUSPEND, Act.INCIDENT},
    Role.OPERATOR: {Act.READ, Act.INCIDENT, Act.AUDIT, Act.OPERATE},
    Role.AUDITOR: {Act.READ, Act.AUDIT},
}


def roles_of(groups: Iterable[str], *, admin: bool, names: Roles) -> frozenset[Role]:
    """The roles of somebody in these groups; a hub administrator is an operator."""
    of_group = {names.reviewers: Role.REVIEWER, names.operators: Role.OPERATOR, names.auditors: Role.AUDITOR}
    found = {of_group[group] for group in groups if group in of_group}
    return frozenset({Role.MEMBER} | found | ({Role.OPERATOR} if admin else set()))


def may(roles: Role | Iterable[Role], act: Act) -> bool:
    """True where one of the roles allows the act; an auditor alone changes nothing."""
    held = {roles} if isinstance(roles, Role) else set(roles)
    return any(act in _MAY[role] for role in held)
