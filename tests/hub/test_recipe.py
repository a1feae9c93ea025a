"""The broker makes a runtime of names alone; the rest is the configuration's."""

from pathlib import Path

import pytest

from mutirao.config import Settings
from mutirao.errors import SandboxError
from mutirao.hub import environment
from mutirao.hub.recipe import ARGUMENTS, PORT, Recipe
from mutirao.sandbox.ask import AskError, Start


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("MUTIRAO_HOME", str(tmp_path / "home"))
    settings = Settings.model_validate({"service": {"data": str(tmp_path)}, "sandbox": {"tcp_ports": [443]}})
    base = environment.find("base", tmp_path).path
    base.mkdir(parents=True)
    (base / ".ready").touch()
    return Recipe(settings)


def asked(**changes: str) -> Start:
    plain = {"member": "ana", "server": "", "environment": "base", "size": "medium", "language": "pt-BR"}
    return Start(**plain | changes, env={"JUPYTERHUB_USER": "ana"})  # type: ignore[arg-type]


def test_a_spec_is_made_of_the_configuration(recipe: Recipe) -> None:
    spec = recipe.spec(asked())
    base = environment.find("base", recipe.settings.service.data).path

    assert (spec.member, spec.environment, spec.port) == ("ana", base, PORT)
    assert spec.argv == (f"{base}/bin/mutirao-start", *ARGUMENTS)
    assert spec.limits.memory_mb == 4096
    assert spec.network.tcp_ports == (443,)
    assert spec.read_only == ()
    assert spec.env["JUPYTERHUB_USER"] == "ana"
    assert spec.env["MUTIRAO_LANGUAGE"] == "pt-BR"
    assert spec.env["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("key", "value"),
    [("environment", "../../etc"), ("environment", ""), ("size", "huge"), ("language", "de"), ("language", "../x")],
)
def test_what_is_not_offered_is_refused(recipe: Recipe, key: str, value: str) -> None:
    with pytest.raises(AskError, match=f"{key} .* is not offered"):
        recipe.spec(asked(**{key: value}))


def test_what_is_not_built_can_not_be_started(recipe: Recipe) -> None:
    with pytest.raises(SandboxError, match="not built"):
        recipe.spec(asked(environment="ml"))
