"""DESIGN.md's twelve rules of fair enforcement: each one's acceptance tests, against a real desk and real databases."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from mutirao.cases import adoption, appeal, exemption, incident, record, review, sanction, strike
from mutirao.cases.action import Action
from mutirao.cases.appeal import Outcome
from mutirao.cases.desk import Desk
from mutirao.cases.ladder import Scope
from mutirao.cases.link import STRENGTH, Key, Linked, NotLinked, Strength, link
from mutirao.cases.office import Refused
from mutirao.cases.person import join
from mutirao.cases.scan import InThreads
from mutirao.cases.tick import tick
from mutirao.detect.engine import Engine
from mutirao.detect.finding import Finding, Level, Maturity
from mutirao.detect.pack import default_pack
from mutirao.errors import PolicyError, StoreError
from mutirao.language import LANGUAGES
from mutirao.policy.category import Category
from mutirao.store import audit
from mutirao.store.consequence import Incident, Member, Sanction, Strike
from mutirao.store.models import Audit, Case, Decision, Delivery, Notice, Observation
from tests.cases.court import NOON, Court, with_rules
from tests.flows.cells import DISALLOWED

WATCHER = "the watcher (issue 4) freezes processes; nothing outside the sandbox looks yet"


async def climb(court: Court, actor: str = "ana", matters: int = 4) -> None:
    """So many different matters of one member, which lead up the ladder."""
    for number in range(matters):
        await court.run(f"p2p/rule-{number}", actor=actor)


def appealed(court: Court, actor: str, outcome: Outcome, by: str = "rev") -> None:
    with court.write() as session:
        made = appeal.open_appeal(session, court.office, court.last(session, actor), actor, "", court.now)
        assert not isinstance(made, Refused), made
        done = appeal.answer(session, court.office, made, by, outcome, "I looked at it", court.now)
        assert not isinstance(done, Refused), done


# 1 — No decision without a notice, in one transaction; attempts are recorded; it says everything.


async def test_rule_01_a_notice_says_what_when_why_and_how_to_appeal(court: Court) -> None:
    """It says: what is restricted and what is not, from when to when, the facts, the clause and policy version, whether a
    machine detected and decided, what to do, how to appeal, the case number."""
    await climb(court)
    with court.store.read() as session:
        made = session.scalars(
            select(Decision).where(Decision.action == "restrict").order_by(Decision.id.desc())
        ).first()
        assert made is not None
        notice = session.get_one(Notice, made.notice_id)
        case = session.get_one(Case, made.case_id)
        held = session.scalars(select(Sanction).where(Sanction.decision_id == made.id)).one()

    assert set(notice.texts) == set(LANGUAGES)
    said = notice.texts["en"]
    assert f"{held.begins_at:%Y-%m-%d %H:%M} to {held.ends_at:%Y-%m-%d %H:%M}" in said["consequence"]
    assert "Running code is restricted" in said["consequence"]
    assert "Your notebooks and files are not" in said["consequence"]
    assert "Line 1" in said["facts"][0]
    assert "Policy 2" in said["clause"]
    assert "Seen by a machine" in said["facts"][-1]
    assert "decided by a machine" in said["facts"][-1]
    assert "open the case" in said["next_step"]
    assert any(case.number in address for _, address in said["links"])


async def test_rule_01_the_database_takes_no_decision_without_its_notice(court: Court) -> None:
    """No decision without a notice, written in the same transaction."""
    await court.run("mining")
    with court.store.read() as session:
        case = session.scalars(select(Case)).one().id
    with pytest.raises(StoreError), court.write() as session:
        session.add(
            Decision(case_id=case, notice_id=999, at=NOON, by="machine", action="stop", policy_version=2, reason="x")
        )
    with pytest.raises(StoreError), court.write() as session:
        session.add(Notice(case_id=case, member="ana", written_at=NOON, action="stop", texts={}))


async def test_rule_01_every_attempt_to_deliver_is_recorded(court: Court) -> None:
    """Attempts to deliver it are recorded."""
    await climb(court)
    with court.store.read() as session:
        notices = session.scalars(select(Notice.id)).all()
        told = session.scalars(select(Delivery.notice_id)).all()

    assert set(notices) == set(told)


# 2 — Warn first, unless harm is in progress; then the process is stopped, never the account.


@pytest.mark.parametrize("category", sorted(set(Category) - {Category.MINING, Category.DOS}))
async def test_rule_02_the_first_matter_is_a_warning(court: Court, category: Category) -> None:
    """Warn first: the first matter of any kind without harm in progress brings its notice and nothing else."""
    verdict = await court.run(category.value)

    assert verdict.notice is not None
    assert court.strikes() == 0
    assert court.count(Sanction) == 0


@pytest.mark.parametrize("category", [Category.MINING, Category.DOS])
async def test_rule_02_harm_in_progress_stops_the_process_not_the_account(court: Court, category: Category) -> None:
    """Unless harm is in progress; then the process or runtime is stopped, never the account."""
    verdict = await court.run(category.value)

    assert verdict.action is Action.STOP
    assert court.strikes() == 1
    assert court.count(Sanction) == 0
    assert (await court.run("print(1)")).action is Action.ALLOW


# 3 — A word alone never stops anybody.

HARMLESS = (
    "# how xmrig works, and why we forbid it\nprint('xmrig -o stratum+tcp://pool:3333')",
    "words = ['hashcat', 'john', 'hydra']\ncounts = {word: text.count(word) for word in words}",
    "df = pd.read_csv('webui_usage.csv')\ndf[df.tool == 'automatic1111 webui'].plot()",
    "'''A lesson: transmission-cli, ngrok, sshd, v2ray, DeepFaceLab'''",
    "import re\nrules = re.compile(r'xmrig|hashcat|sqlmap|slowloris')",
)


@pytest.mark.parametrize("cell", HARMLESS)
async def test_rule_03_harmless_cells_that_name_tools_bring_no_decision(court: Court, cell: str) -> None:
    """A word alone never stops anybody; harmless notebooks that name xmrig, hashcat or webui bring no decision at all."""
    court.desk = Desk(court.store, Engine(default_pack()), court.office.policies, court.office.pages, lambda: court.now)

    verdict = await court.run(cell)

    assert verdict.action is Action.ALLOW
    assert court.count(Decision) == 0
    assert court.count(Case) == 0


def test_rule_03_every_rule_that_may_stop_asks_for_more_than_a_word() -> None:
    """A stop needs a capability and a signal, or two independent layers: none of a stopping rule's cells is one word."""
    engine = Engine(default_pack())
    for rule in default_pack():
        if rule.level is Level.STOP:
            for word in rule.anchors:
                assert not any(found.level is Level.STOP for found in engine.scan(word)), (rule.id, word)
                assert not any(found.level is Level.STOP for found in engine.scan(f"# {word}")), (rule.id, word)
                assert not any(found.level is Level.STOP for found in engine.scan(f"print({word!r})")), (rule.id, word)


