"""Nobody is logged out by a page that they only look at."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.handlers import BaseHandler, LogoutHandler
from oauthenticator.generic import GenericOAuthenticator
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from mutirao.hub import actor_api
from mutirao.hub.logout import Asked, asked_for, with_asking
from mutirao.hub.native import InviteAuthenticator
from mutirao.hub.session import throttled


@pytest.mark.parametrize(
    ("site", "dest", "user", "expected"),
    [
        (None, None, None, True),  # no browser, or one without Fetch Metadata
        ("none", "document", "?1", True),
        ("same-origin", "document", None, True),
        ("same-origin", "empty", None, True),
        ("same-site", "document", "?1", True),
        ("cross-site", "document", "?1", True),
        ("same-site", "document", None, False),
        ("cross-site", "document", None, False),
        ("same-site", "image", None, False),
        ("cross-site", "image", "?1", False),
        ("same-site", "iframe", "?1", False),
        ("cross-site", "empty", None, False),
        ("nonsense", None, None, False),
    ],
)
def test_only_a_person_logs_out(site: str | None, dest: str | None, user: str | None, expected: bool) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": dest, "Sec-Fetch-User": user}
    assert asked_for({name: value for name, value in headers.items() if value is not None}) is expected


@pytest.fixture
def db() -> Iterator[Session]:
    """The hub's database, which NativeAuthenticator adds a table to."""
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.mark.parametrize("authenticator", [DummyAuthenticator, GenericOAuthenticator, InviteAuthenticator])
def test_every_authenticators_way_out_asks(db: Session, authenticator: Any) -> None:
    options = {"authorize_url": "https://x", "token_url": "https://x", "userdata_url": "https://x"}
    made = throttled(authenticator, ())
    door = made(**options) if authenticator is GenericOAuthenticator else made(db=db)
    handlers = [
        handler for path, handler, *_ in door.get_handlers(SimpleNamespace(template_paths=[])) if path == "/logout"
    ]
    assert handlers
    assert all(issubclass(handler, Asked) and issubclass(handler, LogoutHandler) for handler in handlers)


def test_a_handler_keeps_its_options() -> None:
    found = with_asking([("/logout", LogoutHandler, {"a": 1}), ("/x", BaseHandler)])
    assert found[0][2] == {"a": 1}
    assert found[1] == ("/x", BaseHandler)
    assert len(found) == 2


def test_what_we_add_to_the_hub_checks_forms_keys(db: Session) -> None:
    """JupyterHub's base checks every POST; a handler that is none of its children, or that looks away, would not."""
    door = throttled(InviteAuthenticator, ())(db=db)
    added = [*door.get_handlers(SimpleNamespace(template_paths=[])), (actor_api.PATH, actor_api.ActorAPIHandler)]
    for path, handler, *_ in added:
        assert issubclass(handler, BaseHandler), path
        checks = [each for each in handler.__mro__ if "check_xsrf_cookie" in vars(each)]
        assert all(each.__module__.startswith(("jupyterhub.", "tornado.")) for each in checks), (path, checks)
