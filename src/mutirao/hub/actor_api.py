"""The hub's answer to the gate's question: whose browser session is this, on this server?

Registered with `c.JupyterHub.extra_handlers = [(r"/api/mutirao/actor", ActorAPIHandler)]`; answers the service named
`mutirao` alone.
"""

import json
from urllib.parse import quote

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.utils import utcnow
from tornado import web

SERVICE = "mutirao"
PATH = r"/api/mutirao/actor"


def session_user(db: object, session: str, owner: str, server: str) -> str | None:
    """The one user who holds a live token of that server in that session; None for nobody, or for several."""
    client_id = f"jupyterhub-user-{quote(owner)}" + (f"-{quote(server)}" if server else "")
    now = utcnow(with_tz=False)
    tokens = db.query(orm.APIToken).filter_by(session_id=session, client_id=client_id)  # type: ignore[attr-defined]
    names = {
        token.user.name
        for token in tokens
        if token.user is not None and (token.expires_at is None or token.expires_at > now)
    }
    return names.pop() if len(names) == 1 else None


class ActorAPIHandler(APIHandler):  # type: ignore[misc]
    """GET /hub/api/mutirao/actor?session_key=…&owner=…&server=… → {"name": … or null}."""

    async def get(self) -> None:
        """Answer the service; 403 for everybody else, 400 where session or owner is missing."""
        asking = self.current_user
        if not isinstance(asking, orm.Service) or asking.name != SERVICE:
            raise web.HTTPError(403, f"Only the service {SERVICE!r} may ask whose session this is.")
        session, owner = self.get_query_argument("session_key"), self.get_query_argument("owner")
        name = session_user(self.db, session, owner, self.get_query_argument("server", ""))
        self.finish(json.dumps({"name": name}))
