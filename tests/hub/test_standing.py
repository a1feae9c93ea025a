"""What the hub learns of restrictions, and what any spawner's start says."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from tornado.web import HTTPError

from mutirao.hub.standing import FREE, PATH, Standings, refuse_restricted

HELD = {"scope": "compute", "case": "M-2026-000007", "url": "/case/M-2026-000007", "words": {"en": "100% restricted", "pt-BR": "restrito"}}  # fmt: skip


@pytest.fixture
async def pages() -> Any:
    async def answer(request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "token right":
            return web.Response(status=404)
        body = {"compute": HELD if request.query["member"] == "ana & bia" else None, "gpu": None}
        return web.json_response(body)

    app = web.Application()
    app.router.add_get(f"/{PATH}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_who_is_restricted_starts_nothing_and_is_told_why(pages: str) -> None:
    hook = refuse_restricted(Standings(pages, "right"))
    with pytest.raises(HTTPError) as refused:
        await hook(SimpleNamespace(user=SimpleNamespace(name="ana & bia"), handler=None))

    assert refused.value.status_code == 403
    assert refused.value.jupyterhub_message == "100% restricted /case/M-2026-000007"  # type: ignore[attr-defined]


async def test_everybody_else_starts_and_the_hub_s_own_hook_is_called(pages: str) -> None:
    called: list[str] = []

    async def own(spawner: Any) -> None:
        called.append(spawner.user.name)

    spawner = SimpleNamespace(user=SimpleNamespace(name="eva"), handler=None)
    await refuse_restricted(Standings(pages, "right"), own)(spawner)
    await refuse_restricted(Standings(pages, "right"), lambda one: called.append(one.user.name))(spawner)

    assert called == ["eva", "eva"]


@pytest.mark.parametrize("token", ["wrong", ""])
async def test_a_hub_that_learns_nothing_lets_the_member_in(pages: str, token: str) -> None:
    """The gate still refuses their cells, and the warden looks again."""
    assert await Standings(pages, token).of("ana & bia") == FREE
    assert await Standings("http://127.0.0.1:9/", "right").of("ana & bia") == FREE
