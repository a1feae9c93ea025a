"""What else a runtime of the base environment answers: every websocket and every way to run code is known by name."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from mutirao.hub import environment

LIST = """
import json
from jupyter_server.serverapp import ServerApp
from tornado.routing import RuleRouter
from tornado.websocket import WebSocketHandler

app = ServerApp()
options = ["terminals_enabled=False", "allow_root=True", "port=0", "open_browser=False", "base_url=/user/ana/"]
app.initialize(argv=[f"--ServerApp.{option}" for option in options], new_httpserver=False)
found = set()

def walk(router):
    for rule in router.rules:
        if isinstance(rule.target, RuleRouter):
            walk(rule.target)
        elif isinstance(rule.target, type) and hasattr(rule.matcher, "regex"):
            kind = "websocket" if issubclass(rule.target, WebSocketHandler) else "http"
            found.add((rule.matcher.regex.pattern.rstrip("$"), kind))

walk(app.web_app.default_router)
walk(app.web_app.wildcard_router)
extensions = [name for name, one in app.extension_manager.extensions.items() if one.enabled]
print("RESULT" + json.dumps({"extensions": sorted(extensions), "routes": sorted(found)}))
"""

WEBSOCKETS = {
    r"/user/ana/api/kernels/(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)/channels": "the gate's",
    "/user/ana/api/events/subscribe": "only tells what happened",
    "/user/ana/lsp/ws/(?P<language_server>.*)": "talks to a language server; none is installed",
}
RUNS_CODE = ("terminals", "execute", "collaboration", "nbmodel", "proxy", "scheduler", "dask")
"""Words in the routes of extensions that could run code beside the gate."""
PAGES = {"/user/ana/terminals/(.*)"}
"""Notebook 7's page around a terminal; without the terminal's own websocket it stays empty."""


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    base = environment.find("base", Path("/nonexistent"))
    if not base.ready:
        pytest.skip("the base environment is not built: ./run test builds it")
    folder = str(tmp_path_factory.mktemp("routes"))
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "HOME")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | dict.fromkeys(names, folder)
    done = subprocess.run(
        [base.path / "bin" / "python", "-W", "ignore", "-c", LIST],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "RESULT" in done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout.split("RESULT")[1])


def test_the_servers_extensions_are_those_that_docs_why_gate_names(routes):
    assert routes["extensions"] == [
        "jupyter_lsp",
        "jupyter_server_terminals",
        "jupyterlab",
        "notebook",
        "notebook_shim",
    ]


def test_every_websocket_of_a_runtime_is_known(routes):
    assert {route for route, kind in routes["routes"] if kind == "websocket"} == set(WEBSOCKETS)


def test_no_route_runs_code_beside_the_gate(routes):
    """Terminals are off; nothing that executes on the server's side is installed."""
    beside = [
        route
        for route, _ in routes["routes"]
        if any(word in route.lower() for word in RUNS_CODE) and "/api/kernels" not in route and route not in PAGES
    ]
    assert beside == []
