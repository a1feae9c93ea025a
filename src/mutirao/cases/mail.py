"""E-mail: a notice as a plain text message, sent by SMTP; its Message-ID stays the same however often it is tried."""

import smtplib
import ssl
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from mutirao.cases import delivery
from mutirao.cases.delivery import Post
from mutirao.fairness import Mail
from mutirao.store.store import Store


def compose(post: Post, mail: Mail, now: datetime) -> EmailMessage:
    """The message; headers can't be smuggled in, since EmailMessage refuses line ends in them."""
    message = EmailMessage()
    message["From"] = mail.sender
    message["To"] = post.address
    message["Subject"] = " ".join(post.text.title.split())
    message["Date"] = format_datetime(now)
    domain = mail.sender.rpartition("@")[2].rstrip(">") or "localhost"
    message["Message-ID"] = f"<{post.key}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = post.lang
    message.set_content(post.text.plain() + "\n")
    return message


def send(post: Post, mail: Mail, now: datetime) -> None:
    """Hand one message to the server; OSError and smtplib's errors come through."""
    context = ssl.create_default_context()
    message = compose(post, mail, now)
    server: smtplib.SMTP
    if mail.security == "tls":
        server = smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout_s, context=context)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout_s)
    with server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user:
            server.login(mail.user, mail.password())
        server.send_message(message)


def deliver(store: Store, mail: Mail, clock: Callable[[], datetime], default_lang: str = "en") -> int:
    """Send what is due, one transaction to take and one for each result; returns how many went out.

    Without a server what is due is given up, and that is recorded.
    """
    if not mail.host:
        with store.write() as session:
            delivery.give_up_mail(session, clock())
        return 0
    with store.write() as session:
        posts = delivery.take_mail(session, clock(), default_lang)
    out = 0
    for post in posts:
        try:
            send(post, mail, clock())
        except (OSError, smtplib.SMTPException, ValueError) as error:
            with store.write() as session:
                delivery.failed(session, post, f"{type(error).__name__}: {error}", clock(), for_good=_never(error))
            continue
        with store.write() as session:
            delivery.sent(session, post, clock())
        out += 1
    return out


def _never(error: Exception) -> bool:
    """True where trying again can't help: an address that is none, or that the server refuses for good (5xx)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, ValueError)
