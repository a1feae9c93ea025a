"""Logging in: a fresh session each time, and no more wrong passwords from one address than people type."""

import math
from collections.abc import Collection
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.handlers import BaseHandler
from tornado import web
from traitlets.utils.importstring import import_item

from mutirao.bucket import Buckets, client_address
from mutirao.hub.language_hook import language_of
from mutirao.hub.logout import with_asking
from mutirao.language import translate

FAILURES = 60
"""Wrong passwords at once from one address: a class of thirty sits behind one, and mistypes."""
FAILURE_REFILL_S = 5.0


class TooManyTries(web.HTTPError):
    """429; the hub puts an error's `headers` on its answer."""

    def __init__(self, said: str, wait_s: int) -> None:
        super().__init__(429, said)
        self.headers = {"Retry-After": str(wait_s)}


async def fresh_session(_authenticator: Authenticator, handler: BaseHandler, model: Any) -> Any:
    """A login gets a session id that nobody knew before it: one planted by another page is worth nothing."""
    if isinstance(handler, BaseHandler):
        handler.__dict__.pop("_session_id", None)
        handler.set_session_cookie()
    return model


class Throttled(Authenticator):  # type: ignore[misc]  # no type information is published
    """Mix in before an authenticator: too many failures from one address are answered 429 for a while."""

    trusted_proxies: Collection[str] = ()
    failures = Buckets(FAILURES, FAILURE_REFILL_S)

    def get_handlers(self, app: Any) -> list[Any]:
        """The authenticator's, with a way out that no page can push somebody through."""
        return with_asking(super().get_handlers(app))

    async def get_authenticated_user(self, handler: Any, data: Any) -> Any:
        """As the authenticator has it, unless this address has to wait."""
        address = client_address(
            _peer(handler.request), handler.request.headers.get("X-Forwarded-For", ""), self.trusted_proxies
        )
        wait = self.failures.wait_s(address)
        if wait:
            seconds = math.ceil(wait)
            said = translate(language_of(handler), "login", "Too many failed tries: wait {wait} seconds.", wait=seconds)
            raise TooManyTries(said, seconds)
        found = await super().get_authenticated_user(handler, data)
        if not found:
            self.failures.take(address)
        return found


def throttled(authenticator: Any, trusted: Collection[str]) -> type:
    """The authenticator class, or the one that a name stands for, with `Throttled` in it."""
    if isinstance(authenticator, str):
        authenticator = named(authenticator)
    return type(authenticator.__name__, (Throttled, authenticator), {"trusted_proxies": tuple(trusted)})


def named(name: str) -> Any:
    """By entry point, as JupyterHub knows its own, or by module and class."""
    from importlib.metadata import entry_points

    found = [point for point in entry_points(group="jupyterhub.authenticators") if point.name == name]
    return found[0].load() if found else import_item(name)


def harden(c: Any, trusted: Collection[str] = ()) -> None:
    """Fresh sessions and throttled logins for the authenticator that `c` names; call it after that is set."""
    c.JupyterHub.authenticator_class = throttled(c.JupyterHub.authenticator_class, trusted)
    c.Authenticator.post_auth_hook = fresh_session


def _peer(request: Any) -> str:
    # Not remote_ip: Tornado believes X-Real-Ip there, which any client may send.
    stream = getattr(request.connection, "stream", None)
    socket = getattr(stream, "socket", None)
    try:
        return str(socket.getpeername()[0]) if socket is not None else ""
    except (OSError, IndexError, TypeError):
        return ""
