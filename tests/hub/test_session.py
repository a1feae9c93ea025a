"""Logging in: a session that nobody knew before, and no endless guessing, with any authenticator."""

from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.auth import Authenticator, DummyAuthenticator
from jupyterhub.handlers import BaseHandler
from tornado.httputil import HTTPHeaders
from traitlets.config import Config

from mutirao.bucket import Buckets
from mutirao.hub.session import FAILURES, Throttled, TooManyTries, fresh_session, harden, throttled


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class OnePassword(Authenticator):
    """Lets everybody in who says "right"."""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        return data["username"] if data["password"] == "right" else None


class Handler(BaseHandler):  # type: ignore[misc]
    """A handler with a peer and headers, that keeps the session cookie it sets."""

    def __init__(self, peer: str = "127.0.0.1", **headers: str) -> None:
        socket = SimpleNamespace(getpeername=lambda: (peer, 1))
        connection = SimpleNamespace(stream=SimpleNamespace(socket=socket))
        given = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
        self.request = SimpleNamespace(headers=given, connection=connection, cookies={})  # type: ignore[assignment]
        self.sessions: list[str] = []

    def _set_cookie(self, key: str, value: str, encrypted: bool = True, **overrides: Any) -> None:
        assert key == "jupyterhub-session-id"
        self.sessions.append(value)

    @property
    def settings(self) -> dict[str, Any]:
        return {"base_url": "/"}

    @property
    def base_url(self) -> str:
        return "/"


def door(trusted: tuple[str, ...] = (), clock: Clock | None = None) -> Any:
    made = throttled(OnePassword, trusted)(allow_all=True)
    made.failures = Buckets(FAILURES, 5, clock or Clock())
    return made


async def knock(at: Any, password: str, **where: str) -> bool:
    found = await at.get_authenticated_user(Handler(**where), {"username": "ana", "password": password})
    return found is not None


async def test_after_sixty_failures_an_address_waits() -> None:
    clock = Clock()
    at = door(clock=clock)
    for _ in range(FAILURES):
        assert not await knock(at, "wrong")
    with pytest.raises(TooManyTries) as refused:
        await knock(at, "right")
    assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": "5"})
    assert "wait 5 seconds" in str(refused.value.log_message)
    clock.now += 5
    assert await knock(at, "right")


async def test_a_class_that_logs_in_spends_nothing() -> None:
    at = door()
    for _ in range(5 * FAILURES):
        assert await knock(at, "right")


async def test_another_address_does_not_wait_and_a_claim_is_no_address() -> None:
    at = door()
    for number in range(FAILURES):
        await knock(at, "wrong", X_Forwarded_For=f"198.51.100.{number}, 203.0.113.9", X_Real_IP=f"198.51.100.{number}")
    with pytest.raises(TooManyTries):
        await knock(at, "wrong", X_Forwarded_For="198.51.100.99, 203.0.113.9", X_Real_IP="198.51.100.99")
    assert await knock(at, "right", X_Forwarded_For="203.0.113.10")


async def test_a_trusted_proxy_is_believed() -> None:
    at = door(trusted=("203.0.113.9",))
    for _ in range(FAILURES):
        await knock(at, "wrong", X_Forwarded_For="198.51.100.1, 203.0.113.9")
    assert await knock(at, "right", X_Forwarded_For="198.51.100.2, 203.0.113.9")
    with pytest.raises(TooManyTries):
        await knock(at, "right", X_Forwarded_For="198.51.100.1, 203.0.113.9")


@pytest.mark.parametrize(
    "named", ["shared-password", "dummy", "jupyterhub.auth.DummyAuthenticator", DummyAuthenticator]
)
def test_every_authenticator_is_hardened_and_keeps_its_settings(named: Any) -> None:
    c = Config()
    c.JupyterHub.authenticator_class = named
    harden(c)
    made = c.JupyterHub.authenticator_class
    assert issubclass(made, Throttled)
    assert issubclass(made, Authenticator)
    # The configuration names the class by its name.
    (base,) = [each for each in made.__mro__[1:] if each.__name__ == made.__name__]
    c[base.__name__].username_map = {"a": "b"}
    assert made(config=c).username_map == {"a": "b"}
    assert made(config=c).post_auth_hook is fresh_session


async def test_a_login_sets_a_session_that_was_not_there_before() -> None:
    handler = Handler(Cookie="jupyterhub-session-id=planted")
    model = {"name": "ana"}
    assert await fresh_session(OnePassword(), handler, model) is model
    assert await fresh_session(OnePassword(), handler, model) is model
    first, second = handler.sessions
    assert "planted" not in handler.sessions
    assert first != second
    assert handler.get_session_cookie() == second
