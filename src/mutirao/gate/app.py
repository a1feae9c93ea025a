"""The gate as a web application: finds the route, then relays, judges or forwards."""

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Any

from aiohttp import WSCloseCode, hdrs, web
from multidict import CIMultiDict
from prometheus_client import CONTENT_TYPE_LATEST
from tornado.httputil import parse_cookie

from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice
from mutirao.detect.engine import Engine
from mutirao.errors import MutiraoError, WireError
from mutirao.gate.actor import HubActors, query_token
from mutirao.gate.announcement import SECRET_HEADER
from mutirao.gate.announcement import read as read_announcement
from mutirao.gate.budget import Budget
from mutirao.gate.client import ClientSocket
from mutirao.gate.end import End
from mutirao.gate.execute import Executions, carries_code
from mutirao.gate.fair import PATIENCE_SHARE, FairReading
from mutirao.gate.forward import forward
from mutirao.gate.headers import for_handshake, offered, whole_answer
from mutirao.gate.hold import Hold
from mutirao.gate.judge import Actors, Judge, standing
from mutirao.gate.measure import exposition
from mutirao.gate.outcome import Outcomes
from mutirao.gate.probe import declined
from mutirao.gate.readers import Readers
from mutirao.gate.relay import Relay
from mutirao.gate.route import Place, RouteError, locate
from mutirao.gate.seat import ActorOnce, Seat
from mutirao.gate.starts import refused_start, starts_kernel
from mutirao.gate.turns import Key, Shelf, Turns
from mutirao.gate.upstream import MAX_LINE_BYTES, Declined, Upstream, UpstreamAway, UpstreamSocket
from mutirao.gate.wire import Wire
from mutirao.language import LANGUAGE_COOKIE, preferred

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 100_000_000
MAX_BODY_BYTES = 2_000_000
"""The longest cell that can be judged, each character escaped, and some more."""
JUDGE_TIMEOUT_S = 5.0
BUDGET_S = 6.0
MAX_CONNECTIONS = 200
"""One websocket is one kernel in one browser tab."""
ANNOUNCE_S = 2.0


