"""The timers: what becomes due by itself, done once however many processes look."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from mutirao.cases import appeal
from mutirao.cases.office import Office


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a look at the timers brought about."""

    lapsed: int


def tick(session: Session, office: Office, now: datetime) -> Ticked:
    """Do what is due, within a write transaction, whose lock makes two callers take turns.

    Strikes, sanctions, exemptions and permits need no timer: each is asked with a time, and its end is its end.
    """
    appeal.keep_clock(session, office, now)
    return Ticked(lapsed=appeal.lapse(session, office, now))
