"""Which server a request is for: signed claims that travel in the proxy's route, never the URL alone.

The proxy class gives each server twin routes, `<routespec>api/kernels/` and `<routespec>api/sessions/`, whose target is
`<gate>/r/<claims>`.
configurable-http-proxy prepends the target's path, so the gate receives `/r/<claims>/user/NAME/api/kernels/…`.
`<claims>` is base64url(JSON of the route, keys sorted) + "." + HMAC-SHA256; the same route always gives the same
text, so that the hub can compare a twin's target with the one it expects.
"""

import base64
import hashlib
import hmac
import json
import re
from dataclasses import asdict, dataclass

from mutirao.errors import MutiraoError

KERNELS, SESSIONS = "api/kernels", "api/sessions"
PARTS = (KERNELS, SESSIONS)
"""What of a server leads through the gate."""

MAX_TAIL_CHARS = 2048
_CONTEXT = b"mutirao route 1:"
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


class RouteError(MutiraoError):
    """A request came without valid claims, or its path can be read in two ways."""


@dataclass(frozen=True, slots=True)
class Route:
    """A member's server as the hub knows it.

    `target` is scheme://host:port; `server` is "" for the default server; `prefix` is the escaped URL path
    that the server answers under, with a slash at both ends, without a host.
    """

    target: str
    user: str
    server: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Place:
    """One request's place below a route: `tail` is the path after the prefix, as it came on the wire."""

    route: Route
    tail: str
    query: str

    @property
    def target_url(self) -> str:
        """The upstream's URL, byte for byte the path and query that the client sent."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.route.target}{self.route.prefix}{self.tail}{query}"

    @property
    def part(self) -> str:
        """Which of PARTS the path is in."""
        return next(part for part in PARTS if _within(self.tail, part))

    @property
    def kernel(self) -> str:
        """The kernel's id, "" where the path names none."""
        return self._below[0]

    @property
    def action(self) -> str:
        """What follows the kernel's id (channels, execute, …), without slashes at the end; "" where nothing does."""
        return self._below[1]

    @property
    def _below(self) -> tuple[str, str]:
        if self.part != KERNELS:
            return "", ""
        kernel, _, action = self.tail[len(KERNELS) + 1 :].partition("/")
        return kernel, action.rstrip("/")


def claims(route: Route, secret: str) -> str:
    """The route's claims, signed; equal routes and secrets give equal text."""
    body = json.dumps(asdict(route), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    payload = _b64(body.encode())
    return f"{payload}.{_signature(payload, secret)}"


def read_claims(text: str, secret: str) -> Route:
    """The route that the claims name; RouteError unless this secret signed them."""
    payload, dot, signature = text.partition(".")
    expected = _signature(payload, secret)
    if not dot or not hmac.compare_digest(signature.encode(), expected.encode()):
        raise RouteError(
            "The route's claims carry a bad signature: hub and gate must share one MUTIRAO_GATE_SECRET, "
            "and only the proxy may send requests here."
        )
    padding = "=" * (-len(payload) % 4)
    return Route(**json.loads(base64.urlsafe_b64decode(payload + padding)))


def route_for(routespec: str, target: str, user: str, server: str) -> Route:
    """The route of a server from what the hub gives a proxy; a routespec is `[host]/path/`."""
    return Route(target.rstrip("/"), user, server, "/" + routespec.partition("/")[2])


def twin_specs(routespec: str) -> tuple[str, ...]:
    """The routespecs of a server's twins."""
    return tuple(f"{routespec.rstrip('/')}/{part}/" for part in PARTS)


def twin_target(gate_url: str, route: Route, secret: str) -> str:
    """The URL that the proxy sends a server's kernel traffic to."""
    return f"{gate_url.rstrip('/')}/r/{claims(route, secret)}"


def locate(raw_target: str, secret: str) -> Place:
    """The place that a request's raw target (path and query as on the wire) names; RouteError where it is unclear."""
    if not raw_target.isascii():
        raise RouteError("The request's target holds a byte that must be percent-encoded.")
    path, _, query = raw_target.partition("?")
    if not path.startswith("/r/"):
        raise RouteError(
            "The request came without the route's claims: start the proxy without --no-prepend-path and "
            "without --no-include-prefix, and reach the gate through the proxy only."
        )
    signed, slash, rest = path[3:].partition("/")
    route = read_claims(signed, secret)
    path = slash + rest
    if not path.startswith(route.prefix):
        _refuse_ambiguous(path)
        raise RouteError(f"The path {path[:200]!r} is not under {route.prefix[:200]!r}, which this route is for.")
    tail = path[len(route.prefix) :]
    _refuse_ambiguous(tail)
    if not any(_within(tail, part) for part in PARTS):
        raise RouteError(f"The path {tail[:200]!r} is not under {' or '.join(PARTS)}, which this route is for.")
    return Place(route, tail, query)


def _within(tail: str, part: str) -> bool:
    return tail == part or tail.startswith(f"{part}/")


def _refuse_ambiguous(path: str) -> None:
    """Refuse a path that proxy and server could read differently (the proxy decodes, Tornado matches raw)."""
    if len(path) > MAX_TAIL_CHARS:
        raise RouteError(f"The path has {len(path)} characters: at most {MAX_TAIL_CHARS} are read.")
    if not path.isascii() or not path.isprintable() or "\\" in path or " " in path or "#" in path:
        raise RouteError(f"The path {path[:200]!r} holds a character that must be percent-encoded.")
    if "//" in path:
        raise RouteError(f"The path {path[:200]!r} holds an empty segment (//): write it with single slashes.")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise RouteError(f"The path {path[:200]!r} holds a dot segment: write the path without it.")
    for match in re.finditer(r"%(..?)?", path):
        code = match[1] or ""
        if not re.fullmatch("[0-9A-Fa-f]{2}", code):
            raise RouteError(f"The path {path[:200]!r} holds a % that encodes nothing.")
        char = chr(int(code, 16))
        if char in "/\\" or char < " " or char == "\x7f" or _UNRESERVED.match(char):
            raise RouteError(f"The path {path[:200]!r} encodes {char!r} as %{code}, which can be read in two ways.")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signature(payload: str, secret: str) -> str:
    return _b64(hmac.new(secret.encode(), _CONTEXT + payload.encode(), hashlib.sha256).digest())