@dataclass(eq=False)
class Gate:
    """Everything that one gate process needs; `counters` counts since its start.

    `secret` is shared with the hub's proxy class.
    `language` is for clients that name none. `probe` raises where the store does not answer.
    `max_connections` is for one member's kernels; those that wait for their server count apart, and may be as many.
    """

    secret: str
    judge: Judge
    actors: Actors
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_body_bytes: int = MAX_BODY_BYTES
    max_connections: int = MAX_CONNECTIONS
    judge_timeout_s: float = JUDGE_TIMEOUT_S
    language: str = "en"
    worker: str = "gate-0"
    reading: FairReading | None = None
    hold: Hold = field(default_factory=Hold)
    counters: Counter[str] = field(default_factory=Counter)
    probe: Callable[[], None] | None = None
    _upstream: Upstream | None = None
    _relays: set[Relay] = field(default_factory=set)
    _open: Counter[str] = field(default_factory=Counter)
    _connecting: Counter[str] = field(default_factory=Counter)
    _shelf: Shelf = field(default_factory=Shelf)
    _outcomes: Outcomes = field(default_factory=Outcomes)

    def __post_init__(self) -> None:
        if not self.secret:
            raise ValueError("The gate's secret is empty: set MUTIRAO_GATE_SECRET to the same text for hub and gate.")
        # Room for two of the largest, or one connection could keep everybody else out.
        self.hold.room_bytes = max(self.hold.room_bytes, 2 * self.max_message_bytes)

    @property
    def upstream(self) -> Upstream:
        """The client side, opened on first use (it needs the event loop)."""
        if self._upstream is None:
            self._upstream = Upstream()
        return self._upstream

    async def close(self) -> None:
        """End every relay, then close the client side."""
        end = End(WSCloseCode.SERVICE_RESTART, "The gate restarts; your kernel goes on. Reconnect in a moment.")
        await asyncio.gather(*(relay.close(end) for relay in list(self._relays)))
        if self._upstream is not None:
            await self._upstream.close()
            self._upstream = None
        if isinstance(self.actors, HubActors):
            await self.actors.close()
        if self.reading is not None:
            await self.reading.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request: /healthz, or anything that a twin route leads here."""
        raw = request.raw_path
        if raw == "/healthz":
            return await self._health()
        if raw == "/metrics":
            return web.Response(body=exposition(self.counters), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})
        if raw == "/announce":
            return await self._announce(request)
        self.counters["requests"] += 1
        try:
            place = locate(raw, self.secret)
            if place.action == "channels" and _wants_websocket(request):
                return await self._channels(request, place)
            return await self._http(request, place)
        except RouteError as error:
            self.counters["refused_routes"] += 1
            return _problem(400, str(error))
        except UpstreamAway as error:
            self.counters["upstream_away"] += 1
            return _problem(503, str(error))

    async def _http(self, request: web.Request, place: Place) -> web.StreamResponse:
        """Answer what is no websocket: code is judged, kernels are started for those who may have one."""
        language = self._language(request)
        if carries_code(request, place):
            return await self._executions().handle(request, place, language)
        if starts_kernel(request, place) and (notice := await self._held_back(request, place)) is not None:
            # Whom the server does not accept gets its own refusal: who is restricted is not everybody's to know.
            if (stranger := await declined(request, place, self.upstream)) is not None:
                return stranger
            self.counters["refused_starts"] += 1
            return refused_start(notice, language)
        outcome = self._outcomes.find(place) if request.method == hdrs.METH_GET else None
        if outcome is not None:
            return await declined(request, place, self.upstream) or web.json_response(outcome)
        answer = await forward(request, place, self.upstream)
        if place.action == "restart" and answer.status < 300:
            kernel = place.route.user, place.route.server, place.kernel
            self._shelf.restarted(kernel)
            self._fair_reading().restarted(*kernel)
            for relay in self._relays:
                relay.restarted(*kernel)
        return answer

    async def _held_back(self, request: web.Request, place: Place) -> Notice | None:
        """The words for whoever may not have a kernel started here; None for everybody else."""
        actor = await self.actors.resolve(request.headers, query_token(place.query), place.route)
        return await standing(self.judge, actor, place.route.user, Halted.KERNEL, self.judge_timeout_s)

    async def _health(self) -> web.Response:
        """503 where the store does not answer: then no cell that meets a rule can be judged."""
        store = "ok"
        if self.probe is not None:
            try:
                await asyncio.wait_for(asyncio.to_thread(self.probe), self.judge_timeout_s)
            except (MutiraoError, TimeoutError) as error:
                log.warning("the store does not answer: %s", error)
                store = "does not answer"
        status = "ok" if store == "ok" else "degraded"
        answer = {"status": status, "store": store, "worker": self.worker, "counters": dict(self.counters)}
        return web.json_response(answer, status=200 if status == "ok" else 503)

    async def _announce(self, request: web.Request) -> web.Response:
        """The hub tells a member something in the cells that run on their server."""
        given = request.headers.get(SECRET_HEADER, "")
        if request.method != "POST" or not compare_digest(given.encode(), self.secret.encode()):
            return _problem(403, "Only the hub announces.")
        try:
            owner, server, notice = read_announcement(await request.json())
        except (WireError, ValueError) as error:
            return _problem(400, str(error))
        relays = [relay for relay in self._relays if relay.serves(owner, server)]
        telling = [asyncio.create_task(_tell(relay, notice)) for relay in relays]
        if telling:
            # Not cancelled after the wait: a client that reads too slowly still gets it, and the relay's own
            # sending shares what a cancelled send would cancel.
            await asyncio.wait(telling, timeout=ANNOUNCE_S)
        return web.json_response({"told": len(relays)})

    def _language(self, request: web.Request) -> str:
        """The language for notices: the one chosen on the pages, else the browser's, else the service's."""
        chosen = parse_cookie(request.headers.get(hdrs.COOKIE, "")).get(LANGUAGE_COOKIE, "")
        return preferred((chosen,), request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), self.language)

    def _fair_reading(self) -> FairReading:
        """Whoever reads large frames; the desk's scanner where there is one, for one member has one budget."""
        if self.reading is None:
            self.reading = FairReading(Engine(()), Readers(), Budget(BUDGET_S), self.judge_timeout_s * PATIENCE_SHARE)
        return self.reading

    def _executions(self) -> Executions:
        return Executions(
            self.upstream,
            self.judge,
            self.actors,
            self.judge_timeout_s,
            self.max_body_bytes,
            self.counters,
            self._outcomes,
        )

    async def _channels(self, request: web.Request, place: Place) -> web.StreamResponse:
        """Connect to the server first; only when it has accepted is the client accepted, and anything judged."""
        headers = for_handshake(request.headers.items())
        protocols = offered(CIMultiDict(request.headers))
        owner = place.route.user
        if self._connecting[owner] >= self.max_connections:
            return self._too_many(owner)
        try:
            with _counted(self._connecting, owner):
                upstream = await self.upstream.connect(place.target_url, headers, protocols, self.max_message_bytes)
        except Declined as no:
            self.counters["declined"] += 1
            kept = whole_answer(no.headers.items())
            return web.Response(status=no.status, reason=no.reason, headers=kept, body=no.body)
        try:
            # Not before: only whom the server accepts can use up what is the member's.
            if self._open[owner] >= self.max_connections:
                return self._too_many(owner)
            with _counted(self._open, owner):
                return await self._relay(request, place, upstream)
        finally:
            if not upstream.closed:
                upstream.abort()

    def _too_many(self, owner: str) -> web.Response:
        self.counters["too_many_connections"] += 1
        return _problem(
            429,
            f"{owner} has {self.max_connections} connections to kernels, and more are not allowed "
            "(max_connections under [gate]): close browser tabs or shut down kernels, and try again.",
        )

    async def _relay(self, request: web.Request, place: Place, upstream: UpstreamSocket) -> web.StreamResponse:
        try:
            wire = Wire.chosen(upstream.protocol)
        except WireError as error:
            return _problem(400, str(error))
        client = ClientSocket((wire.value,) if wire is Wire.V1 else (), self.max_message_bytes)
        client.headers.extend((hdrs.SET_COOKIE, c) for c in upstream.handshake_headers.getall(hdrs.SET_COOKIE, ()))
        await client.prepare(request)
        headers, token = CIMultiDict(request.headers), query_token(place.query)
        actor = ActorOnce(lambda: self.actors.resolve(headers, token, place.route))
        asking = asyncio.create_task(actor.name())
        seat = Seat(
            place.route.user,
            place.route.server,
            place.kernel,
            actor,
            self._language(request),
        )
        key: Key = (seat.owner, seat.server, seat.kernel, request.query.get("session_id", "")[:200])
        turns = self._shelf.take(key, await actor.name()) if key in self._shelf else None
        turns = turns or Turns()
        relay = Relay(
            client,
            upstream,
            wire,
            seat,
            self.judge,
            self.judge_timeout_s,
            self.counters,
            self._fair_reading(),
            self.hold,
            self.max_message_bytes,
            turns,
        )
        self._relays.add(relay)
        self.counters["connections"] += 1
        self.counters["connections_open"] += 1
        try:
            end = await relay.run()
            log.debug("A connection to kernel %s ended: %s", place.kernel, end)
        finally:
            if key[-1] and (turns.held or turns.unanswered):
                self._shelf.put(key, await actor.name(), turns)
            asking.cancel()
            self._relays.discard(relay)
            self.counters["connections_open"] -= 1
        return client


