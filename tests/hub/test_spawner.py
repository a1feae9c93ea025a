"""What a member may choose is checked before anything starts, wherever the choice comes from."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub import orm
from jupyterhub.spawner import SpawnException

from mutirao.config import Settings
from mutirao.errors import SandboxError
from mutirao.hub import spawner as module
from mutirao.hub.place import VARIABLE, Place
from mutirao.hub.spawner import SandboxSpawner, choices
from mutirao.sandbox.ask import Seat
from mutirao.sandbox.client import Client


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An instance whose environments are not built, as the hub's process knows it."""
    monkeypatch.setenv("MUTIRAO_HOME", str(tmp_path / "home"))
    found = Settings.model_validate({"service": {"data": str(tmp_path / "data")}})
    place = Place(found, hub_ip="10.137.0.1", hub_port=8081)
    monkeypatch.setenv(VARIABLE, place.dump()[VARIABLE])
    module._place.cache_clear()
    yield found
    module._place.cache_clear()


@pytest.fixture
def spawner(settings: Settings) -> SandboxSpawner:
    user = SimpleNamespace(name="ana", url="/user/ana/", settings={}, escaped_name="ana")
    return SandboxSpawner(user=user, orm_spawner=orm.Spawner(name=""))


def chosen(spawner: SandboxSpawner, options: dict[str, Any]) -> tuple[str, str]:
    asyncio.run(spawner.apply_user_options(spawner, options))
    return spawner._chosen(options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("base", "small")),
        ({"size": "large"}, ("base", "large")),
        ({"environment": "ml"}, ("ml", "small")),
        ({"environment": "", "size": None}, ("base", "small")),
    ],
)
def test_what_is_left_out_is_the_first_that_is_offered(
    spawner: SandboxSpawner, options: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert chosen(spawner, options) == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "huge"}, "size 'huge' is not offered: choose small, medium, large"),
        ({"environment": "../x"}, "environment '../x' is not offered: choose base, ml"),
        ({"environment": "BASE"}, "environment 'BASE' is not offered"),
        ({"size": ["small"]}, r"size \['small'\] is not offered"),
        ({"size": {"memory_mb": 1}}, "is not offered"),
        ({"size": 7}, "size 7 is not offered"),
        ({"memory_mb": 1, "cmd": "x"}, "cmd, memory_mb: only environment and size can be chosen"),
        ({1: 2}, "1: only environment and size"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(
    spawner: SandboxSpawner, options: dict[Any, Any], said: str
) -> None:
    with pytest.raises(SpawnException, match=said) as refused:
        chosen(spawner, options)

    assert refused.value.status_code == 400


@pytest.mark.parametrize("options", [{"size": "x" * 10_000}, {"x" * 10_000: 1}, {"size": ["small"] * 9999}])
def test_a_refusal_does_not_repeat_everything_it_was_sent(spawner: SandboxSpawner, options: dict[str, Any]) -> None:
    with pytest.raises(SpawnException) as refused:
        chosen(spawner, options)

    assert len(str(refused.value)) < 300


def test_an_environment_that_is_not_built_is_refused_with_the_command(spawner: SandboxSpawner) -> None:
    spawner.user_options = {"environment": "ml"}
    with pytest.raises(SpawnException, match="env build ml") as refused:
        asyncio.run(spawner.start())

    assert refused.value.status_code == 503


def test_the_page_offers_what_the_configuration_does_and_tells_what_is_built(settings: Settings) -> None:
    environments, sizes = choices(settings)

    assert [(entry.name, entry.ready) for entry in environments] == [("base", False), ("ml", False)]
    assert [size.name for size in sizes] == ["small", "medium", "large"]


def test_an_environment_that_went_away_is_shown_as_not_built(tmp_path: Path) -> None:
    found = Settings.model_validate(
        {"service": {"data": str(tmp_path)}, "environments": {"gone": {"title": {"en": "Gone"}}}}
    )

    assert [entry.ready for entry in choices(found)[0]] == [False]


def test_the_pages_form_is_checked_too(spawner: SandboxSpawner) -> None:
    with pytest.raises(SandboxError, match="not offered"):
        spawner.options_from_form({"environment": ["absent"], "size": ["small"]})


SEAT = Seat("0a1b2c3d", "10.137.0.2", 8888)
FIRST_VERSION = json.dumps({"walls": {"id": "0a1b2c3d", "address": "10.137.0.2", "port": 8888, "uid": 7}, "pid": 7})


def test_a_runtime_survives_in_the_state_that_the_hub_keeps(spawner: SandboxSpawner) -> None:
    spawner.running = SEAT
    state = json.loads(json.dumps(spawner.get_state()))
    other = SandboxSpawner(user=spawner.user, orm_spawner=orm.Spawner(name=""))
    other.load_state(state)

    assert other.running == SEAT
    other.clear_state()
    assert other.running is None
    assert "running" not in other.get_state()


def test_a_runtime_of_the_first_version_is_found_again(spawner: SandboxSpawner) -> None:
    spawner.load_state({"running": FIRST_VERSION})

    assert spawner.running == SEAT


@pytest.mark.parametrize("state", [None, "", "{", "[]", {}, {"id": "a"}, '{"walls": {}}', {"id": 1, "address": 2, "port": "x"}])  # fmt: skip
def test_a_state_that_is_none_keeps_no_hub_down(spawner: SandboxSpawner, state: Any) -> None:
    spawner.load_state({"running": state})

    assert spawner.running is None


async def test_a_broker_that_is_away_does_not_end_a_runtime(
    spawner: SandboxSpawner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hub takes an error for the end of the server, and would forget it."""
    monkeypatch.setattr(module, "_broker", lambda: Client(tmp_path / "absent", patience_s=0.1))
    monkeypatch.setattr(module._Told, "done", True)
    spawner.running = SEAT

    assert await spawner.poll() is None
    assert spawner.running == SEAT


async def test_a_spawner_without_a_runtime_says_so_and_stops_quietly(spawner: SandboxSpawner) -> None:
    assert await spawner.poll() == 0
    await spawner.stop()
    await spawner.stop(now=True)