# 4 — Freeze before kill.


@pytest.mark.skip(reason=WATCHER)
def test_rule_04_a_freeze_lasts_ten_minutes_at_most_then_it_is_decided() -> None:
    """Freeze before kill where it serves: it is reversible and keeps the evidence."""


async def test_rule_04_until_then_a_stopped_cell_costs_no_kernel_and_keeps_its_evidence(court: Court) -> None:
    """What can be true without a watcher: a stop is of the cell alone, and the shortest evidence is kept."""
    verdict = await court.run("mining/rule/evidence")

    assert "Your account, files, kernel and other cells are untouched" in verdict.notice.text().consequence  # type: ignore[union-attr]
    with court.store.read() as session:
        assert session.scalars(select(Observation.excerpt)).one() == "evidence"


# 5 — Suspending needs a named human, an appeal is decided by a different one.


async def test_rule_05_a_machine_suspends_nobody_however_much_they_do(court: Court) -> None:
    """Suspending an account needs a named human."""
    for day in range(12):
        for number in range(3):
            await court.run(f"mining/rule-{day}-{number}")
        court.later(days=1)

    with court.store.read() as session:
        assert "account" not in session.scalars(select(Sanction.scope)).all()
        case = session.scalars(select(Case)).first()
        assert case is not None
    for by in ("machine", "", "ana"):
        with court.write() as session:
            found = session.get_one(Case, case.id)
            done = review.restrict(
                session, court.office, found, Scope.ACCOUNT, 3, by, "A long enough reason", court.now
            )
            assert isinstance(done, Refused)
    with pytest.raises(StoreError), court.write() as session:
        made = session.scalars(select(Decision)).first()
        assert made is not None
        session.add(
            Sanction(
                case_id=case.id, decision_id=made.id, member="ana", scope="account", cause="x", by="machine", harm=True,
                begins_at=court.now, ends_at=court.now + timedelta(days=1),
            )
        )  # fmt: skip