def make_app(gate: Gate) -> web.Application:
    """The gate as an aiohttp application; it closes the gate when it shuts down."""

    @web.middleware
    async def everything(request: web.Request, handler: Any) -> web.StreamResponse:
        # Not the handler that aiohttp's router found: it sees a normalised path, the gate reads the raw one.
        del handler
        return await gate.handle(request)

    async def close(_app: web.Application) -> None:
        await gate.close()

    app = web.Application(middlewares=[everything])
    app.on_shutdown.append(close)
    return app


def make_runner(gate: Gate) -> web.AppRunner:
    """A runner whose limits fit long names: 255 characters are up to 3 KB in a path, and the claims hold them again."""
    return web.AppRunner(
        make_app(gate),
        access_log=None,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
        shutdown_timeout=5.0,
    )


def main(gate: Gate, host: str, port: int) -> None:
    """Serve the gate until SIGTERM or SIGINT; clients are told to come back, kernels go on."""

    async def serve() -> None:
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        if gate.reading is not None:
            gate.reading.warm()
        runner = make_runner(gate)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            await told_to_stop.wait()
        finally:
            await runner.cleanup()

    asyncio.run(serve())


@contextmanager
def _counted(counter: Counter[str], name: str) -> Iterator[None]:
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]


async def _tell(relay: Relay, notice: Notice) -> None:
    with suppress(ConnectionError):
        await relay.announce(notice)


def _wants_websocket(request: web.Request) -> bool:
    upgrades = request.headers.get(hdrs.UPGRADE, "").lower()
    connection = request.headers.get(hdrs.CONNECTION, "").lower()
    return request.method == hdrs.METH_GET and upgrades == "websocket" and "upgrade" in connection


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"message": message, "reason": "gate"}, status=status)
