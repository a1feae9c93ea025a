"""The commands about cases: `mutirao case`, `sanction`, `incident`, `rule`, `exemption`; each act names who did it."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mutirao import config
from mutirao.errors import MutiraoError
from mutirao.instance import open_store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Settings = Callable[[argparse.Namespace], config.Settings]


class Commands:
    """The commands; `settings` gives the instance's from the options of the command line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def _read(self, options: argparse.Namespace) -> "Iterator[Session]":
        with open_store(self._settings(options)) as store, store.read() as session:
            yield session

    @contextmanager
    def _write(self, options: argparse.Namespace) -> "Iterator[Session]":
        with open_store(self._settings(options)) as store, store.write() as session:
            yield session

    def add(self, group: Callable[[str, str], Any], command: Callable[..., Any]) -> None:
        """Add every command to the parser."""
        number: Any = (("number",), {"help": "as people write it, such as M-2026-000123"})
        by: Any = (("--by",), {"required": True, "help": "who does it"})
        why: Any = (("--why",), {"required": True, "help": "why, for the member to read"})
        member: Any = (("--member",), {"help": "only this member's"})
        cases = group("case", "cases about members")
        command(cases, "list", self.case_list, member)
        command(cases, "show", self.case_show, number, by)
        sanctions = group("sanction", "restrictions, each with an end")
        command(sanctions, "list", self.sanction_list)
        back: Any = (("--give-back",), {"action": "store_true", "help": "credit the time for which it held"})
        command(sanctions, "lift", self.sanction_lift, (("sanction",), {"type": int}), by, why, back)
        incidents = group("incident", "causes that hit many people")
        command(incidents, "list", self.incident_list)
        command(incidents, "reverse", self.incident_reverse, number, by, why)
        command(incidents, "confirm", self.incident_confirm, number, by, why)
        rules = group("rule", "the rules that cells are judged by")
        command(rules, "list", self.rule_list)
        exemptions = group("exemption", "leave for declared purposes")
        command(exemptions, "list", self.exemption_list, member)
        which: Any = (("exemption",), {"type": int})
        days: Any = (("--days",), {"type": float, "help": "days until it ends (the most that is configured)"})
        command(exemptions, "grant", self.exemption_grant, which, by, why, days)
        command(exemptions, "refuse", self.exemption_refuse, which, by, why)

    def rule_list(self, options: argparse.Namespace) -> None:
        """List the rules: what each may do by what it ships with, and what its own record leaves it."""
        from mutirao.cases import demotion
        from mutirao.detect.pack import default_pack

        with self._read(options) as session:
            for rule in default_pack():
                record = demotion.standing(session, rule.category, rule.id, rule.version)
                left = record.allows(rule.maturity)
                now = f"{rule.maturity}" if left is rule.maturity else f"{rule.maturity}, demoted to {left}"
                print(
                    f"{rule.id}\t{rule.version}\t{rule.category}\t{rule.level.key}\t{now}\t"
                    f"{record.stopped} people stopped, {record.reversed} reversed"
                )

    def _office(self, options: argparse.Namespace) -> Any:
        from mutirao.cases.office import Office
        from mutirao.cases.wording import Pages
        from mutirao.policy.version import load_versions

        settings = self._settings(options)
        return Office(load_versions(), Pages(f"{settings.public_url}/services/mutirao/"), settings.cases)

    def case_list(self, options: argparse.Namespace) -> None:
        """List cases, the newest first."""
        from sqlalchemy import select

        from mutirao.store.models import Case

        wanted = select(Case).order_by(Case.id.desc())
        if options.member:
            wanted = wanted.where(Case.member == options.member)
        with self._read(options) as session:
            for case in session.scalars(wanted):
                last = case.decisions[-1].action if case.decisions else "-"
                print(f"{case.number}\t{case.member or '-'}\t{case.category}\t{last}\tseen {case.seen} times")

    def case_show(self, options: argparse.Namespace) -> None:
        """Print one case as JSON; the audit records who looked."""
        from mutirao.cases import appeal, record, review

        now = _now()
        with self._write(options) as session:
            case = record.find_case(session, options.number)
            if case is None:
                raise MutiraoError(f"There is no case {options.number}.")
            review.look(session, case, options.by, now)
            shown = {
                "number": case.number,
                "member": case.member,
                "category": case.category,
                "origin": case.origin,
                "seen": case.seen,
                "observations": [
                    {"at": seen.at, "rule": seen.rule, "line": seen.line, "excerpt": seen.excerpt}
                    for seen in case.observations
                ],
                "decisions": [
                    {"at": made.at, "by": made.by, "action": made.action, "reason": made.reason}
                    for made in case.decisions
                ],
                "appeals": [
                    {"opened_at": one.opened_at, "text": one.text, "outcome": one.outcome, "by": one.answered_by}
                    for one in appeal.of(session, case)
                ],
            }
        print(json.dumps(shown, indent=2, ensure_ascii=False, default=str))

    def sanction_list(self, options: argparse.Namespace) -> None:
        """List the restrictions that hold now."""
        from mutirao.cases import sanction

        with self._read(options) as session:
            for member, restriction in sorted(sanction.active(session, _now()).items()):
                for held in restriction.held:
                    print(f"{held.sanction}\t{member}\t{held.scope}\tuntil {held.ends_at:%Y-%m-%d %H:%M}\t{held.case}")

    def sanction_lift(self, options: argparse.Namespace) -> None:
        """Lift a restriction before its end, and tell its member."""
        from mutirao.cases import review

        office = self._office(options)
        with self._write(options) as session:
            entry = review.find_sanction(session, options.sanction)
            if entry is None:
                raise MutiraoError(f"There is no sanction {options.sanction}: mutirao sanction list names them.")
            _done(review.lift(session, office, entry, options.by, options.why, _now(), give_back=options.give_back))
            print(f"Lifted: {entry.scope} of {entry.member}, {entry.given_back_s} s given back.")

    def incident_list(self, options: argparse.Namespace) -> None:
        """List the incidents, the newest first."""
        from mutirao.cases import incident

        with self._read(options) as session:
            for entry in incident.all_of(session):
                state = entry.outcome or "open"
                opened = f"{entry.opened_at:%Y-%m-%d %H:%M}"
                print(f"{entry.number}\t{entry.category}\t{state}\t{entry.people} people\t{opened}")

    def incident_reverse(self, options: argparse.Namespace) -> None:
        """Undo an incident: strikes and restricted time are given back, everybody hit is asked pardon."""
        from mutirao.cases import incident

        office = self._office(options)
        with self._write(options) as session:
            entry = _incident(session, options.number)
            told = _done(incident.reverse(session, office, entry, options.by, options.why, _now()))
            print(f"{entry.number} is reversed: {told} members are told, and what followed is given back.")

    def incident_confirm(self, options: argparse.Namespace) -> None:
        """Say that the cause was disallowed work after all: what was paused counts again."""
        from mutirao.cases import incident

        with self._write(options) as session:
            entry = _incident(session, options.number)
            _done(incident.confirm(session, entry, options.by, options.why, _now()))
            print(f"{entry.number} is confirmed.")

    def exemption_list(self, options: argparse.Namespace) -> None:
        """List the requests that wait, or all of one member's."""
        from mutirao.cases import exemption

        with self._read(options) as session:
            mine = exemption.of(session, options.member) if options.member else None
            for entry in mine if mine is not None else exemption.waiting_for_answer(session, _now()):
                state = "waiting" if entry.under_review else "refused" if entry.refused else "granted"
                print(
                    f"{entry.id}\t{entry.member}\t{entry.kind}\t{entry.category}\t{state}\t"
                    f"policy {entry.policy_version}\tuntil {entry.ends_at:%Y-%m-%d}\t{entry.purpose!r}"
                )

    def exemption_grant(self, options: argparse.Namespace) -> None:
        """Grant a request, with an end."""
        self._answer(options, grant=True, days=options.days)

    def exemption_refuse(self, options: argparse.Namespace) -> None:
        """Refuse a request."""
        self._answer(options, grant=False, days=None)

    def _answer(self, options: argparse.Namespace, *, grant: bool, days: float | None) -> None:
        from mutirao.cases import exemption
        from mutirao.store.models import Exemption

        office = self._office(options)
        with self._write(options) as session:
            entry = session.get(Exemption, options.exemption)
            if entry is None:
                raise MutiraoError(f"There is no exemption {options.exemption}: mutirao exemption list names them.")
            _done(exemption.answer(session, office, entry, options.by, options.why, _now(), grant=grant, days=days))
            print(f"{'Granted' if grant else 'Refused'}: {entry.category} for {entry.member}.")


def _now() -> datetime:
    return datetime.now(UTC)


def _incident(session: Any, number: str) -> Any:
    from mutirao.cases import incident

    entry = incident.find(session, number)
    if entry is None:
        raise MutiraoError(f"There is no incident {number}: mutirao incident list names them.")
    return entry


REFUSALS = {
    "closed": "It is closed already.",
    "over": "It has ended or was lifted already.",
    "own": "Nobody decides about themselves: another person must do it.",
    "why": "--why must be a sentence of 10 to 2000 characters.",
    "answered": "It was answered already.",
}


def _done(answer: Any) -> Any:
    """What was done; a refusal becomes an error that says why."""
    from mutirao.cases.office import Refused

    if isinstance(answer, Refused):
        raise MutiraoError(REFUSALS.get(answer.why, f"It was refused: {answer.why}."))
    return answer
