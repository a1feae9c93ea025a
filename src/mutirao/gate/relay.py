"""One client's websocket to one kernel, relayed message by message.

Two pumps run side by side, each in order: client to kernel (inspected) and kernel to client (glanced at). Sending waits
until the socket takes the bytes, so a client that never reads stalls its own two pumps and holds one message of memory.
A large message needs room (`hold`), is read by a process of its own, and leaves in pieces.
Pings and pongs pass from end to end: who is gone is noticed by who asked.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.notice import Notice
from mutirao.errors import TooLongError, WireError
from mutirao.gate.answer import Answers
from mutirao.gate.fair import FairReading
from mutirao.gate.hold import LARGE_BYTES, Cargo, Hold
from mutirao.gate.inspect import MOST_SNIPPETS, snippets
from mutirao.gate.judge import Judge, weigh
from mutirao.gate.measure import ROUND_TRIP, observe
from mutirao.gate.meter import Meter
from mutirao.gate.pieces import send_pieces
from mutirao.gate.reader import code, outline
from mutirao.gate.readers import ReaderGone
from mutirao.gate.refusal import Refusal
from mutirao.gate.upstream import UpstreamSocket
from mutirao.gate.wire import Frame, Message, Wire, build, glance, json_bytes, parse

log = logging.getLogger(__name__)

_READ_HERE_BYTES = 256 << 10
"""More JSON than that is read in another process: Python's lock is held while JSON is read."""
_CLOSE_S = 3.0
_LINGER_S = 2.0
_LOOK_S = 5.0
_MOST_RUNNING = 200
_ASK_AGAIN_S = 30.0
_REASON_BYTES = 123
# What aiohttp closes with by itself when a client's frame can't be read.
_UNREADABLE = (WSCloseCode.MESSAGE_TOO_BIG, WSCloseCode.PROTOCOL_ERROR, WSCloseCode.INVALID_TEXT)
_DATA = (WSMsgType.TEXT, WSMsgType.BINARY)
_REMEMBERED = ("execute_input", "execute_reply", "input_request", "kernel_info_reply")
# Codes that a close frame may not carry (RFC 6455, 7.4.1), and what is said instead.
_UNSENDABLE = {1004: 1002, 1005: 1000, 1006: 1011, 1015: 1011, 0: 1000}


@dataclass(frozen=True, slots=True)
class End:
    """Why a relay ends: the close code and reason for both sides."""

    code: int
    reason: str = ""

    @property
    def sendable(self) -> "End":
        """The same with a code and a reason that fit into a close frame."""
        reason = self.reason.encode("utf-8", "replace")[:_REASON_BYTES].decode("utf-8", "ignore")
        return End(_UNSENDABLE.get(self.code, self.code), reason)


