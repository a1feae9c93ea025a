"""Who visits a page: a signed cookie after OAuth with the hub, or a token in the Authorization header."""

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from hmac import compare_digest
from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import RedirectResponse, Response
from tornado.web import create_signed_value, decode_signed_value

from mutirao.origins import Origins
from mutirao.web.hub import Hub, Person

SESSION_COOKIE = "mutirao-session"
SESSION_DAYS = 7
STATE_COOKIE = "mutirao-login-"
STATE_S = 600
FORM_DAYS = 1


class LoginNeeded(Exception):
    """A page needs to know who asks, and nobody is logged in."""


class LoginFailed(Exception):
    """The way back from the hub did not fit the way there: late, twice, or begun by somebody else."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person with the token that proves it; `by_cookie` says that forms need a key of their own."""

    person: Person
    token: str
    by_cookie: bool


def local_path(wanted: str, inside: str, otherwise: str) -> str:
    """`wanted` where it is a path of this host below `inside`, else `otherwise`: no redirect leaves the house."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return otherwise
    foreign = parts.scheme or parts.netloc or wanted.startswith("//") or "\\" in wanted or not wanted.isprintable()
    if foreign or not parts.path.startswith(inside) or ".." in parts.path.split("/"):
        return otherwise
    return wanted


def came_by_tls(request: Request, origins: Origins) -> bool:
    """True where browsers use https, by our settings or as the outermost proxy says; those get Secure cookies."""
    if origins.secure:
        return True
    outermost = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    return "https" in (outermost, request.url.scheme)


def from_here(request: Request) -> bool:
    """False where the browser says that a page of another origin sent it here (Fetch Metadata, or Origin)."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


class Login:
    """OAuth with the hub. `secret` signs the cookies; `prefix` is the service's path, with both slashes.

    On an origin of their own and by https our cookies are the host's alone (`__Host-`, RFC 6265bis): a page on a
    member's subdomain could otherwise plant a login of its own.
    """

    def __init__(self, hub: Hub, secret: str, prefix: str, origins: Origins = Origins()) -> None:  # noqa: B008 - frozen
        self.hub = hub
        self.prefix = prefix
        self._secret = secret
        self._origins = origins
        self._host_only = origins.apart and origins.secure
        self.session_cookie = self._name(SESSION_COOKIE)

    def _name(self, name: str) -> str:
        return f"__Host-{name}" if self._host_only else name

    def _path(self, path: str) -> str:
        return "/" if self._host_only else path

    async def visitor(self, request: Request) -> Visitor | None:
        """Who asks, None for nobody; a header counts before a cookie."""
        session = request.cookies.get("jupyterhub-session-id", "")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        by_cookie = kind.lower() not in ("token", "bearer")
        if by_cookie:
            token = self._open(self.session_cookie, request.cookies.get(self.session_cookie, ""), SESSION_DAYS) or ""
        if not token.strip():
            return None
        person = await self.hub.person(token.strip(), session)
        return Visitor(person, token.strip(), by_cookie) if person else None

    def begin(self, request: Request, next_path: str) -> Response:
        """Send the browser to the hub; where it wanted to go waits in a signed cookie for ten minutes."""
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        going = {"state": state, "verifier": verifier, "next": local_path(next_path, self.prefix, self.prefix)}
        response = RedirectResponse(self.hub.authorize_url(state, challenge), status_code=302)
        name = self._name(_state_cookie(state))
        self._set(request, response, name, json.dumps(going), path=f"{self.prefix}oauth_callback", max_age=STATE_S)
        return response

    async def finish(self, request: Request) -> Response:
        """The way back: the state must be the one that this browser left with. Raises LoginFailed."""
        state, code = request.query_params.get("state", ""), request.query_params.get("code", "")
        name = self._name(_state_cookie(state))
        sealed = self._open(name, request.cookies.get(name, ""), STATE_S / 86_400)
        going = json.loads(sealed) if sealed else {}
        if not code or not compare_digest(going.get("state", "").encode(), state.encode()) or not state:
            raise LoginFailed
        token = await self.hub.token_for(code, going["verifier"])
        if token is None:
            raise LoginFailed
        response = RedirectResponse(going["next"], status_code=303)
        self._forget(request, response, name, path=f"{self.prefix}oauth_callback")
        self._set(request, response, self.session_cookie, token, path=self.prefix)
        return response

    def leave(self, request: Request, to: str) -> Response:
        """Forget the session here and send the browser to `to`, where the hub forgets its own.

        Not for another site's picture or link: that goes to the start page, logged in as before.
        """
        if not from_here(request):
            return RedirectResponse(self.prefix, status_code=303)
        self.hub.forget()
        response = RedirectResponse(to, status_code=303)
        self._forget(request, response, self.session_cookie, path=self.prefix)
        return response

    def form_key(self, visitor: Visitor, purpose: str) -> str:
        """A value that only a page made for this session and purpose carries."""
        return self._seal("form", f"{_thumb(visitor.token)} {purpose}")

    def form_is_ours(self, request: Request, visitor: Visitor, purpose: str, key: str) -> bool:
        """True where the form was ours, for this visitor and purpose, and no other site sent it."""
        if not from_here(request):
            return False
        said = self._open("form", key, FORM_DAYS) or ""
        return compare_digest(said.encode(), f"{_thumb(visitor.token)} {purpose}".encode())

    def public_key(self, purpose: str) -> str:
        """A value that only a page of ours carries, for forms that need no login."""
        return self._seal("public-form", purpose)

    def public_form_is_ours(self, request: Request, purpose: str, key: str) -> bool:
        """True where the form was ours, less than a day old, and no other site sent it."""
        return from_here(request) and self._open("public-form", key, FORM_DAYS) == purpose

    def _seal(self, name: str, value: str) -> str:
        return create_signed_value(self._secret, name, value).decode("ascii")

    def _open(self, name: str, sealed: str, days: float) -> str | None:
        value = decode_signed_value(self._secret, name, sealed, max_age_days=days) if sealed.isascii() else None
        return value.decode("utf-8") if value else None

    def _set(
        self, request: Request, response: Response, name: str, value: str, *, path: str, max_age: int | None = None
    ) -> None:
        secure = came_by_tls(request, self._origins)
        sealed = self._seal(name, value)
        response.set_cookie(
            name, sealed, max_age=max_age, path=self._path(path), secure=secure, httponly=True, samesite="lax"
        )

    def _forget(self, request: Request, response: Response, name: str, *, path: str) -> None:
        secure = came_by_tls(request, self._origins)
        response.delete_cookie(name, path=self._path(path), secure=secure, httponly=True, samesite="lax")


def _state_cookie(state: str) -> str:
    """Each login on its way has a cookie of its own, so that two tabs don't cross."""
    return STATE_COOKIE + re.sub(r"[^A-Za-z0-9]", "", state)[:8]


def _thumb(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