async def test_rule_05_an_appeal_is_decided_by_another(court: Court) -> None:
    """An appeal is decided by a different one: not the member, not the author, not the machine."""
    await court.run("p2p")
    with court.write() as session:
        case = session.scalars(select(Case)).one()
        review.restrict(session, court.office, case, Scope.ACCOUNT, 3, "rita", "A long enough reason", court.now)
        made = appeal.open_appeal(session, court.office, court.last(session), "ana", "", court.now)
        assert not isinstance(made, Refused)
        for by in ("ana", "rita", "machine"):
            answer = appeal.answer(session, court.office, made, by, Outcome.UPHELD, "Because", court.now)
            assert isinstance(answer, Refused), by
        assert not isinstance(
            appeal.answer(session, court.office, made, "rob", Outcome.REVERSED, "A mistake", court.now), Refused
        )
    assert court.held(Scope.ACCOUNT) is None


# 6 — The circuit breaker (the whole day, through the running service: tests/flows/test_poisoned_day.py).

BAD = "mining/pkg/pip:evilpkg"


async def test_rule_06_one_cause_that_hits_many_touches_no_account(court: Court) -> None:
    """When one cause hits many established members, consequences for accounts pause for that cause's fingerprint and one
    incident opens; the harmful process is still stopped, other causes are untouched. One command reverses it."""
    people = [f"p{number}" for number in range(8)]
    court.settle(*people, "off")
    for name in people:
        assert (await court.run(BAD, actor=name)).action is Action.STOP
    for rule in "ab":
        await court.run(f"mining/{rule}/own", actor="off")

    with court.store.read() as session:
        assert len(session.scalars(select(Incident)).all()) == 1
    assert [court.strikes(name) for name in people] == [0] * 8
    assert court.held(Scope.GPU, "off") is not None
    with court.write() as session:
        told = incident.reverse(session, court.office, incident.all_of(session)[0], "rita", "Poisoned", court.now)
    assert told == 8
    assert all("sorry" in court.texts(name)[-1] for name in people)
    assert court.held(Scope.GPU, "off") is not None


async def test_rule_06_a_swarm_of_new_accounts_does_not_trip_it(court: Court) -> None:
    """A swarm of new accounts does not trip it."""
    for number in range(30):
        await court.run(BAD, actor=f"new{number}")

    assert court.count(Incident) == 0
    assert court.strikes("new0") == 1


# 7 — Every restriction expires; one case and one strike; strikes decay; unanswered appeals lift.


async def test_rule_07_every_restriction_expires_and_strikes_decay_in_sight(court: Court) -> None:
    """Every restriction expires; strikes decay in sight."""
    await climb(court)
    assert court.held(Scope.COMPUTE) is not None
    with court.store.read() as session:
        ends = [entry.ends_at for entry in strike.of(session, "ana")]
        assert all(entry["ends_at"] for entry in record.record_of(session, "ana")["strikes"])
    assert set(ends) == {NOON + timedelta(days=90)}
    court.later(days=31)
    assert court.held(Scope.COMPUTE) is None
    court.later(days=60)
    assert court.strikes() == 0
    with pytest.raises(StoreError), court.write() as session:
        session.execute(text("UPDATE sanction SET ends_at = NULL"))


