"""Real clients through proxy and gate to a real kernel; the gate runs in a process of its own, the clients block.

JupyterLab and Notebook 7 are in tests/flows, in a browser.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import nbformat
import pytest
from jupyter_kernel_client.manager import KernelHttpManager
from jupyter_kernel_client.wsclient import JupyterSubprotocol, KernelWebSocketClient
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from mutirao.gate.route import route_for, twin_specs, twin_target
from tests.gate.house import SECRET, TOKEN, running_chp, running_jupyter
from tests.gate.worker import Worker, running_worker

PREFIX = "/user/ana/"
WIRES = [JupyterSubprotocol.DEFAULT, JupyterSubprotocol.V1]


@dataclass(frozen=True)
class Town:
    """Where clients go, and the gate on their way."""

    url: str
    worker: Worker

    def counter(self, name: str) -> int:
        with urllib.request.urlopen(f"{self.worker.url}/healthz", timeout=5) as answer:
            return int(json.load(answer)["counters"].get(name, 0))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("clients")
    with running_chp() as chp, running_jupyter(folder) as jupyter, running_worker(judge="marker") as worker:
        twin = twin_target(worker.url, route_for(PREFIX, jupyter, "ana", ""), SECRET)
        for spec, target in (*((spec, twin) for spec in twin_specs(PREFIX)), (PREFIX, jupyter)):
            request = urllib.request.Request(
                f"{chp.api_url}/api/routes{spec}",
                json.dumps({"target": target}).encode(),
                {"Authorization": f"token {chp.auth_token}"},
            )
            urllib.request.urlopen(request, timeout=5).close()
        yield Town(f"{chp.url}{PREFIX}".rstrip("/"), worker)


@contextmanager
def kernel(url: str, wire: JupyterSubprotocol) -> Iterator[tuple[KernelHttpManager, KernelWebSocketClient]]:
    """A kernel and a connected client, both gone afterwards."""
    manager = KernelHttpManager(server_url=url, token=TOKEN, client_kwargs={"subprotocol": wire})
    manager.start_kernel(name="python3")
    client = manager.client
    if wire is JupyterSubprotocol.V1:
        # Version 1.0.2 writes a log line with the message's "channel", which it has in the default format only.
        read = client.session.deserialize
        client.session.deserialize = lambda parts, **options: read(parts, **options) | {"channel": ""}
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name.lower())
def test_jupyter_kernel_client_runs_cells_and_meets_the_notice(town: Town, wire: JupyterSubprotocol) -> None:
    before = town.counter("verdicts_stop")
    with kernel(town.url, wire) as (_, client):
        outputs: list[dict[str, object]] = []

        def hook(message: dict[str, object]) -> None:
            outputs.append(message)

        assert client.execute_interactive("x = 6 * 7; x", output_hook=hook)["content"]["status"] == "ok"
        assert any(m["content"].get("data", {}).get("text/plain") == "42" for m in outputs)
        outputs.clear()
        reply = client.execute_interactive("x = 1  # please stop", output_hook=hook)
        assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "NotRun")
        shown = [m["content"]["data"]["text/plain"] for m in outputs if m["header"]["msg_type"] == "display_data"]
        assert "This cell starts a miner" in shown[0]
        outputs.clear()
        client.execute_interactive("x", output_hook=hook)
        assert any(m["content"].get("data", {}).get("text/plain") == "42" for m in outputs)
    assert town.counter("verdicts_stop") == before + 1


def run_notebook(town: Town, wire: JupyterSubprotocol, *codes: str) -> tuple[str, list[list[dict[str, Any]]]]:
    """The name of the error that nbclient ended with, "" for none, and each cell's outputs."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    with kernel(town.url, wire) as (manager, client):
        runner = NotebookClient(book, km=manager, timeout=60)
        runner.kc = client
        failed = ""
        try:
            for number, cell in enumerate(book.cells):
                runner.execute_cell(cell, number)
        except CellExecutionError as error:
            failed = error.ename
    return failed, [cell.outputs for cell in book.cells]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name.lower())
def test_nbclient_runs_a_notebook_and_stops_at_the_cell_that_may_not_run(town: Town, wire: JupyterSubprotocol) -> None:
    failed, outputs = run_notebook(town, wire, "x = 6 * 7", "print(x)")
    assert (failed, outputs[1][0]["text"]) == ("", "42\n")
    failed, outputs = run_notebook(town, wire, "x = 1", "x  # please stop", "print('never')")
    assert failed == "NotRun"
    assert [output["output_type"] for output in outputs[1]] == ["display_data", "error"]
    assert outputs[2] == []


def test_a_console_runs_lines_and_shows_the_notice_as_text(town: Town, tmp_path: Path) -> None:
    """jupyter-konsole is jupyter_console's shell over a websocket."""
    code = "from jupyter_kernel_client.konsoleapp import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", code, "--url", town.url, "--token", TOKEN]
    env = os.environ | {
        name: str(tmp_path) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "HOME")
    }
    done = subprocess.run(
        [*command, "--simple-prompt", "--no-confirm-exit"],
        input="6 * 7\nprint('now')  # please stop\nprint(2 ** 10)\nexit\n",
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "42" in done.stdout, done.stdout + done.stderr[-3000:]
    assert "This cell starts a miner" in done.stdout
    assert "\nnow" not in done.stdout
    assert "1024" in done.stdout


class ThroughTheGate(jupyter_kernel_test.KernelTests):
    """jupyter_kernel_test's own suite, with a client that reaches the kernel through proxy and gate."""

    __test__ = False
    wire = JupyterSubprotocol.DEFAULT
    kernel_name = "python3"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": {"zip"}}]  # noqa: RUF012 - as the suite has it
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]  # noqa: RUF012
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2"]  # noqa: RUF012
    invalid_code_samples = ["import = 7q"]  # noqa: RUF012
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result = [{"code": "1+2+3", "result": "6"}]  # noqa: RUF012
    code_display_data = [  # noqa: RUF012
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"}
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def setUpClass(cls) -> None:
        """The fixture does it."""

    @classmethod
    def tearDownClass(cls) -> None:
        """The fixture does it."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _kernel(cls, town: Town) -> Iterator[None]:
        with kernel(town.url, cls.wire) as (manager, client):
            cls.km, cls.kc = manager, client
            yield


class TestKernelSuiteDefault(ThroughTheGate):
    """In the default format."""

    __test__ = True


class TestKernelSuiteV1(ThroughTheGate):
    """In the v1 format."""

    __test__ = True
    wire = JupyterSubprotocol.V1
