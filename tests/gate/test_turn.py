"""A cell that was refused is answered in its turn, and its answer is not lost on the way."""

import pytest

from mutirao.cases.action import Action
from mutirao.gate import turns
from mutirao.gate.turns import MOST_HELD, Shelf, Turns
from mutirao.gate.wire import Message
from tests.gate.house import TOKEN, execute, kinds, notice, request_of, until


async def test_a_refused_cell_is_answered_between_the_cells_around_it(home, wire):
    async with home.kernel() as kernel, home.tab(kernel, wire) as tab:
        sent = [
            await tab.send(execute(code))
            for code in ("import time; time.sleep(0.3)", "please stop", "'please stop'", "print(3)")
        ]
        numbers = [header["msg_id"] for header in sent]
        seen = []
        # A cell's reply and its last status come on two channels, in either order.
        while sum(kind in ("status idle", "execute_reply") for _, kind in seen) < 2 * len(numbers):
            message = await tab.receive()
            if (number := message["parent_header"].get("msg_id")) in numbers:
                seen.append((numbers.index(number), kinds([message])[0]))
    for kind in ("status busy", "execute_reply", "status idle"):
        assert [place for place, found in seen if found == kind] == [0, 1, 2, 3], (kind, seen)
    whole = ["status busy", "display_data", "error", "execute_reply", "status idle"]
    for refused in (1, 2):
        assert [kind for place, kind in seen if place == refused] == whole


async def say(twin, wire, msg_type: str, content: dict, parent: dict, channel: str = "iopub") -> None:
    message = {**request_of(msg_type, content, channel), "parent_header": parent}
    await twin.sockets[-1].send_frame(*twin.frame(message, wire))


async def refused_behind_a_run(tab, twin) -> tuple[dict, dict]:
    """The headers of a cell that runs and of one that was refused behind it."""
    frames = len(twin.frames)
    first, second = await tab.send(execute("1")), await tab.send(execute("please stop"))
    await tab.send(request_of("kernel_info_request", {}))
    await until(lambda: len(twin.frames) == frames + 2)
    return first, second


async def answer_to(tab, header: dict) -> list[str]:
    return kinds(await tab.answers(header))


WHOLE = ["status busy", "display_data", "error", "execute_reply", "status idle"]


@pytest.mark.parametrize("state", ["restarting", "autorestarting", "dead"])
async def test_a_kernel_that_dies_lets_the_answer_go(street, twin, wire, state):
    async with street.tab("k-1", wire) as tab:
        _, refused = await refused_behind_a_run(tab, twin)
        await say(twin, wire, "status", {"execution_state": "busy"}, {})
        assert (await tab.receive())["content"] == {"execution_state": "busy"}, "the refusal still waits"
        await say(twin, wire, "status", {"execution_state": state}, {})
        assert await answer_to(tab, refused) == WHOLE


async def test_a_kernel_that_is_restarted_lets_the_answer_go(street, twin, wire, monkeypatch):
    monkeypatch.setattr("mutirao.gate.relay._LOOK_S", 0.01)
    async with street.tab("k-1", wire) as tab:
        _, refused = await refused_behind_a_run(tab, twin)
        headers = {"Authorization": f"token {TOKEN}"}
        async with street.http.post(street.url("api/kernels/k-1/restart"), headers=headers) as answer:
            assert answer.status == 202
        assert await answer_to(tab, refused) == WHOLE