async def test_rule_07_a_matter_a_day_is_one_case_and_one_strike(court: Court) -> None:
    """One case per member and fingerprint a day, at most one strike for it."""
    for _ in range(20):
        await court.run("mining/same")

    assert court.count(Case) == 1
    assert court.strikes() == 1
    with pytest.raises(StoreError), court.write() as session:
        only = session.scalars(select(Strike)).one()
        session.add(
            Strike(
                case_id=only.case_id, decision_id=only.decision_id, member="ana", cause="x", at=NOON,
                ends_at=NOON + timedelta(days=1),
            )
        )  # fmt: skip


async def test_rule_07_an_unanswered_appeal_lifts_unless_harm_was_in_progress(open_court: Any) -> None:
    """One open appeal per decision; unanswered, it lifts the restriction after a set time, unless harm was in progress."""
    court = open_court(with_rules(appeal_answer_days=2))
    await climb(court, "ana", 3)
    await court.run("mining/a", actor="bob")
    await court.run("mining/b", actor="bob")
    for name in ("ana", "bob"):
        with court.write() as session:
            found = session.get_one(Decision, sanction.of(session, name)[0].decision_id)
            one = appeal.open_appeal(session, court.office, found, name, "", court.now)
            assert one is appeal.open_appeal(session, court.office, found, name, "", court.now)
    court.later(days=2, seconds=-1)
    with court.write() as session:
        assert tick(session, court.office, court.now).lapsed == 0
    assert court.held(Scope.GPU, "ana") is not None
    court.later(seconds=1)
    with court.write() as session:
        assert tick(session, court.office, court.now).lapsed == 2
    assert court.held(Scope.GPU, "ana") is None
    assert court.held(Scope.GPU, "bob") is not None


async def test_rule_07_under_a_flood_the_clock_pauses_visibly(open_court: Any) -> None:
    """Under a flood of appeals that clock pauses, visibly."""
    court = open_court(with_rules(appeals_flood=2))
    for name in "abc":
        await court.run("p2p", actor=name)
        with court.write() as session:
            appeal.open_appeal(session, court.office, court.last(session, name), name, "", court.now)
    with court.write() as session:
        tick(session, court.office, court.now)
        assert review.queue(session, court.now).clock_paused_since == court.now


# 8 — Policy changes are versioned, diffed, announced and dated ahead.


async def test_rule_08_what_no_version_in_force_says_is_not_enforced(court: Court) -> None:
    """A rule can't enforce what no version in force says; once it does, it is enforced, and not a moment before."""
    with court.write() as session:
        adoption.adopt(session, 1, known={1, 2}, effective_from=court.now, now=court.now, by="op", reason="back")
        later = court.now + timedelta(days=14)
        adoption.adopt(session, 2, known={1, 2}, effective_from=later, now=court.now, by="op", reason="ahead")
    assert Category.DEEPFAKE not in court.office.policies[1].clauses

    assert (await court.run("deepfake")).action is Action.ALLOW
    assert court.count(Case) == 0
    court.later(days=13, hours=23)
    assert (await court.run("deepfake")).action is Action.ALLOW
    court.later(hours=1)
    verdict = await court.run("deepfake")
    assert verdict.action is Action.STOP
    assert "Policy 2" in verdict.notice.text().clause  # type: ignore[union-attr]


async def test_rule_08_nothing_takes_effect_in_the_past(court: Court) -> None:
    """Announced and dated ahead."""
    with pytest.raises(PolicyError, match="has passed"), court.write() as session:
        adoption.adopt(
            session, 1, known={1}, effective_from=court.now - timedelta(seconds=1), now=court.now, by="op", reason="x"
        )


# 9 — A new rule runs in shadow; one that is reversed too often demotes itself.


class Stable:
    """A rule that sees every cell."""

    def __init__(self, maturity: Maturity = Maturity.STABLE, version: str = "1.0.0") -> None:
        self.maturity, self.version = maturity, version

    def scan(self, code: str, language: str = "python") -> tuple[Finding, ...]:
        return (
            Finding("keen", self.version, Category.P2P, Level.STOP, self.maturity, 1, code, {"en": "x", "pt-BR": "x"}),
        )