class ClientSocket(web.WebSocketResponse[bool]):
    """The client's websocket; a message above the limit is refused with a reason, not only a code."""

    def __init__(self, protocols: tuple[str, ...], max_message_bytes: int) -> None:
        super().__init__(
            protocols=protocols,
            autoping=False,
            compress=False,
            max_msg_size=max_message_bytes,
            decode_text=False,
            timeout=_CLOSE_S,
        )
        self.meter: Meter
        self.lingers = False
        self.too_big = f"A message is larger than {max_message_bytes} bytes: upload data as a file instead."

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close the websocket; after a frame that can't be read, what the client still sends is discarded.

        Closing the connection at once would answer those bytes with a reset, which overtakes the close frame.
        """
        if code not in _UNREADABLE or message or self._writer is None or self._closed:
            return await super().close(code=code, message=message, drain=drain)
        reason = self.too_big if code == WSCloseCode.MESSAGE_TOO_BIG else "A frame breaks the websocket protocol."
        self._set_closed()
        self.lingers = True
        with suppress(ConnectionError):
            await self._writer.close(code, reason)
        return True

    @property  # type: ignore[override]
    def _parser(self) -> Meter:
        return self.meter

    @_parser.setter
    def _parser(self, parser: Any) -> None:
        # aiohttp sets its parser here and hands what it reads back to the connection: so every byte is counted.
        if parser is not None:
            self.meter = Meter(parser)

    def hold_reading(self) -> None:
        """Read no more until told to."""
        if self._writer is not None:
            self._writer.protocol._pause_reading_for_buffer()

    def go_on_reading(self) -> None:
        """Read again."""
        if self._writer is not None:
            self._writer.protocol._resume_reading_for_buffer()

    async def send_large(self, data: bytes, opcode: int, moved: Callable[[int], None]) -> None:
        """Send one message in pieces; `moved` hears of each."""
        assert self._writer is not None
        await send_pieces(self._writer, data, opcode, moved)

    @property
    def leaving(self) -> bool:
        """True where the connection is closed but holds bytes that the client never read."""
        if self._writer is None:
            return False
        transport = self._writer.transport
        return transport.is_closing() and transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """Drop the connection with whatever it still holds."""
        if self._writer is not None:
            self._writer.transport.abort()


class ActorOnce:
    """Who sits before a kernel: asked once, and again after a while as long as nobody knows."""

    def __init__(self, ask: Callable[[], Awaitable[str | None]]) -> None:
        self._ask = ask
        self._asking: asyncio.Future[str | None] | None = None
        self._asked_at = 0.0

    async def name(self) -> str | None:
        """The actor's name, None where the hub does not know it or does not answer."""
        now = asyncio.get_running_loop().time()
        known = self._asking
        if known is None or (known.done() and known.result() is None and now - self._asked_at > _ASK_AGAIN_S):
            self._asked_at = now
            known = self._asking = asyncio.ensure_future(self._resolve())
        return await asyncio.shield(known)

    async def _resolve(self) -> str | None:
        try:
            return await self._ask()
        except Exception:
            log.exception("Who runs the cells of a connection could not be found out.")
            return None


