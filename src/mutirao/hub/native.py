"""Signing up and logging in by NativeAuthenticator, with invites, approval by form, and pages in every language."""

from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jupyterhub.handlers import BaseHandler
from nativeauthenticator import NativeAuthenticator
from nativeauthenticator.handlers import DiscardHandler, LoginHandler, SignUpHandler, ToggleAuthorizationHandler
from nativeauthenticator.orm import UserInfo
from tornado.escape import url_escape
from traitlets import Callable, Unicode

from mutirao.hub.approval import Approve, Discard
from mutirao.hub.invite import Invites
from mutirao.hub.language_hook import language_of
from mutirao.language import translate

COOKIE = "mutirao-invite"
PASSWORD_BYTES = 72
"""bcrypt reads no more than this, and its library raises on a longer one."""

_token: ContextVar[str] = ContextVar("invite token of the sign-up in progress", default="")


class InviteSignUp(SignUpHandler):  # type: ignore[misc]  # no type information is published
    """The sign-up page; an invite in its address is kept in a cookie until somebody signed up."""

    async def get(self) -> None:
        """Show the form; a valid invite goes into a signed cookie, any other is named as such."""
        token = self.get_argument("invite_key", "")  # a name that the hub's log masks
        if not token:
            await super().get()
            return
        alert, said = "alert-success", "Your invitation is good: choose a name and a password."
        if self.authenticator.invites.valid(token):
            secure = self.request.protocol == "https"
            path = self.hub.base_url
            self.set_secure_cookie(COOKIE, token, expires_days=1, path=path, httponly=True, secure=secure)
        else:
            alert = "alert-warning"
            said = "This invitation was used or has lapsed. You can sign up all the same; an operator then approves it."
        page = await self.render_template(
            "signup.html",
            ask_email=self.authenticator.ask_email_on_signup,
            two_factor_auth=self.authenticator.allow_2fa,
            tos=self.authenticator.tos,
            alert=alert,
            result_message=_say(self, said),
        )
        self.finish(page)

    async def post(self) -> None:
        """Sign up, with the invite where there is one."""
        held = self.get_secure_cookie(COOKIE)
        reset = _token.set(held.decode() if held else "")
        try:
            await super().post()
        finally:
            _token.reset(reset)

    def get_result_message(
        self, user: UserInfo | None, human: bool, taken: bool, confirmed: bool, _admin: bool
    ) -> tuple[str, str]:
        """The kind of alert, and what became of the sign-up in the visitor's language."""
        if user is not None:
            self.clear_cookie(COOKIE, path=self.hub.base_url)
            if user.is_authorized:
                return "alert-success", _say(self, "You are signed up: you can log in now.")
            return "alert-info", _say(self, "Your name waits for an operator's approval; after that you can log in.")
        if taken:
            return "alert-danger", _say(self, "This name is taken: choose another.")
        if not confirmed:
            return "alert-danger", _say(self, "The two passwords differ: type the same one twice.")
        if not human:
            return "alert-danger", _say(self, "The test for humans was not passed: try again.")
        said = _say(
            self,
            "That did not work. A name has 1 to 100 characters and no spaces, commas or slashes; "
            "a password has at least {least} characters, at most 72 bytes, and is not a common one.",
            least=self.authenticator.minimum_password_length,
        )
        return "alert-danger", said