async def test_rule_09_a_rule_in_shadow_only_counts(court: Court) -> None:
    """A new rule runs in shadow until the corpus and its own record promote it."""
    court.desk.scanner = InThreads(Stable(Maturity.SHADOW))  # type: ignore[arg-type]

    assert (await court.run("anything")).action is Action.ALLOW
    assert (court.count(Case), court.count(Decision)) == (0, 0)


@pytest.mark.parametrize(
    ("people", "reversals", "left"), [(10, 2, "stop"), (20, 3, "stop"), (15, 3, "warn"), (6, 3, "")]
)
async def test_rule_09_a_rule_that_is_reversed_too_often_demotes_itself(
    court: Court, people: int, reversals: int, left: str
) -> None:
    """A rule whose decisions are reversed too often demotes itself, until it is mended as a new version."""
    court.desk.scanner = InThreads(Stable())  # type: ignore[arg-type]
    for number in range(people):
        assert (await court.run(f"cell {number}", actor=f"m{number}")).action is Action.STOP
    for number in range(reversals):
        appealed(court, f"m{number}", Outcome.REVERSED)

    verdict = await court.run("the next", actor="next")

    assert verdict.action is {"stop": Action.STOP, "warn": Action.WARN, "": Action.ALLOW}[left]
    with court.store.read() as session:
        demoted = session.scalars(select(Audit.content).where(Audit.act == "rule.demote")).all()
    assert bool(demoted) == (left != "stop")
    # Nothing but a new version brings it back.
    court.later(days=400)
    assert (await court.run("much later", actor="later")).action is verdict.action
    court.desk.scanner = InThreads(Stable(version="1.0.1"))  # type: ignore[arg-type]
    assert (await court.run("mended", actor="next")).action is Action.STOP


async def test_rule_09_an_incident_or_one_angry_member_demotes_nothing(court: Court) -> None:
    """People are counted, not cells; a poisoned package is not the rule's fault."""
    court.desk.scanner = InThreads(Stable())  # type: ignore[arg-type]
    for _ in range(6):
        await court.run("again")
        appealed(court, "ana", Outcome.REVERSED)
        court.later(days=1)

    assert (await court.run("again")).action is Action.STOP


# 10 — Exemptions are bound to a policy version and expire.


async def test_rule_10_an_exemption_ends_and_is_of_one_version(court: Court) -> None:
    """Exemptions and "may I?" answers are bound to a policy version and expire."""
    for kind in exemption.Kind:
        with court.write() as session:
            asked = exemption.request(
                session, court.office, "ana", Category.DEEPFAKE, "A course on detecting deepfakes", court.now, kind
            )
            assert not isinstance(asked, Refused)
            given = exemption.answer(
                session, court.office, asked, "rita", "A good course", court.now, grant=True, days=10
            )
            assert not isinstance(given, Refused)
        assert (await court.run("deepfake")).action is Action.ALLOW
        with court.store.read() as session:
            now = court.now
            assert exemption.standing(session, "ana", Category.DEEPFAKE, 2, now) is exemption.Standing.EXEMPT
            assert exemption.standing(session, "ana", Category.DEEPFAKE, 3, now) is exemption.Standing.PLAIN
        court.later(days=11)
        assert (await court.run("deepfake")).action is Action.STOP


# 11 — Accounts are never linked on an address alone.


@given(st.sets(st.sampled_from(Key)), st.booleans())
def test_rule_11_links_need_a_strong_key_or_two_medium_ones_and_a_verdict(shared: set[Key], verdict: bool) -> None:
    """Links need a strong key or two medium ones, and a prior verdict; weak ones change nothing."""
    strengths = [STRENGTH[key] for key in shared]
    expected = verdict and (Strength.STRONG in strengths or strengths.count(Strength.MEDIUM) >= 2)

    assert isinstance(link(shared, verdict=verdict), Linked) == expected
    telling = {key for key in shared if STRENGTH[key] is not Strength.WEAK}
    assert link(shared, verdict=verdict) == link(telling, verdict=verdict)


