"""Approving sign-ups: NativeAuthenticator does it on GET, which any link or picture in a page could trigger; here it
takes a form, with the hub's own check against forged ones.
"""

from nativeauthenticator.handlers import DiscardHandler, ToggleAuthorizationHandler, admin_users_scope
from tornado import web


class Approve(ToggleAuthorizationHandler):  # type: ignore[misc]  # no type information is published
    """POST /hub/authorize/NAME with `approved` yes or no."""

    @admin_users_scope  # type: ignore[untyped-decorator]
    async def get(self, slug: str) -> None:  # noqa: ARG002
        """Show the list; nothing changes."""
        self.redirect(self.hub.base_url + "authorize")

    @admin_users_scope  # type: ignore[untyped-decorator]
    async def post(self, slug: str) -> None:
        """Let somebody in, or no longer; 404 for a name that never signed up."""
        info = self.authenticator.get_user(slug)
        if info is None:
            raise web.HTTPError(404, f"Nobody signed up as {slug}.")
        info.is_authorized = self.get_body_argument("approved") == "yes"
        self.db.commit()
        self.redirect(self.hub.base_url + "authorize")


class Discard(DiscardHandler):  # type: ignore[misc]  # no type information is published
    """POST /hub/discard/NAME: delete a sign-up that was not approved."""

    @admin_users_scope  # type: ignore[untyped-decorator]
    async def get(self, user_name: str) -> None:  # noqa: ARG002
        """Show the list; nothing changes."""
        self.redirect(self.hub.base_url + "authorize")

    @admin_users_scope  # type: ignore[untyped-decorator]
    async def post(self, user_name: str) -> None:
        """Delete the sign-up."""
        await super().get(user_name)