class Login(LoginHandler):  # type: ignore[misc]  # no type information is published
    """The login page; NativeAuthenticator's own fails under JupyterHub 6, which has no `statsd`."""

    async def post(self) -> None:
        """Log in, or say why not."""
        name = self.get_body_argument("username", "")
        data = {
            "username": name,
            "password": self.get_body_argument("password", "", strip=False),
            "2fa": self.get_body_argument("2fa", ""),
        }
        user = await self.login_user(data)
        if user:
            # So that the log names who this was.
            self._jupyterhub_user = user
            self.redirect(self.get_next_url(user))
            return
        self.set_status(403)
        self.finish(await self._render(login_error=self._why(name, data["password"]), username=name[:100]))

    def _why(self, name: str, password: str) -> str:
        login = self.authenticator
        name = login.normalize_username(name)
        if login.is_blocked(name):
            return _say(self, "Too many failed tries: wait {wait} seconds.", wait=login.seconds_before_next_try)
        info = login.get_user(name)
        if info and not info.is_authorized and _readable(password) and info.is_valid_password(password):
            return _say(self, "Your name still waits for an operator's approval.")
        return _say(self, "Wrong name or password.")

    def _render(self, login_error: str | None = None, username: str | None = None, **values: Any) -> Any:
        """The page; the hub renders its own errors by this too, with `values` of its own."""
        return self.render_template(
            "native-login.html",
            next=url_escape(self.get_argument("next", "")),
            username=username,
            login_error=login_error,
            login_url=self.settings["login_url"],
            enable_signup=self.authenticator.enable_signup,
            two_factor_auth=self.authenticator.allow_2fa,
            **{name: value for name, value in values.items() if name in ("sync",)},
        )


class InviteAuthenticator(NativeAuthenticator):  # type: ignore[misc]  # no type information is published
    """NativeAuthenticator whose sign-ups with an invite need no approval."""

    invite_folder = Unicode(help="Folder of the invites.").tag(config=True)

    had_a_holder = Callable(lambda _name: False, help="Says whether a name ever had a home here.").tag(config=True)

    def user_exists(self, username: str) -> bool:
        """True for a name that is taken, or was: its home and its record belong to whoever had it."""
        name = self.normalize_username(username)
        return bool(super().user_exists(name)) or bool(self.had_a_holder(name))

    @property
    def invites(self) -> Invites:
        """The invites of this hub."""
        return Invites(Path(self.invite_folder))

    def create_user(self, username: str, password: str, **kwargs: Any) -> UserInfo | None:
        """Create a sign-up; a valid invite approves it at once.

        The names in `admin_users` are operators as soon as they are let in, and anybody can type one into the form:
        for those only an operator's invite will do.
        """
        info = super().create_user(username, password, **kwargs)
        if info is None:
            return None
        # The name may have had another holder, whose rights are not this one's.
        self.invites.entered(info.username)
        named = info.username in self.admin_users
        if named:
            info.is_authorized = False
        token = _token.get()
        if token and (not named or self.invites.for_operator(token)) and self.invites.use(token, info.username):
            info.is_authorized = True
        self.db.commit()
        return info

    def validate_username(self, username: str) -> bool:
        """False for names the hub can't keep: more than 100 characters, and control characters too."""
        return len(username) <= 100 and username.isprintable() and bool(super().validate_username(username))

    def is_password_strong(self, password: str) -> bool:
        """False for one that is short, common, or longer than bcrypt reads."""
        return _readable(password) and bool(super().is_password_strong(password))

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Check name and password; those invited as operators become administrators when they first come in."""
        name = await super().authenticate(handler, data) if _readable(data["password"]) else None
        if not name:
            return None
        invited = name in self.invites.operators()
        if invited:
            self.invites.entered(name)
        return {"name": name, "admin": True if invited or name in self.admin_users else None}

    def get_handlers(self, app: Any) -> list[tuple[str, Any]]:
        """The native pages, with our sign-up, and approval that no link can trigger."""
        ours = {
            LoginHandler: Login,
            SignUpHandler: InviteSignUp,
            ToggleAuthorizationHandler: Approve,
            DiscardHandler: Discard,
        }
        return [(path, ours.get(handler, handler)) for path, handler in super().get_handlers(app)]


def _say(handler: BaseHandler, text: str, **values: object) -> str:
    return translate(language_of(handler), "login", text, **values)


def _readable(password: str) -> bool:
    return len(password.encode(errors="replace")) <= PASSWORD_BYTES and "\0" not in password
