"""The pure parts: what always holds of decisions, whatever comes in."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutirao.cases.action import Action
from mutirao.cases.cause import cause, normalise
from mutirao.cases.decide import NEVER_HELD, Standing, decide
from mutirao.cases.ladder import SCOPES, History, Scope, climb, founded
from mutirao.cases.role import Act, Role, may, roles_of
from mutirao.detect.finding import Level, Maturity
from mutirao.fairness import Cases, Roles
from mutirao.policy.category import Category
from tests.cases.court import with_rules

levels, maturities, categories = st.sampled_from(Level), st.sampled_from(Maturity), st.sampled_from(Category)
histories = st.builds(
    History,
    strikes=st.integers(0, 40),
    stopped=st.integers(0, 40),
    struck=st.booleans(),
    paused=st.booleans(),
    known=st.booleans(),
)
books = st.builds(
    lambda gpu, more, days, longest: with_rules(
        gpu_strikes=gpu, compute_strikes=gpu + more, compute_days=days, longest_days=longest
    ),
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 60), st.integers(1, 366),
)  # fmt: skip
MACHINES = {Action.ALLOW, Action.WARN, Action.HOLD, Action.STOP}


@given(levels, maturities, categories, st.sampled_from(Standing), histories, books)
def test_what_always_holds_of_a_machine_s_decision(
    level: Level, maturity: Maturity, category: Category, standing: Standing, history: History, rules: Cases
) -> None:
    decided = decide(level, maturity, category, standing, history, rules)

    assert decided.action in MACHINES
    if decided.consequence:
        assert decided.strike
        assert decided.consequence.scope is not Scope.ACCOUNT
        assert 0 < decided.consequence.days <= rules.longest_days
    if decided.strike:
        assert decided.action is Action.STOP
        assert level is Level.STOP
        assert maturity is Maturity.STABLE
        assert category in NEVER_HELD or history.stopped or history.strikes
        assert not history.struck
        assert not history.paused
        assert history.known
    if standing is Standing.EXEMPT:
        assert decided.action is Action.ALLOW
    # The breaker and the account's history change nothing about the process.
    assert decided.action is decide(level, maturity, category, standing).action
    assert decided.action is decide(level, maturity, category, standing, replace(history, paused=True), rules).action
    assert not decide(level, maturity, category, standing, replace(history, paused=True), rules).strike


@given(histories, categories, books)
def test_more_strikes_never_lead_to_less(history: History, category: Category, rules: Cases) -> None:
    def weight(strikes: int) -> tuple[int, float]:
        followed = decide(
            Level.STOP, Maturity.STABLE, category, history=replace(history, strikes=strikes), rules=rules
        ).consequence
        return (SCOPES.index(followed.scope), followed.days) if followed else (-1, 0)

    weights = [weight(strikes) for strikes in range(1, 12)]
    assert all(less <= more for less, more in pairwise(weights))


@given(st.integers(0, 50), books)
def test_a_restriction_is_founded_on_the_strikes_that_brought_it(strikes: int, rules: Cases) -> None:
    followed = climb(strikes, rules)
    if followed:
        assert founded(followed.scope, strikes, rules)
    assert not founded(Scope.GPU, rules.gpu_strikes - 1, rules)
    assert not founded(Scope.ACCOUNT, 50, rules)


# A cause is the same for everybody


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pip:evilpkg", "PIP:evilpkg"),
        ("./xmrig -o pool.example:3333 -u 44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb", "/tmp/ana/xmrig -o pool.example:4444 -u 48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8"),
        ("run  'it'   --threads 4", 'run "it" --threads 16'),
        ("python /home/ana/work/miner.py", "python miner.py"),
        ("token 0xdeadbeef", "token 0x12345678"),
    ],
)  # fmt: skip
def test_trivial_differences_make_no_other_cause(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)
    assert cause("mining", "r", one) == cause("mining", "r", other)


def test_other_rules_categories_and_evidence_are_other_causes() -> None:
    assert (
        len({cause("mining", "r", "x"), cause("dos", "r", "x"), cause("mining", "s", "x"), cause("mining", "r", "y")})
        == 4
    )


@given(st.text())
def test_any_evidence_has_a_cause_and_normalising_twice_changes_nothing(text: str) -> None:
    assert len(cause("mining", "r", text)) == 32
    assert normalise(normalise(text)) == normalise(text)


# Roles

WHO_MAY = {
    Act.OWN: {Role.MEMBER},
    Act.READ: {Role.REVIEWER, Role.OPERATOR, Role.AUDITOR},
    Act.DECIDE: {Role.REVIEWER},
    Act.SUSPEND: {Role.REVIEWER},
    Act.INCIDENT: {Role.REVIEWER, Role.OPERATOR},
    Act.AUDIT: {Role.OPERATOR, Role.AUDITOR},
    Act.OPERATE: {Role.OPERATOR},
}


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("role", Role)
def test_who_may_do_what(role: Role, act: Act) -> None:
    assert may(role, act) == (role in WHO_MAY[act])


def test_roles_come_from_groups_and_everybody_is_a_member() -> None:
    names = Roles(reviewers="jury")

    assert roles_of([], admin=False, names=names) == {Role.MEMBER}
    assert roles_of(["jury", "mutirao-reviewers", "x"], admin=False, names=names) == {Role.MEMBER, Role.REVIEWER}
    assert roles_of(["mutirao-auditors"], admin=True, names=names) == {Role.MEMBER, Role.OPERATOR, Role.AUDITOR}
    assert not may(roles_of(["mutirao-auditors"], admin=False, names=names), Act.DECIDE)
