"""One client's websocket to one kernel, relayed message by message.

Two pumps run side by side, each in order: client to kernel (inspected) and kernel to client (glanced at). Sending waits
until the socket takes the bytes, so a client that never reads stalls its own two pumps and holds one message of memory.
A large message needs room (`hold`), is read by a process of its own, and leaves in pieces.
Pings and pongs pass from end to end: who is gone is noticed by who asked.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice
from mutirao.errors import TooLongError, WireError
from mutirao.gate.answer import ENDED, Answers
from mutirao.gate.client import CLOSE_S, ClientSocket
from mutirao.gate.end import CLIENT_GONE, End
from mutirao.gate.fair import FairReading
from mutirao.gate.hold import LARGE_BYTES, Cargo, Hold
from mutirao.gate.inspect import MOST_SNIPPETS, snippets
from mutirao.gate.judge import Judge, standing, weigh
from mutirao.gate.measure import ROUND_TRIP, observe
from mutirao.gate.reader import code, outline
from mutirao.gate.readers import ReaderGone
from mutirao.gate.refusal import Refusal
from mutirao.gate.seat import Seat
from mutirao.gate.turns import Turns
from mutirao.gate.upstream import UpstreamSocket
from mutirao.gate.wire import Frame, Message, Wire, build, glance, json_bytes, parse

log = logging.getLogger(__name__)

_READ_HERE_BYTES = 256 << 10
"""More JSON than that is read in another process: Python's lock is held while JSON is read."""
_LINGER_S = 2.0
_LOOK_S = 5.0
_DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class Relay:
    """Relays until one side ends; judges what the client asks the kernel to run."""

    def __init__(
        self,
        client: ClientSocket,
        upstream: UpstreamSocket,
        wire: Wire,
        seat: Seat,
        judge: Judge,
        judge_timeout_s: float,
        counters: Counter[str],
        reading: FairReading,
        hold: Hold,
        max_message_bytes: int,
        turns: Turns,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._wire = wire
        self._seat = seat
        self._judge = judge
        self._judge_timeout_s = judge_timeout_s
        self._counters = counters
        self._answers = Answers()
        self._turns = turns
        self._releasing = asyncio.Lock()
        self._reading = reading
        self._hold = hold
        self._client_turn = asyncio.Lock()
        self._up = Cargo(hold, seat.owner, client.hold_reading, client.go_on_reading)
        self._down = Cargo(hold, seat.owner, upstream.hold_reading, upstream.go_on_reading)
        client.meter.join(self._up, max_message_bytes)
        upstream.meter.join(self._down, max_message_bytes)

    async def run(self) -> End:
        """Relay until a side ends, then close the other with the same code."""
        ways = self._to_kernel(), self._to_client(), self._left(), self._in_turn()
        pumps = [asyncio.create_task(pump) for pump in ways]
        server_ended = False
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            end = next(iter(done)).result()
            server_ended = pumps[1] in done
        except Exception:
            log.exception("The connection to kernel %s failed.", self._seat.kernel)
            end = End(WSCloseCode.INTERNAL_ERROR, "The gate failed; your kernel goes on. Reload the page.")
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._up.close()
            self._down.close()
        if server_ended:
            await self._explain()
        await self.close(end)
        self._hold.tidy()
        return end

    def serves(self, owner: str, server: str) -> bool:
        """True where this connection leads to that server."""
        return (self._seat.owner, self._seat.server) == (owner, server)

    def restarted(self, owner: str, server: str, kernel: str) -> None:
        """That kernel was restarted: what ran there will not be answered, and what waits for it comes soon."""
        if self.serves(owner, server) and self._seat.kernel == kernel:
            self._turns.forget_runs()

    async def announce(self, notice: Notice) -> None:
        """Show a notice in each cell that runs now."""
        text = notice.text(self._seat.accept_language)
        running = self._turns.unanswered
        await self._send([self._answers.notice(request.header, text, notice.action) for request in running])

    async def close(self, end: End) -> None:
        """Give every answer that still waits, close both sides, and don't wait for one that never reads."""
        if self._turns.held and not self._client.closed:
            await _in_time(self._release(everything=True), self._client.abort)
        end = end.sendable
        message = end.reason.encode()
        await asyncio.gather(
            _in_time(self._upstream.close(code=end.code, message=message), self._upstream.abort),
            _in_time(self._client.close(code=end.code, message=message), self._client.abort),
        )
        if self._client.lingers:
            await asyncio.sleep(_LINGER_S)
        if self._client.leaving:
            self._client.abort()

    async def _to_kernel(self) -> End:
        while True:
            received = await self._client.receive()
            try:
                if received.type in _DATA:
                    end = await self._from_client(Frame(received.data, received.type is WSMsgType.TEXT))
                    if end is not None:
                        return end
                    if len(received.data) > LARGE_BYTES:
                        del received
                        self._up.landed()
                        continue
                elif received.type is WSMsgType.PING:
                    await self._upstream.ping(received.data)
                elif received.type is WSMsgType.PONG:
                    await self._upstream.pong(received.data)
                else:
                    return End.of_client(received)
            except ConnectionError:
                return End(WSCloseCode.INTERNAL_ERROR, "The connection to the notebook server broke.")

    async def _to_client(self) -> End:
        while True:
            received = await self._upstream.receive()
            self._upstream.quicken()
            try:
                if received.type in _DATA:
                    frame = Frame(received.data, received.type is WSMsgType.TEXT)
                    await self._to_screen(frame)
                    self._counters["messages_to_client"] += 1
                    await self._remember(frame)
                    if len(received.data) > LARGE_BYTES:
                        del received, frame
                        self._down.landed()
                elif received.type is WSMsgType.PING:
                    await self._client.ping(received.data)
                elif received.type is WSMsgType.PONG:
                    await self._client.pong(received.data)
                else:
                    return End.of_server(received)
            except ConnectionError:
                return CLIENT_GONE

    async def _left(self) -> End:
        """Ends when the client is gone although the socket still holds what it never read, or lets others wait.

        asyncio tells nobody about such an end before everything is written, and nobody reads any more.
        """
        while not self._client.leaving:
            if self._up.stalls or self._down.stalls:
                self._counters["stalled"] += 1
                return End(WSCloseCode.TRY_AGAIN_LATER, "A large message moved too slowly while others waited for it.")
            await asyncio.sleep(_LOOK_S)
            self._hold.tidy()
        return CLIENT_GONE

    async def _in_turn(self) -> End:
        """Gives answers that have waited too long for their turn."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with suppress(ConnectionError):
                await self._release()

    async def _from_client(self, frame: Frame) -> End | None:
        """Pass one message on, or answer it in the kernel's stead; an End where it breaks the protocol."""
        apart: dict[str, Any] | None = None
        try:
            if json_bytes(frame, self._wire) > _READ_HERE_BYTES:
                member = await self._seat.actor.name() or self._seat.owner
                apart = await self._reading.inspect(member, frame, self._wire)
                message = outline(apart)
            else:
                message = parse(frame, self._wire)
        except WireError as error:
            return self._broken(WSCloseCode.INVALID_TEXT, error)
        except ReaderGone as error:
            self._counters["readers_lost"] += 1
            return self._broken(WSCloseCode.POLICY_VIOLATION, WireError(f"The message can't be read. {error}"))
        try:
            found = code(apart) if apart is not None else snippets(message)
            if len(found) > MOST_SNIPPETS:
                raise TooLongError(f"The message carries {len(found)} pieces of code: {MOST_SNIPPETS} is the most.")
        except WireError as error:
            await self._send(self._answers.malformed(message, str(error)))
            return self._broken(WSCloseCode.POLICY_VIOLATION, error)
        except TooLongError:
            await self._tell(message, frame, Verdict(Action.STOP, Refusal.TOO_LARGE.notice))
            return None
        if found:
            actor = await self._seat.actor.name()
            seat = self._seat
            cells = [
                Cell(snippet.code, actor, seat.owner, seat.server, seat.kernel, snippet.via, self._turns.language)
                for snippet in found
            ]
            verdict = await weigh(self._judge, cells, self._judge_timeout_s)
            self._counters[f"verdicts_{verdict.action}"] += 1
            if verdict.action is not Action.ALLOW:
                await self._tell(message, frame, verdict)
                return None
        self._turns.ran(message)
        await self._pass(frame)
        return None

    async def _tell(self, message: Message, frame: Frame, verdict: Verdict) -> None:
        """Show the notice, then do what the verdict says."""
        assert verdict.notice is not None
        text = verdict.notice.text(self._seat.accept_language)
        asked = message.msg_type == "input_reply"
        parent = self._turns.asking if asked else message.header
        if verdict.action.runs:
            if message.content.get("silent") is not True:
                await self._send([self._answers.notice(parent, text, verdict.action)])
            self._turns.ran(message)
            await self._pass(frame)
        elif asked:
            # The kernel waits for an answer and would wait for ever: it gets an empty one.
            await self._send([self._answers.notice(parent, text, verdict.action)])
            await self._pass(build(replace(message, content={**message.content, "value": ""}), self._wire))
        else:
            self._turns.hold(message, text, verdict.action)
            await self._release()

    async def _pass(self, frame: Frame) -> None:
        if len(frame.data) > LARGE_BYTES:
            await self._upstream.send_large(frame.data, frame.opcode, self._up.moved)
        else:
            await self._upstream.send_frame(frame.data, WSMsgType(frame.opcode))
        self._counters["messages_to_kernel"] += 1

    async def _to_screen(self, frame: Frame) -> None:
        """Pass one message to the client; the pieces of a large one let no other data in between."""
        async with self._client_turn:
            if len(frame.data) > LARGE_BYTES:
                await self._client.send_large(frame.data, frame.opcode, self._down.moved)
            else:
                await self._client.send_frame(frame.data, WSMsgType(frame.opcode))

    async def _send(self, messages: list[Message]) -> None:
        for message in messages:
            await self._to_screen(build(message, self._wire))

    async def _release(self, *, everything: bool = False) -> None:
        """Give the answers whose turn it is; one that could not be sent whole goes on waiting."""
        async with self._releasing:
            while (held := self._turns.due(everything=everything)) is not None:
                count = self._turns.execution_count
                await self._send(self._answers.not_run(held.request, held.text, held.action, count))
                self._turns.given(held)

    async def _explain(self) -> None:
        """The server went away: a cell that ran there ends with the reason, where a restriction is the reason.

        Asked now and not before: what has gone can send no second answer to the same cell.
        """
        running = self._turns.unanswered
        if not running or self._client.closed:
            return
        who = await self._seat.actor.name(), self._seat.owner
        said = [
            await standing(self._judge, *who, halted, self._judge_timeout_s)
            for halted in (Halted.RUNNING, Halted.CELL)[: len(running)]
        ]
        answers: list[Message] = []
        for place, request in enumerate(running):
            # The oldest was running, the others waited for it.
            if (notice := said[min(place, 1)]) is None:
                return
            text = notice.text(self._seat.accept_language)
            answers += self._answers.not_run(
                request, text, notice.action, self._turns.execution_count, *([] if place else [ENDED])
            )

        async def tell() -> None:
            await self._send(answers)
            self._turns.forget_runs()

        await _in_time(tell(), self._client.abort)

    async def _remember(self, frame: Frame) -> None:
        """Note what the kernel said, and give the answers that waited for it."""
        if json_bytes(frame, self._wire) > _READ_HERE_BYTES or not self._turns.cares(glance(frame, self._wire)):
            return
        with suppress(WireError):
            took_s = self._turns.saw(parse(frame, self._wire))
            if took_s is not None:
                observe(self._counters, ROUND_TRIP, took_s)
        if self._turns.held:
            await self._release()

    def _broken(self, code: int, error: WireError) -> End:
        self._counters["wire_errors"] += 1
        log.info("A message for kernel %s was refused: %s", self._seat.kernel, error)
        return End(code, str(error))


async def _in_time(closing: Awaitable[Any], abort: Callable[[], None]) -> None:
    """Close politely, or else drop the connection: what is buffered for one that never reads must not stay."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await closing
    except (TimeoutError, ConnectionError, RuntimeError, aiohttp.ClientError):
        abort()
