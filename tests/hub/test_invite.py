"""An invite lets one person in, once, while it lives; a name that the operators' list holds is not for the taking."""

import ast
import asyncio
import json
import string
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jupyterhub import orm
from nativeauthenticator.orm import UserInfo

from mutirao.errors import ConfigError
from mutirao.hub import native
from mutirao.hub.invite import Invites
from mutirao.hub.native import InviteAuthenticator
from mutirao.language import LANGUAGES, catalogue

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def invites(tmp_path: Path, clock: Clock) -> Invites:
    return Invites(tmp_path / "invites", clock)


def test_an_invite_is_good_once(invites: Invites) -> None:
    token = invites.issue(operator=False)

    assert invites.valid(token)
    assert invites.use(token, "ana")
    assert not invites.valid(token)
    assert not invites.use(token, "bia")


def test_an_invite_lapses(invites: Invites, clock: Clock) -> None:
    token = invites.issue(operator=False, life=timedelta(days=2))

    clock.now = START + timedelta(days=2) - timedelta(seconds=1)
    assert invites.valid(token)
    clock.now = START + timedelta(days=2)
    assert not invites.valid(token)
    assert not invites.use(token, "ana")


@pytest.mark.parametrize("token", ["", "x", "../../etc/passwd", "*", "a" * 10_000, "ü\n\0", "\udcff"])
def test_garbage_is_no_invite(invites: Invites, token: str) -> None:
    invites.issue(operator=True)

    assert not invites.valid(token)
    assert not invites.for_operator(token)
    assert not invites.use(token, "ana")


@pytest.mark.parametrize("content", ["", "{", "nul\0l"])
def test_a_broken_file_is_no_invite(invites: Invites, content: str) -> None:
    token = invites.issue(operator=True)
    next(invites.folder.glob("*.invite")).write_text(content)

    assert not invites.valid(token)


def test_reading_the_folder_gives_nobody_a_token(invites: Invites) -> None:
    token = invites.issue(operator=True)
    invites.use(invites.issue(operator=False), "ana")

    assert invites.folder.stat().st_mode & 0o077 == 0
    for file in invites.folder.iterdir():
        assert token not in file.name + file.read_text()
        # Neither the file's name nor its content is itself a token.
        assert not invites.valid(file.stem)
        assert not invites.valid(file.name)


def test_two_who_race_for_an_invite_do_not_both_get_in(invites: Invites) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            token = invites.issue(operator=False)
            won = list(threads.map(lambda name, token=token: invites.use(token, name), "abcdefgh"))
            assert won.count(True) == 1
            held = [json.loads(file.read_text())["member"] for file in invites.folder.glob("*.used")]
            assert "abcdefgh"[won.index(True)] in held


def test_an_operator_is_made_once(invites: Invites) -> None:
    """Whoever is demoted later stays demoted."""
    invites.use(invites.issue(operator=True), "ana")
    invites.use(invites.issue(operator=False), "bia")
    assert invites.operators() == {"ana"}

    invites.entered("ana")

    assert invites.operators() == set()


def test_it_is_known_whether_an_operator_is_provided_for(invites: Invites, clock: Clock) -> None:
    assert not invites.operator_provided()
    invites.issue(operator=False)
    assert not invites.operator_provided()
    token = invites.issue(operator=True)
    assert invites.operator_provided()
    clock.now = START + timedelta(days=8)
    assert not invites.operator_provided()  # nobody used it: the next start prints another
    clock.now = START
    invites.use(token, "ana")
    clock.now = START + timedelta(days=800)
    assert invites.operator_provided()


@pytest.mark.parametrize("life", [timedelta(0), timedelta(days=-1), timedelta(days=9_000_000)])
def test_a_life_that_can_not_be_is_refused(invites: Invites, life: timedelta) -> None:
    with pytest.raises(ConfigError, match="days"):
        invites.issue(operator=False, life=life)


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"can't be kept in .*/file/invites: "):
        Invites(tmp_path / "file" / "invites").issue(operator=False)


@pytest.fixture
def login(tmp_path: Path) -> InviteAuthenticator:
    sessions = orm.new_session_factory("sqlite:///:memory:")
    return InviteAuthenticator(
        db=sessions(),
        invite_folder=str(tmp_path / "invites"),
        admin_users={"root"},
        allow_all=True,
        minimum_password_length=8,
        check_common_password=True,
    )


def sign_up(login: InviteAuthenticator, name: str, token: str = "", password: str = PASSWORD) -> UserInfo | None:
    reset = native._token.set(token)
    try:
        return login.create_user(name, password, email="", has_2fa=False)
    finally:
        native._token.reset(reset)


def log_in(login: InviteAuthenticator, name: str, password: str = PASSWORD) -> dict[str, object] | None:
    return asyncio.run(login.authenticate(None, {"username": name, "password": password}))


