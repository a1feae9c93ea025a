"""Delivery: a notice arrives in the notebook, and by mail at a server that really receives; none lost, none doubled."""

import asyncio
import threading
from collections.abc import Iterator
from email.message import Message
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as Handler
from sqlalchemy import select

from mutirao.cases import delivery, mail, member, review
from mutirao.cases.action import Action
from mutirao.cases.ladder import Scope
from mutirao.cases.rounds import Rounds
from mutirao.fairness import Mail
from mutirao.store.consequence import Letter, Sanction
from mutirao.store.models import Delivery
from tests.cases.court import Court


class Box(Handler):
    """Keeps what it receives; refuses while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Message] = []
        self.answer = ""
        self.arrived = threading.Event()

    def handle_message(self, message: Message) -> None:
        self.got.append(message)
        self.arrived.set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.answer:
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"


class Postmaster(Controller):
    """A server on a free port."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        super()._trigger_server()


@pytest.fixture
def box() -> Iterator[tuple[Box, Mail]]:
    handler = Box()
    server = Postmaster(handler, hostname="127.0.0.1", port=0)
    server.start()
    yield handler, Mail(host="127.0.0.1", port=server.port, security="none", sender="Mutirão <no-reply@example.org>")
    server.stop()


async def told(court: Court, address: str | None = "ana@example.org", lang: str | None = "pt-BR") -> None:
    """One notice about an account is on its way."""
    verdict = await court.run("p2p")
    with court.write() as session:
        member.reach(session, "ana", court.now, mail=address, lang=lang)
        case = court.case(session, verdict)
        review.restrict(session, court.office, case, Scope.GPU, 5, "rev", "Gave the GPU to others", court.now)


def attempts(court: Court) -> list[str]:
    with court.store.read() as session:
        return list(session.scalars(select(Delivery.outcome).where(Delivery.channel == "mail").order_by(Delivery.id)))


async def test_a_notice_arrives_in_the_member_s_language_once(court: Court, box: tuple[Box, Mail]) -> None:
    await told(court)
    handler, settings = box
    rounds = Rounds(court.store, court.office, settings, lambda: court.now)

    rounds.once()
    rounds.once()

    (got,) = handler.got
    assert got["To"] == "ana@example.org"
    assert got["Message-ID"].endswith("@example.org>")
    body = got.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "O uso de GPUs está restrito" in body
    assert "Gave the GPU to others" in body
    assert "http://x/services/mutirao/case/M-2026-" in body
    assert attempts(court) == ["taken by the mail server"]


async def test_after_a_crash_the_same_message_id_comes_again(court: Court, box: tuple[Box, Mail]) -> None:
    """Sent and not recorded: after the claim it is sent again, and mail programs see one message."""
    await told(court)
    handler, settings = box
    with court.write() as session:
        (post,) = delivery.take_mail(session, court.now)
    mail.send(post, settings, court.now)
    assert mail.deliver(court.store, settings, lambda: court.now) == 0
    court.later(minutes=5)

    assert mail.deliver(court.store, settings, lambda: court.now) == 1

    assert len({got["Message-ID"] for got in handler.got}) == 1
    assert len(handler.got) == 2
    with court.write() as session:
        delivery.sent(session, post, court.now)
    assert attempts(court) == ["taken by the mail server"]


async def test_a_server_that_is_away_is_tried_again_ever_later(court: Court, box: tuple[Box, Mail]) -> None:
    await told(court)
    handler, settings = box
    handler.answer = "451 later"
    waits = []
    for _ in range(4):
        assert mail.deliver(court.store, settings, lambda: court.now) == 0
        with court.store.read() as session:
            due = session.scalars(select(Letter.due_at).where(Letter.channel == "mail")).one()
        waits.append((due - court.now).total_seconds())
        court.now = due
    handler.answer = ""
    assert waits == [60, 120, 240, 480]

    assert mail.deliver(court.store, settings, lambda: court.now) == 1

    assert [text.split(":")[0] for text in attempts(court)] == ["not yet"] * 4 + ["taken by the mail server"]


async def test_an_address_that_is_refused_for_good_is_given_up(court: Court, box: tuple[Box, Mail]) -> None:
    await told(court)
    box[0].answer = "550 nobody here"

    assert mail.deliver(court.store, box[1], lambda: court.now) == 0
    court.later(days=1)
    assert mail.deliver(court.store, box[1], lambda: court.now) == 0

    assert [text.split(":")[0] for text in attempts(court)] == ["given up"]


@pytest.mark.parametrize("address", [None, ""])
async def test_without_an_address_it_is_said(court: Court, box: tuple[Box, Mail], address: str | None) -> None:
    await told(court, address)

    assert mail.deliver(court.store, box[1], lambda: court.now) == 0

    assert attempts(court) == ["no address is known"]


async def test_without_a_server_it_is_said_and_nothing_waits(court: Court, box: tuple[Box, Mail]) -> None:
    """A server that is configured a year later sends no old mail."""
    await told(court)
    Rounds(court.store, court.office, Mail(), lambda: court.now).once()
    court.later(days=365)
    Rounds(court.store, court.office, box[1], lambda: court.now).once()

    assert box[0].got == []
    assert attempts(court) == ["no mail server is configured"]


async def test_an_address_can_not_smuggle_headers(court: Court, box: tuple[Box, Mail]) -> None:
    await told(court, "ana@example.org\nBcc: all@example.org")

    assert mail.deliver(court.store, box[1], lambda: court.now) == 0

    assert box[0].got == []
    assert attempts(court)[0].startswith("given up: ValueError")


async def test_the_next_clean_cell_shows_what_was_told_and_only_once(court: Court) -> None:
    await told(court)

    first, second = await court.run("1 + 1"), await court.run("1 + 1")

    assert first.action is Action.WARN
    assert first.notice is not None
    assert first.notice.text("en").title.startswith("Your use is restricted until")
    assert second.action is Action.ALLOW
    with court.write() as session:
        letter = session.scalars(select(Letter).where(Letter.channel == "notebook")).one()
        assert delivery.take_notebook(session, letter.id, court.now) is None


async def test_two_who_deliver_at_once_send_one_mail(court: Court, box: tuple[Box, Mail]) -> None:
    await told(court)
    start = threading.Barrier(4)

    def go() -> None:
        start.wait()
        mail.deliver(court.store, box[1], lambda: court.now)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(box[0].got) == 1
    assert attempts(court) == ["taken by the mail server"]


async def test_the_rounds_go_round_by_themselves(court: Court, box: tuple[Box, Mail]) -> None:
    await told(court)
    rounds = Rounds(court.store, court.office, box[1], lambda: court.now)
    rounds.start()
    assert await asyncio.to_thread(box[0].arrived.wait, 20)
    rounds.stop()

    assert len(box[0].got) == 1
    assert attempts(court) == ["taken by the mail server"]


async def test_a_transaction_that_fails_leaves_neither_notice_nor_letter(court: Court) -> None:
    await told(court)
    before = court.count(Letter)
    with pytest.raises(ZeroDivisionError), court.write() as session:
        entry = session.scalars(select(Sanction)).one()
        review.lift(session, court.office, entry, "eva", "It was a mistake", court.now)
        raise ZeroDivisionError

    assert court.count(Letter) == before
    assert court.held(Scope.GPU) is not None