async def test_rule_11_a_class_of_thirty_behind_one_address_is_thirty_people(court: Court) -> None:
    """Accounts are never linked on an address alone (a class of thirty shares one)."""
    pupils = [f"pupil{number}" for number in range(30)]
    court.settle(*pupils)
    await climb(court, pupils[0])
    with court.write() as session:
        for other in pupils[1:]:
            weak = (Key.ADDRESS, Key.BROWSER, Key.TIMES)
            assert join(session, pupils[0], other, weak, "rita", court.now) == NotLinked("too-little")
    assert court.held(Scope.COMPUTE, pupils[0]) is not None
    for other in pupils[1:]:
        assert court.held(Scope.GPU, other) is None
        assert (await court.run("print(1)", actor=other)).action is Action.ALLOW


async def test_rule_11_a_person_joins_accounts_and_the_audit_says_by_what(court: Court) -> None:
    """No verdict, no link; no machine links; two accounts of one person count once in an incident."""
    court.settle("x", "y")
    with court.write() as session:
        assert join(session, "x", "y", [Key.WALLET], "rita", court.now) == NotLinked("no-verdict")
    await court.run("mining", actor="x")
    with court.write() as session:
        assert join(session, "x", "y", [Key.WALLET], "machine", court.now) == Refused("machine")
        assert join(session, "x", "x", [Key.WALLET], "rita", court.now) == Refused("same")
        assert join(session, "x", "y", [Key.WALLET, Key.ADDRESS], "rita", court.now) == Linked(frozenset({Key.WALLET}))
    with court.store.read() as session:
        one, two = (session.get_one(Member, name).person for name in "xy")
        said = session.scalars(select(Audit).where(Audit.act == "person.join")).one()
    assert one == two is not None
    assert said.content is not None
    assert said.content["keys"] == ["wallet"]


# 12 — The audit is a chain that covers administrators too; personal data is short and can go.


async def test_rule_12_people_s_acts_are_in_the_chain_with_their_names(court: Court) -> None:
    """The audit is a hash chain over salted commitments that covers administrators too."""
    await court.run("p2p")
    with court.write() as session:
        case = session.scalars(select(Case)).one()
        review.look(session, case, "rita", court.now)
        held = review.restrict(session, court.office, case, Scope.COMPUTE, 3, "rita", "A long enough reason", court.now)
        assert not isinstance(held, Refused)
        review.lift(session, court.office, held, "rob", "Another long reason", court.now)
    with court.store.read() as session:
        acts = {(entry.actor, entry.act) for entry in session.scalars(select(Audit))}

    assert {
        ("rita", "case.read"),
        ("rita", "sanction.impose"),
        ("rob", "sanction.lift"),
        ("op", "policy.adopt"),
    } <= acts
    assert court.audit_holds()


@pytest.mark.parametrize("wrong", ["flipped", "missing", "reordered"])
async def test_rule_12_what_is_changed_is_found(court: Court, wrong: str) -> None:
    """A flipped byte, a missing and a reordered entry are found."""
    await climb(court)
    with court.store.read() as session:
        entries = list(session.scalars(select(Audit).order_by(Audit.id)))
        assert audit.verify(entries) is None
        if wrong == "flipped":
            session.expunge_all()
            entries[2].content = {**(entries[2].content or {}), "subject": "eve"}
        elif wrong == "missing":
            del entries[2]
        else:
            entries[1], entries[2] = entries[2], entries[1]
        assert audit.verify(entries) is not None


async def test_rule_12_personal_data_can_go_and_the_chain_holds(court: Court) -> None:
    """Personal data is kept to the rule and the shortest excerpt, and can go while the chain still verifies."""
    await court.run("mining/rule/" + "x" * 500)
    with court.store.read() as session:
        assert max(len(found) for found in session.scalars(select(Observation.excerpt))) <= 200
    with court.write() as session:
        about = list(session.scalars(select(Audit.id).where(Audit.subject == "ana")))
        assert about
        audit.erase(session, about, court.now, actor="op", why="she asked")
    assert court.audit_holds()


def test_every_category_has_a_cell_that_the_flows_use() -> None:
    """The cells of the flows are the ones that these rules are about."""
    assert set(DISALLOWED) == set(Category)