def test_a_sign_up_waits_without_an_invite_and_enters_with_one(login: InviteAuthenticator) -> None:
    sign_up(login, "ana")
    sign_up(login, "bia", login.invites.issue(operator=False))

    assert log_in(login, "ana") is None
    assert log_in(login, "bia") == {"name": "bia", "admin": None}


def test_an_operators_invite_makes_an_operator_when_they_first_come_in(login: InviteAuthenticator) -> None:
    sign_up(login, "ana", login.invites.issue(operator=True))

    assert log_in(login, "ana", "something else") is None
    assert log_in(login, "ana") == {"name": "ana", "admin": True}
    # From here the hub's record counts: None leaves it as it is.
    assert log_in(login, "ana") == {"name": "ana", "admin": None}


@pytest.mark.parametrize("operator", [None, False])
def test_a_name_on_the_operators_list_is_not_for_whoever_types_it_first(
    login: InviteAuthenticator, operator: bool | None
) -> None:
    token = "" if operator is None else login.invites.issue(operator=operator)
    sign_up(login, "root", token)

    assert log_in(login, "root") is None
    assert not token or login.invites.valid(token)


def test_a_name_on_the_operators_list_enters_by_an_operators_invite(login: InviteAuthenticator) -> None:
    sign_up(login, "Root", login.invites.issue(operator=True))

    assert log_in(login, "root") == {"name": "root", "admin": True}


def test_open_sign_up_does_not_open_the_operators_names(login: InviteAuthenticator) -> None:
    login.open_signup = True
    sign_up(login, "ana")
    sign_up(login, "root")

    assert log_in(login, "ana") is not None
    assert log_in(login, "root") is None


def test_the_next_holder_of_a_name_does_not_inherit_its_invite(login: InviteAuthenticator) -> None:
    info = sign_up(login, "ana", login.invites.issue(operator=True))
    login.db.delete(info)
    login.db.commit()
    login.open_signup = True
    sign_up(login, "ana")

    assert log_in(login, "ana") == {"name": "ana", "admin": None}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "%2e", "../../x", "a b", "a,b", " ana", "ana\n", "a\0b", "a\tb", "\u200bana", "a" * 101]
)
def test_a_name_that_can_not_be_kept_is_refused_and_spends_no_invite(login: InviteAuthenticator, name: str) -> None:
    token = login.invites.issue(operator=False)

    assert sign_up(login, name, token) is None
    assert login.invites.valid(token)


@pytest.mark.parametrize("name", ["üser", "名前", "a" * 100, "o'neil", "ana@example.org", "-rf", "$(id)", "<b>"])
def test_unusual_names_are_fine(login: InviteAuthenticator, name: str) -> None:
    assert sign_up(login, name, login.invites.issue(operator=False))
    assert log_in(login, name) == {"name": name.lower(), "admin": None}


@pytest.mark.parametrize("password", ["", "short", "password", "a" * 73, "ü" * 37, "with\0nul-inside"])
def test_a_password_that_will_not_do_is_refused(login: InviteAuthenticator, password: str) -> None:
    token = login.invites.issue(operator=False)

    assert sign_up(login, "ana", token, password) is None
    assert login.invites.valid(token)


@pytest.mark.parametrize("password", ["a" * 73, "a" * 100_000, "with\0nul"])
def test_a_login_with_an_unreadable_password_fails_quietly(login: InviteAuthenticator, password: str) -> None:
    """bcrypt raises on more than 72 bytes; that is a wrong password, not an error of ours."""
    sign_up(login, "ana", login.invites.issue(operator=False))

    assert log_in(login, "ana", password) is None


def test_what_the_sign_up_page_says_is_there_in_every_language() -> None:
    tree = ast.parse(Path(native.__file__).read_text())
    texts = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "_say"
        and isinstance(node.args[1], ast.Constant)
    }
    # Two are chosen before they are said.
    texts |= {
        text
        for text in catalogue("pt-BR", "login")
        if "invitation" in text and text in Path(native.__file__).read_text()
    }
    assert len(texts) == 11
    for lang in set(LANGUAGES) - {"en"}:
        said = catalogue(lang, "login")
        assert set(said) == texts
        for text, translated in said.items():
            assert {f for _, f, _, _ in string.Formatter().parse(text)} == {
                f for _, f, _, _ in string.Formatter().parse(translated)
            }


def test_a_name_that_had_a_home_is_not_given_again(login: InviteAuthenticator) -> None:
    """The home, the cases and the record behind a name belong to whoever had it."""
    login.had_a_holder = lambda name: name == "gone"

    assert login.user_exists("Gone")
    assert sign_up(login, "gone") is None
    assert sign_up(login, "new") is not None