async def test_a_server_that_goes_lets_the_answer_go(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        _, refused = await refused_behind_a_run(tab, twin)
        await twin.sockets[0].close(code=1001)
        assert await answer_to(tab, refused) == WHOLE
        assert (await tab.closed())[0] == 1001


async def test_a_gate_that_ends_gives_the_answer_first(street, twin, wire):
    async with street.tab("k-1", wire) as tab:
        _, refused = await refused_behind_a_run(tab, twin)
        await street.gate.close()
        assert await answer_to(tab, refused) == WHOLE


async def test_nobody_waits_for_ever(street, twin, wire, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)
    monkeypatch.setattr("mutirao.gate.relay._LOOK_S", 0.01)
    async with street.tab("k-1", wire) as tab:
        _, refused = await refused_behind_a_run(tab, twin)
        assert await answer_to(tab, refused) == WHOLE


async def test_a_connection_that_breaks_finds_the_answer_again_and_nobody_else_does(street, twin, wire):
    async with street.tab("k-1", wire, session_id="mine") as tab:
        first, refused = await refused_behind_a_run(tab, twin)
    await until(lambda: not street.gate._relays)
    async with street.tab("k-1", wire, session_id="mine") as tab:
        # Its turn is still to come; Jupyter Server gives a reply that came meanwhile to the same session too.
        await until(lambda: len(twin.sockets) == 2)
        await say(twin, wire, "execute_reply", {"status": "ok", "execution_count": 1}, first, "shell")
        await say(twin, wire, "status", {"execution_state": "idle"}, first)
        assert kinds([await tab.receive(), await tab.receive()]) == ["execute_reply", "status idle"]
        assert await answer_to(tab, refused) == WHOLE
    for whose, session in (("bia", "mine"), ("ana", "")):
        async with street.tab("k-1", wire, session_id=session or "mine") as tab:
            _, refused = await refused_behind_a_run(tab, twin)
        await until(lambda: not street.gate._relays)
        street.actors.name = whose
        async with street.tab("k-1", wire, session_id=session) as tab:
            await until(lambda: street.gate._relays)
            (relay,) = street.gate._relays
            assert relay._turns.held == []


def refusal() -> tuple[Message, object, Action]:
    header = execute("please stop")["header"]
    return Message("shell", header, content={"code": "x" * 9, "silent": False}), notice(Action.STOP).text(), Action.STOP


def test_what_waits_is_bounded_and_holds_no_code():
    kept = Turns(clock=lambda: 0.0)
    kept.ran(Message("shell", execute("1")["header"]))
    for _ in range(MOST_HELD):
        kept.hold(*refusal())
    assert kept.due() is None
    assert kept.held[0].request.content == {"silent": False}
    kept.hold(*refusal())
    assert kept.due() is kept.held[0]


@pytest.mark.parametrize(
    "header",
    [{"msg_id": ["no text"]}, {"msg_id": "m", "more": "x" * 5_000}, {"subshell_id": "another"}],
    ids=["no id", "a huge header", "a subshell"],
)
def test_nobody_waits_for_what_can_not_be_followed_or_runs_beside(header):
    kept = Turns()
    kept.ran(Message("shell", {**execute("1")["header"], **header}))
    kept.hold(*refusal())
    assert kept.due() is kept.held[0]


def test_a_kernel_that_answers_a_later_cell_has_lost_the_earlier_one():
    kept = Turns()
    first, later = execute("1")["header"], execute("2")["header"]
    kept.ran(Message("shell", first))
    kept.hold(*refusal())
    kept.ran(Message("shell", later))
    assert kept.due() is None
    kept.saw(Message("shell", {"msg_type": "execute_reply"}, parent_header=later))
    assert kept.due() is kept.held[0]


def test_what_a_broken_connection_left_is_kept_for_a_while_only():
    now = [0.0]
    shelf = Shelf(lambda: now[0])
    key, left = ("ana", "", "k", "s"), Turns()
    shelf.put(key, "ana", left)
    assert shelf.take(key, "ana") is left
    shelf.put(key, "ana", left)
    left.ran(Message("shell", execute("1")["header"]))
    shelf.restarted(("ana", "", "another"))
    assert left.unanswered
    shelf.restarted(key[:3])
    assert not left.unanswered
    now[0] = turns.KEPT_S
    assert shelf.take(key, "ana") is None
    for number in range(turns.MOST_KEPT + 1):
        shelf.put(("ana", "", "k", str(number)), "ana", left)
    assert (("ana", "", "k", "0") in shelf, ("ana", "", "k", "1") in shelf) == (False, True)
