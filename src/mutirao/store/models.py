"""The tables. Times are UTC, stored without a zone; members' texts are stored as they came, escaped when shown."""

import re
import uuid
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime in Python, a plain timestamp in the database; a naive value is refused."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy gives it by name
        """Refuse naive times: they are how clocks go wrong unnoticed."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: pass an aware datetime")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy gives it by name
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Text(TypeDecorator[str]):
    """Text that every database keeps: PostgreSQL refuses NUL, and no encoding holds half a surrogate pair."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy gives it by name
        """Put the replacement character where either stands."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """The text as the database keeps it."""
    return _UNSTORABLE.sub("\ufffd", text)


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Base(DeclarativeBase):
    """All tables; constraint names are fixed so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: UtcDateTime(), dict[str, Any]: JSON(), str: Text()}


class Adoption(Base):
    """A policy version's coming into force: by whom, why, announced and effective when; append-only."""

    __tablename__ = "adoption"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    announced_at: Mapped[datetime]
    effective_from: Mapped[datetime]
    by: Mapped[str]
    reason: Mapped[str]


class Case(Base):
    """The findings about one member and one matter on one day.

    `origin`: gate, watch, report (somebody outside told us) or exemption (a declared purpose is its own matter).
    """

    __tablename__ = "case"
    __table_args__ = (UniqueConstraint("member", "fingerprint", "day"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(primary_key=True)
    member: Mapped[str | None] = mapped_column(index=True)
    owner: Mapped[str]
    fingerprint: Mapped[str]
    category: Mapped[str]
    day: Mapped[date]
    policy_version: Mapped[int]
    opened_at: Mapped[datetime]
    seen: Mapped[int] = mapped_column(default=0)
    last_seen_at: Mapped[datetime]
    origin: Mapped[str] = mapped_column(default="gate", server_default="gate")
    observations: Mapped[list["Observation"]] = relationship(order_by="Observation.id")
    decisions: Mapped[list["Decision"]] = relationship(order_by="Decision.id", foreign_keys="Decision.case_id")
    permits: Mapped[list["Permit"]] = relationship(order_by="Permit.id")

    @property
    def number(self) -> str:
        """The case number that people see: M-2026-000123; never reused."""
        return f"M-{self.opened_at.year}-{self.id:06d}"


class Observation(Base):
    """One thing a sensor saw; append-only. `excerpt` is the shortest evidence, at most 200 characters.

    `cause` is the fingerprint of what brought it about, the same for every member (cases/cause.py).
    """

    __tablename__ = "observation"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), index=True)
    at: Mapped[datetime]
    sensor: Mapped[str]
    actor: Mapped[str | None]
    owner: Mapped[str]
    server: Mapped[str]
    kernel: Mapped[str]
    via: Mapped[str]
    digest: Mapped[str]
    category: Mapped[str]
    rule: Mapped[str]
    rule_version: Mapped[str]
    maturity: Mapped[str]
    level: Mapped[str]
    line: Mapped[int]
    excerpt: Mapped[str] = mapped_column(Text(200))
    why: Mapped[dict[str, Any]]
    cause: Mapped[str | None] = mapped_column(index=True)


class Notice(Base):
    """What the member was told, in every language of the service, by language tag.

    `decided` is the key of its decision, which the database asks for at the end of the transaction; only a notice
    that decides nothing (`inform`: an appeal has come in, say) has none. `key` names it outside, in mail too.
    """

    __tablename__ = "notice"
    __table_args__ = (
        ForeignKeyConstraint(
            ["decided", "id"],
            ["decision.key", "decision.notice_id"],
            name="fk_notice_decided_decision",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
        CheckConstraint("action = 'inform' OR decided IS NOT NULL", name="a_notice_has_its_decision"),
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), index=True)
    member: Mapped[str | None] = mapped_column(index=True)
    written_at: Mapped[datetime]
    action: Mapped[str]
    texts: Mapped[dict[str, Any]]
    key: Mapped[str] = mapped_column(unique=True, default=lambda: uuid.uuid4().hex)
    decided: Mapped[str | None] = mapped_column(unique=True)
    deliveries: Mapped[list["Delivery"]] = relationship(order_by="Delivery.id")
    case: Mapped[Case] = relationship(viewonly=True)


class Delivery(Base):
    """One attempt to show a notice to its member."""

    __tablename__ = "delivery"
    id: Mapped[int] = mapped_column(primary_key=True)
    notice_id: Mapped[int] = mapped_column(ForeignKey("notice.id"), index=True)
    at: Mapped[datetime]
    channel: Mapped[str]
    outcome: Mapped[str]


class Decision(Base):
    """What was done; the database refuses one without its notice."""

    __tablename__ = "decision"
    __table_args__ = (
        CheckConstraint("action <> 'suspend' OR by <> 'machine'", name="suspend_needs_a_person"),
        CheckConstraint(
            "by <> 'machine' OR action IN ('allow', 'warn', 'hold', 'freeze', 'stop', 'restrict', 'suspend', 'lift')",
            name="a_machine_answers_nobody",
        ),
        UniqueConstraint("key", "notice_id", name="uq_decision_key_notice_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), index=True)
    notice_id: Mapped[int] = mapped_column(ForeignKey("notice.id"), unique=True)
    at: Mapped[datetime]
    by: Mapped[str]
    action: Mapped[str]
    policy_version: Mapped[int]
    reason: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True, default=lambda: uuid.uuid4().hex)
    notice: Mapped[Notice] = relationship(foreign_keys=[notice_id])


class Permit(Base):
    """Leave to run one held cell on one kernel until a time, for a reason that the member gave."""

    __tablename__ = "permit"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("case.id"), index=True)
    member: Mapped[str] = mapped_column(index=True)
    kernel: Mapped[str]
    digest: Mapped[str]
    reason: Mapped[str]
    granted_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used: Mapped[int] = mapped_column(default=0)


class Exemption(Base):
    """Permission for a declared purpose, bound to one policy version; `under_review` while nobody has answered.

    `kind`: exemption (it allows) or may-i (an answer to "may I?", which allows too); `refused` where the answer was no.
    """

    __tablename__ = "exemption"
    __table_args__ = (
        CheckConstraint("under_review OR by <> 'machine'", name="a_person_answers"),
        CheckConstraint("under_review OR by <> member", name="another_person_answers"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    member: Mapped[str] = mapped_column(index=True)
    category: Mapped[str]
    policy_version: Mapped[int]
    purpose: Mapped[str]
    under_review: Mapped[bool]
    by: Mapped[str]
    granted_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(default="exemption", server_default="exemption")
    refused: Mapped[bool] = mapped_column(default=False, server_default=false())
    case_id: Mapped[int | None] = mapped_column(ForeignKey("case.id"))
    answer: Mapped[str | None]


class Tally(Base):
    """How often a rule noted something on a day, with no person attached."""

    __tablename__ = "tally"
    day: Mapped[date] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    rule_version: Mapped[str] = mapped_column(primary_key=True)
    level: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]


class Audit(Base):
    """One link of the chain: `hash` covers the link before, the time and the salted commitment to the content.

    `salt` and `content` may be erased (personal data expires) and the chain still verifies.
    """

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str | None]
    act: Mapped[str]
    subject: Mapped[str | None] = mapped_column(index=True)
    salt: Mapped[str | None]
    content: Mapped[dict[str, Any] | None]
    commitment: Mapped[str]
    previous: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
