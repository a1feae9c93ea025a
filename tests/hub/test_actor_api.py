"""The hub says whose session it is, from a real database of JupyterHub's."""

from datetime import timedelta

import pytest
from jupyterhub import orm
from jupyterhub.utils import utcnow
from tornado import web

from mutirao.hub.actor_api import ActorAPIHandler, session_user


@pytest.fixture
def db():
    db = orm.new_session_factory("sqlite:///:memory:")()
    for name in ("ana", "bob", "ü@x"):
        db.add(orm.User(name=name))
    for client in ("jupyterhub-user-ana", "jupyterhub-user-ana-gpu", "jupyterhub-user-%C3%BC%40x"):
        db.add(orm.OAuthClient(identifier=client, allowed_scopes=[]))
    db.commit()
    yield db
    db.close()
    db.bind.dispose()


def add(db, user: str, session: str, client: str, expires_s: int | None = None) -> None:
    expires = None if expires_s is None else utcnow(with_tz=False) + timedelta(seconds=expires_s)
    owner = db.query(orm.User).filter_by(name=user).one()
    number = db.query(orm.APIToken).count()
    db.add(
        orm.APIToken(
            user=owner, session_id=session, client_id=client, expires_at=expires, hashed=f"h{number}", prefix="p"
        )
    )
    db.commit()


def test_a_session_on_a_server_has_its_user(db):
    add(db, "ana", "s1", "jupyterhub-user-ana")
    add(db, "ü@x", "s2", "jupyterhub-user-%C3%BC%40x")
    assert session_user(db, "s1", "ana", "") == "ana"
    assert session_user(db, "s2", "ü@x", "") == "ü@x"


def test_with_sharing_the_user_need_not_be_the_owner(db):
    add(db, "bob", "s1", "jupyterhub-user-ana")
    assert session_user(db, "s1", "ana", "") == "bob"


def test_a_session_counts_on_its_own_server_only(db):
    add(db, "ana", "s1", "jupyterhub-user-ana")
    assert session_user(db, "s1", "ana", "gpu") is None
    assert session_user(db, "s1", "bob", "") is None
    assert session_user(db, "other", "ana", "") is None


def test_several_users_in_one_session_are_nobody(db):
    add(db, "ana", "s1", "jupyterhub-user-ana-gpu")
    add(db, "ana", "s1", "jupyterhub-user-ana-gpu")
    assert session_user(db, "s1", "ana", "gpu") == "ana"
    add(db, "bob", "s1", "jupyterhub-user-ana-gpu")
    assert session_user(db, "s1", "ana", "gpu") is None


@pytest.mark.parametrize(("expires_s", "name"), [(-5, None), (60, "ana"), (None, "ana")])
def test_an_expired_token_is_nobodys(db, expires_s, name):
    add(db, "ana", "s1", "jupyterhub-user-ana", expires_s)
    assert session_user(db, "s1", "ana", "") == name


class Asked(ActorAPIHandler):
    """The handler without JupyterHub's web machinery around it."""

    def __init__(self, db, asking, **query: str) -> None:
        self._db, self._asking, self._query, self.said = db, asking, query, ""

    db = property(lambda self: self._db)
    current_user = property(lambda self: self._asking)

    def get_query_argument(self, name, *default):
        if name not in self._query and not default:
            raise web.MissingArgumentError(name)
        return self._query.get(name, *default)

    def finish(self, chunk=None):
        self.said = chunk


async def test_the_service_mutirao_is_answered(db):
    add(db, "ana", "s1", "jupyterhub-user-ana")
    handler = Asked(db, orm.Service(name="mutirao"), session_key="s1", owner="ana")
    await handler.get()
    assert handler.said == '{"name": "ana"}'


@pytest.mark.parametrize("asking", [None, orm.User(name="mutirao"), orm.Service(name="other")])
async def test_nobody_else_learns_whose_session_it_is(db, asking):
    with pytest.raises(web.HTTPError) as caught:
        await Asked(db, asking, session_key="s1", owner="ana").get()
    assert caught.value.status_code == 403


async def test_a_question_without_a_session_is_refused(db):
    with pytest.raises(web.HTTPError) as caught:
        await Asked(db, orm.Service(name="mutirao"), owner="ana").get()
    assert caught.value.status_code == 400
