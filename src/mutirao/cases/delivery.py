"""Delivery: every notice on its way by notebook and mail, tried until it arrives, each attempt recorded.

A letter is written in its notice's transaction and done in the one that records its arrival. Between sending and
recording a crash can only bring the same mail again, with the same Message-ID, which mail programs show once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from mutirao.cases.action import Action
from mutirao.cases.notice import Notice, NoticeText
from mutirao.store.consequence import Letter, Member
from mutirao.store.models import Delivery
from mutirao.store.models import Notice as StoredNotice

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=6)
MOST_ATTEMPTS = 20
CLAIM = timedelta(minutes=5)
"""Whoever takes a letter has so long for it before another may."""


@dataclass(frozen=True, slots=True)
class Post:
    """A letter that was taken to be sent: to whom, what, under which stable key."""

    letter: int
    key: str
    address: str
    lang: str
    text: NoticeText


def words(stored: StoredNotice, lang: str) -> NoticeText:
    """The text of a stored notice in a language; English where that is missing."""
    said: dict[str, Any] = dict(stored.texts.get(lang) or stored.texts["en"])
    said["facts"] = tuple(said["facts"])
    said["links"] = tuple((label, url) for label, url in said["links"])
    return NoticeText(**said)


def take_mail(session: Session, now: datetime, default_lang: str = "en", most: int = 20) -> list[Post]:
    """Take mails that are due, each for a while; one to a member without an address is given up, and says so."""
    wanted = (
        select(Letter, StoredNotice, Member)
        .join(StoredNotice, StoredNotice.id == Letter.notice_id)
        .outerjoin(Member, Member.name == StoredNotice.member)
        .where(Letter.channel == "mail", Letter.done_at.is_(None), Letter.due_at <= now)
        .order_by(Letter.due_at, Letter.id)
        .limit(most)
    )
    posts = []
    for entry, stored, member in session.execute(wanted).all():
        if member is None or not member.mail:
            entry.done_at = now
            session.add(Delivery(notice_id=stored.id, at=now, channel="mail", outcome="no address is known"))
            continue
        entry.due_at = now + CLAIM
        lang = member.lang or default_lang
        posts.append(Post(entry.id, stored.key, member.mail, lang, words(stored, lang)))
    session.flush()
    return posts


def give_up_mail(session: Session, now: datetime) -> None:
    """No mail server is configured: what is due is given up and says so, so that no old mail goes out years later."""
    wanted = select(Letter).where(Letter.channel == "mail", Letter.done_at.is_(None), Letter.due_at <= now)
    for entry in session.scalars(wanted):
        entry.done_at = now
        outcome = "no mail server is configured"
        session.add(Delivery(notice_id=entry.notice_id, at=now, channel="mail", outcome=outcome))
    session.flush()


def mail_due(session: Session, now: datetime) -> bool:
    """True where take_mail would take something."""
    wanted = select(Letter.id).where(Letter.channel == "mail", Letter.done_at.is_(None), Letter.due_at <= now)
    return session.scalars(wanted.limit(1)).first() is not None


def sent(session: Session, post: Post, now: datetime) -> None:
    """The server has taken the mail; a second call changes nothing."""
    entry = session.get_one(Letter, post.letter)
    if entry.done_at is not None:
        return
    entry.attempts += 1
    entry.done_at = now
    session.add(Delivery(notice_id=entry.notice_id, at=now, channel="mail", outcome="taken by the mail server"))
    session.flush()


def failed(session: Session, post: Post, why: str, now: datetime, *, for_good: bool = False) -> None:
    """It did not go out: tried again after ever longer times, given up after twenty or where it never can."""
    entry = session.get_one(Letter, post.letter)
    if entry.done_at is not None:
        return
    entry.attempts += 1
    given_up = for_good or entry.attempts >= MOST_ATTEMPTS
    entry.due_at = now + min(LAST_RETRY, FIRST_RETRY * 2 ** min(entry.attempts - 1, 12))
    entry.done_at = now if given_up else None
    outcome = f"{'given up' if given_up else 'not yet'}: {why}"[:300]
    session.add(Delivery(notice_id=entry.notice_id, at=now, channel="mail", outcome=outcome))
    session.flush()


def waiting_in_notebooks(session: Session) -> dict[str, tuple[int, ...]]:
    """Letters that wait for their member's next cell, by member, oldest first."""
    wanted = (
        select(StoredNotice.member, Letter.id)
        .join(StoredNotice, StoredNotice.id == Letter.notice_id)
        .where(Letter.channel == "notebook", Letter.done_at.is_(None), StoredNotice.member.is_not(None))
        .order_by(Letter.id)
    )
    found: dict[str, tuple[int, ...]] = {}
    for member, number in session.execute(wanted).all():
        found[str(member)] = (*found.get(str(member), ()), number)
    return found


def take_notebook(session: Session, letter: int, now: datetime) -> Notice | None:
    """The notice of a letter for the notebook, to whoever asks first; None once it was handed over."""
    entry = session.get_one(Letter, letter)
    if entry.done_at is not None:
        return None
    entry.attempts += 1
    entry.done_at = now
    stored = session.get_one(StoredNotice, entry.notice_id, options=[selectinload(StoredNotice.case)])
    session.add(Delivery(notice_id=stored.id, at=now, channel="notebook", outcome="handed to the gate"))
    session.flush()
    texts = {lang: words(stored, lang) for lang in stored.texts}
    return Notice(stored.case.number, Action(stored.action), None, texts)
