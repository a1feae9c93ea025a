"""The broker makes a runtime of names alone; the rest is the configuration's."""

from pathlib import Path

import pytest

from mutirao.config import Settings
from mutirao.errors import SandboxError
from mutirao.hub import environment
from mutirao.hub.recipe import ARGUMENTS, PORT, Recipe
from mutirao.hub.room import READING_ROOM
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


def test_a_reading_room_is_small_shut_off_and_the_same_for_everybody(recipe: Recipe) -> None:
    """Fixed by the broker: a hub that was taken over can ask for it by name, and can't make it wider."""
    spec = recipe.spec(asked(size=READING_ROOM))

    assert (spec.limits.memory_mb, spec.limits.cpus, spec.limits.processes) == (320, 0.5, 64)
    assert spec.limits.disk_mb == max(size.disk_mb for size in recipe.settings.sizes.values())
    assert (spec.network.tcp_ports, spec.network.dns, spec.network.allow) == ((), False, ())
    assert spec.argv[-1] == "--ServerApp.kernel_manager_class=reading_room.NoKernels"
    assert spec.env["JUPYTERHUB_DISABLE_USER_CONFIG"] == "1"
    assert [shown.inside for shown in spec.read_only] == [spec.env["PYTHONPATH"]]
    assert (spec.read_only[0].source / "reading_room.py").is_file()
