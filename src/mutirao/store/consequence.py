"""The tables of what follows from a decision: strikes, sanctions, appeals, incidents, reports, and the post."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from mutirao.store.models import Base, Case, Decision


def _one_open(name: str, column: str, end: str) -> Index:
    """At most one row with the same `column` whose `end` is not written yet."""
    open_only = text(f"{end} IS NULL")
    return Index(name, column, unique=True, sqlite_where=open_only, postgresql_where=open_only)


class Member(Base):
    """Who has run code here: since when and on how many days, which is all that "established" asks.

    `person` is one key for the accounts of one person, given by a reviewer or the login; an address never gives it.
    """

    __tablename__ = "member"
    name: Mapped[str] = mapped_column(primary_key=True)
    first_seen_at: Mapped[datetime]
    last_seen_on: Mapped[date]
    active_days: Mapped[int]
    person: Mapped[str | None]
    mail: Mapped[str | None]
    lang: Mapped[str | None]


class Incident(Base):
    """One cause that hit many established people; at most one is open for a cause."""

    __tablename__ = "incident"
    __table_args__ = (
        _one_open("uq_incident_open", "cause", "closed_at"),
        CheckConstraint("closed_at IS NULL OR closed_by <> 'machine'", name="closing_needs_a_person"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(index=True)
    category: Mapped[str]
    opened_at: Mapped[datetime]
    people: Mapped[int]
    outcome: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    why: Mapped[str | None]

    @property
    def number(self) -> str:
        """The number that people see: I-2026-0001."""
        return f"I-{self.opened_at.year}-{self.id:04d}"


class Strike(Base):
    """One mark for one case, gone at `ends_at`; void once it was taken back, silent while its incident is open."""

    __tablename__ = "strike"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), unique=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("decision.id"), index=True)
    member: Mapped[str] = mapped_column(index=True)
    cause: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime]
    ends_at: Mapped[datetime]
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incident.id"), index=True)
    void_at: Mapped[datetime | None]
    void_by: Mapped[str | None]
    void_why: Mapped[str | None]
    case: Mapped[Case] = relationship(viewonly=True)


class Sanction(Base):
    """A restriction with an end, by one decision; silent while its incident is open."""

    __tablename__ = "sanction"
    __table_args__ = (
        CheckConstraint("scope IN ('gpu', 'compute', 'account')", name="scope_is_known"),
        CheckConstraint("ends_at > begins_at", name="it_ends"),
        CheckConstraint("scope <> 'account' OR by <> 'machine'", name="suspension_needs_a_person"),
        CheckConstraint("(lifted_at IS NULL) = (lifted_by IS NULL)", name="lifting_has_a_name"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), index=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("decision.id"), unique=True)
    member: Mapped[str] = mapped_column(index=True)
    scope: Mapped[str]
    cause: Mapped[str] = mapped_column(index=True)
    by: Mapped[str]
    harm: Mapped[bool]
    begins_at: Mapped[datetime]
    ends_at: Mapped[datetime] = mapped_column(index=True)
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incident.id"), index=True)
    lifted_at: Mapped[datetime | None]
    lifted_by: Mapped[str | None]
    lifted_why: Mapped[str | None]
    given_back_s: Mapped[int] = mapped_column(default=0)
    case: Mapped[Case] = relationship(viewonly=True)


class Appeal(Base):
    """A member's answer to a decision, and another person's to that; at most one is open for a decision."""

    __tablename__ = "appeal"
    __table_args__ = (
        _one_open("uq_appeal_open", "decision_id", "answered_at"),
        CheckConstraint(
            "answered_by IS NULL OR (answered_by <> member AND answered_by <> author AND answered_by <> 'machine')",
            name="another_person_answers",
        ),
        CheckConstraint(
            "(answered_at IS NULL) = (answered_by IS NULL) AND (answered_at IS NULL) = (outcome IS NULL)",
            name="an_answer_is_whole",
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), index=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("decision.id"), index=True)
    member: Mapped[str] = mapped_column(index=True)
    author: Mapped[str]
    text: Mapped[str] = mapped_column(String(2000))
    opened_at: Mapped[datetime]
    due_at: Mapped[datetime]
    lapsed_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    answered_at: Mapped[datetime | None]
    answered_by: Mapped[str | None]
    answer: Mapped[str | None]
    answer_decision_id: Mapped[int | None] = mapped_column(ForeignKey("decision.id"))
    given_back_s: Mapped[int] = mapped_column(default=0)
    case: Mapped[Case] = relationship(viewonly=True)
    decision: Mapped[Decision] = relationship(viewonly=True, foreign_keys=[decision_id])


class Pause(Base):
    """Since when the clock of appeals stands still, and until when it did; at most one is open."""

    __tablename__ = "pause"
    __table_args__ = (_one_open("uq_pause_open", "what", "until"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]


class Report(Base):
    """What somebody outside told us; `token_hash` is the SHA-256 of the key by which they see how it stands."""

    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), unique=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    at: Mapped[datetime] = mapped_column(index=True)
    source: Mapped[str]
    contact: Mapped[str] = mapped_column(String(200))
    category: Mapped[str]
    text: Mapped[str] = mapped_column(String(4000))
    linked_at: Mapped[datetime | None]
    linked_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    answer: Mapped[str | None]
    case: Mapped[Case] = relationship(viewonly=True)


class Letter(Base):
    """A notice on its way by one channel: written with the notice, gone when delivered or given up."""

    __tablename__ = "letter"
    __table_args__ = (UniqueConstraint("notice_id", "channel"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    notice_id: Mapped[int] = mapped_column(ForeignKey("notice.id"))
    channel: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(index=True)
    done_at: Mapped[datetime | None]