@dataclass(frozen=True, slots=True)
class Seat:
    """Whose kernel this is, and who sits before it."""

    owner: str
    server: str
    kernel: str
    actor: "ActorOnce"
    accept_language: str


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
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._wire = wire
        self._seat = seat
        self._judge = judge
        self._judge_timeout_s = judge_timeout_s
        self._counters = counters
        self._answers = Answers()
        self._execution_count = 0
        self._language = "python"
        self._asking: dict[str, Any] = {}
        self._running: dict[str, dict[str, Any]] = {}
        self._began: dict[str, float] = {}
        self._reading = reading
        self._hold = hold
        self._client_turn = asyncio.Lock()
        self._up = Cargo(hold, seat.owner, client.hold_reading, client.go_on_reading)
        self._down = Cargo(hold, seat.owner, upstream.hold_reading, upstream.go_on_reading)
        client.meter.join(self._up, max_message_bytes)
        upstream.meter.join(self._down, max_message_bytes)

    async def run(self) -> End:
        """Relay until a side ends, then close the other with the same code."""
        pumps = [asyncio.create_task(pump) for pump in (self._to_kernel(), self._to_client(), self._left())]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            end = next(iter(done)).result()
        except Exception:
            log.exception("The connection to kernel %s failed.", self._seat.kernel)
            end = End(WSCloseCode.INTERNAL_ERROR, "The gate failed; your kernel goes on. Reload the page.")
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._up.close()
            self._down.close()
        await self.close(end)
        self._hold.tidy()
        return end

    def serves(self, owner: str, server: str) -> bool:
        """True where this connection leads to that server."""
        return (self._seat.owner, self._seat.server) == (owner, server)

    async def announce(self, notice: Notice) -> None:
        """Show a notice in each cell that runs now."""
        text = notice.text(self._seat.accept_language)
        await self._send([self._answers.notice(parent, text, notice.action) for parent in self._running.values()])

    async def close(self, end: End) -> None:
        """Close both sides, and don't wait for one that never reads."""
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
                    return self._client_end(received)
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
                    if json_bytes(frame, self._wire) <= _READ_HERE_BYTES and glance(frame, self._wire) in _REMEMBERED:
                        self._remember(frame)
                    if len(received.data) > LARGE_BYTES:
                        del received, frame
                        self._down.landed()
                elif received.type is WSMsgType.PING:
                    await self._client.ping(received.data)
                elif received.type is WSMsgType.PONG:
                    await self._client.pong(received.data)
                else:
                    return self._upstream_end(received)
            except ConnectionError:
                return End(WSCloseCode.GOING_AWAY, "The client went away.")

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
        return End(WSCloseCode.GOING_AWAY, "The client went away.")

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
                Cell(snippet.code, actor, seat.owner, seat.server, seat.kernel, snippet.via, self._language)
                for snippet in found
            ]
            verdict = await weigh(self._judge, cells, self._judge_timeout_s)
            self._counters[f"verdicts_{verdict.action}"] += 1
            if verdict.action is not Action.ALLOW:
                await self._tell(message, frame, verdict)
                return None
        self._note_run(message)
        await self._pass(frame)
        return None

    def _note_run(self, message: Message) -> None:
        """Remember a run until its reply; the oldest go where a client sends many without end."""
        number = message.header.get("msg_id")
        if message.msg_type == "execute_request" and isinstance(number, str):
            self._running[number] = message.header
            self._began[number] = time.perf_counter()
            for kept in (self._running, self._began):
                if len(kept) > _MOST_RUNNING:
                    del kept[next(iter(kept))]

    async def _tell(self, message: Message, frame: Frame, verdict: Verdict) -> None:
        """Show the notice, then do what the verdict says."""
        assert verdict.notice is not None
        text = verdict.notice.text(self._seat.accept_language)
        asked = message.msg_type == "input_reply"
        parent = self._asking if asked else message.header
        if verdict.action.runs:
            if message.content.get("silent") is not True:
                await self._send([self._answers.notice(parent, text, verdict.action)])
            self._note_run(message)
            await self._pass(frame)
        elif asked:
            # The kernel waits for an answer and would wait for ever: it gets an empty one.
            await self._send([self._answers.notice(parent, text, verdict.action)])
            await self._pass(build(replace(message, content={**message.content, "value": ""}), self._wire))
        else:
            await self._send(self._answers.not_run(message, text, verdict.action, self._execution_count))

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

    def _remember(self, frame: Frame) -> None:
        """Keep what later answers need; a kernel that sends nonsense harms only its own notices."""
        try:
            message = parse(frame, self._wire)
        except WireError:
            return
        if message.msg_type == "execute_reply":
            number = str(message.parent_header.get("msg_id"))
            self._running.pop(number, None)
            if (began := self._began.pop(number, None)) is not None:
                observe(self._counters, ROUND_TRIP, time.perf_counter() - began)
        count = message.content.get("execution_count")
        if isinstance(count, int):
            self._execution_count = count
        if message.msg_type == "input_request":
            self._asking = message.parent_header
        if message.msg_type == "kernel_info_reply":
            info = message.content.get("language_info")
            name = info.get("name") if isinstance(info, dict) else None
            if isinstance(name, str) and name:
                self._language = name[:60].lower()

    def _broken(self, code: int, error: WireError) -> End:
        self._counters["wire_errors"] += 1
        log.info("A message for kernel %s was refused: %s", self._seat.kernel, error)
        return End(code, str(error))

    def _client_end(self, received: Any) -> End:
        if received.type is WSMsgType.CLOSE:
            return End(int(received.data or 1000), str(received.extra or ""))
        if isinstance(received.data, aiohttp.WebSocketError):
            return End(received.data.code, str(received.data))
        return End(WSCloseCode.GOING_AWAY, "The client went away.")

    def _upstream_end(self, received: Any) -> End:
        if received.type is WSMsgType.CLOSE:
            return End(int(received.data or 1000), str(received.extra or ""))
        if isinstance(received.data, aiohttp.WebSocketError):
            if received.data.code == WSCloseCode.MESSAGE_TOO_BIG:
                return End(WSCloseCode.MESSAGE_TOO_BIG, "The kernel sent a message that is too large to show.")
            return End(WSCloseCode.INTERNAL_ERROR, "The notebook server broke the websocket protocol.")
        return End(WSCloseCode.INTERNAL_ERROR, "The notebook server went away. Restart it from the hub's home page.")


async def _in_time(closing: Awaitable[Any], abort: Callable[[], None]) -> None:
    """Close politely, or else drop the connection: what is buffered for one that never reads must not stay."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await closing
    except (TimeoutError, ConnectionError, RuntimeError, aiohttp.ClientError):
        abort()
