"""`mutirao config check` says what a setting names but is not there."""

from pathlib import Path

import pytest

from mutirao.cli import main


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[policy]\nversion = 99", "policy.version is 99"),
        ('[environments.nowhere]\ntitle = { en = "x" }', "no environment called 'nowhere'"),
        ('[login]\nkind = "class"\nclass_name = "no.such.Class"', "login.class_name is no.such.Class"),
        ('[login]\nkind = "class"\nclass_name = "jupyterhub.auth.DummyAuthenticator"\noptions = { password = { env = "MUTIRAO_UNSET" } }', "MUTIRAO_UNSET, which is not set"),
    ],
)  # fmt: skip
def test_config_check_finds_what_is_named_but_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "mutirao.toml"
    path.write_text(text)

    with pytest.raises(SystemExit) as ended:
        main(["config", "check", "--config", str(path)])

    assert ended.value.code == 1
    assert said in capsys.readouterr().err
