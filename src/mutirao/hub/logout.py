"""Logging out is somebody's own act: JupyterHub does it on any GET, which a picture in a page could send."""

from collections.abc import Mapping
from typing import Any

from jupyterhub.handlers import LogoutHandler


def asked_for(headers: Mapping[str, str]) -> bool:
    """False where the browser says that another origin's page asked, and no person did (Fetch Metadata).

    JupyterLab's menu and the pages' link come from hosts of their own: whole pages, by a click.
    """
    if headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
        return True
    return headers.get("Sec-Fetch-Dest") == "document" and headers.get("Sec-Fetch-User") == "?1"


class Asked:
    """Mix in before a handler that logs out on GET."""

    async def get(self) -> None:
        """Log out, or go home with nothing changed."""
        if asked_for(self.request.headers):  # type: ignore[attr-defined]
            await super().get()  # type: ignore[misc]
        else:
            self.redirect(self.hub.base_url + "home")  # type: ignore[attr-defined]


def with_asking(handlers: list[Any]) -> list[Any]:
    """An authenticator's handlers, with its way out, or the hub's own, for those who asked."""
    found = [(path, _asking(rest[0]), *rest[1:]) if path == "/logout" else (path, *rest) for path, *rest in handlers]
    if not any(path == "/logout" for path, *_ in found):
        found.append(("/logout", _asking(LogoutHandler)))
    return found


def _asking(handler: Any) -> type:
    return type(handler.__name__, (Asked, handler), {})
