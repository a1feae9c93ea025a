"""Invite links: who holds one signs up without waiting for approval; the first operator enters by one.

One file an invite, named by the hash of its token, so that reading the folder gives nobody a way in. Using an invite
renames its file, which only one of two racing sign-ups can do.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nativeauthenticator import NativeAuthenticator
from nativeauthenticator.handlers import SignUpHandler
from nativeauthenticator.orm import UserInfo
from traitlets import Unicode

COOKIE = "mutirao-invite"
INVITE_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Invites:
    """The invites in a folder; `clock` gives aware UTC times."""

    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def issue(self, *, operator: bool, life: timedelta = INVITE_LIFE) -> str:
        """A new token, good for one sign-up until its life ends."""
        token = secrets.token_urlsafe(24)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ends = self.clock() + life
        fresh = self._file(token).with_suffix(".new")
        fresh.write_text(json.dumps({"operator": operator, "ends_at": ends.isoformat()}))
        fresh.rename(self._file(token))
        return token

    def valid(self, token: str) -> bool:
        """True while the invite is unused and alive."""
        try:
            held = json.loads(self._file(token).read_text())
        except (OSError, ValueError):
            return False
        return datetime.fromisoformat(held["ends_at"]) > self.clock()

    def use(self, token: str, member: str) -> bool:
        """Spend the invite on a member; False where somebody was quicker."""
        if not self.valid(token):
            return False
        file = self._file(token)
        held = json.loads(file.read_text())
        spent = file.with_suffix(".used")
        try:
            os.link(file, spent)
            file.unlink()
        except OSError:
            return False
        fresh = spent.with_suffix(".new")
        fresh.write_text(json.dumps(held | {"member": member, "used_at": self.clock().isoformat()}))
        fresh.replace(spent)
        return True

    def operators(self) -> set[str]:
        """The members who came in by an operator's invite."""
        found = set()
        for file in self.folder.glob("*.used"):
            held = json.loads(file.read_text())
            if held["operator"] and "member" in held:
                found.add(held["member"])
        return found

    def _file(self, token: str) -> Path:
        return self.folder / f"{hashlib.sha256(token.encode()).hexdigest()}.invite"


_token: ContextVar[str] = ContextVar("invite token of the sign-up in progress", default="")


class InviteSignUp(SignUpHandler):  # type: ignore[misc]  # no type information is published
    """The sign-up page; an invite in its address is kept in a cookie until the form comes back."""

    async def get(self) -> None:
        """Show the form; a valid invite goes into a signed cookie."""
        token = self.get_argument("invite", "")
        if token and self.authenticator.invites.valid(token):
            self.set_secure_cookie(COOKIE, token, expires_days=1, httponly=True, path=self.hub.base_url)
        await super().get()

    async def post(self) -> None:
        """Sign up, with the invite where there is one."""
        held = self.get_secure_cookie(COOKIE)
        reset = _token.set(held.decode() if held else "")
        try:
            await super().post()
        finally:
            _token.reset(reset)
        self.clear_cookie(COOKIE, path=self.hub.base_url)


class InviteAuthenticator(NativeAuthenticator):  # type: ignore[misc]  # no type information is published
    """NativeAuthenticator whose sign-ups with an invite need no approval."""

    invite_folder = Unicode(help="Folder of the invites.").tag(config=True)

    @property
    def invites(self) -> Invites:
        """The invites of this hub."""
        return Invites(Path(self.invite_folder))

    def create_user(self, username: str, password: str, **kwargs: Any) -> UserInfo | None:
        """Create a sign-up; a valid invite approves it at once."""
        info = super().create_user(username, password, **kwargs)
        if info is not None and _token.get() and self.invites.use(_token.get(), info.username):
            info.is_authorized = True
            self.db.commit()
        return info

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Check name and password; those invited as operators are administrators."""
        name = await super().authenticate(handler, data)
        if not name:
            return None
        operator = name in self.invites.operators() or name in self.admin_users
        return {"name": name, "admin": True if operator else None}

    def get_handlers(self, app: Any) -> list[tuple[str, Any]]:
        """The native pages, with our sign-up."""
        return [
            (path, InviteSignUp if handler is SignUpHandler else handler) for path, handler in super().get_handlers(app)
        ]
