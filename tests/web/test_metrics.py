"""Metrics and health: who may read them, that they tell the truth, and that the dashboard asks for what there is."""

import json
import re
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families

from mutirao.cases.action import Action
from mutirao.cases.cell import Cell, Verdict
from mutirao.errors import StoreError
from mutirao.gate.measure import JUDGING, ROUND_TRIP, Measured, exposition, observe
from mutirao.policy.category import Category
from mutirao.web.app import PREFIX
from mutirao.web.metrics import Watch
from tests.web import twin

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "mutirao.json"
PATH = f"{PREFIX}metrics"


def read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample by name and labels; raises where Prometheus would refuse the text."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def from_afar(house: twin.House) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(house.app, client=("10.0.0.9", 1))
    return httpx.AsyncClient(transport=transport, base_url=twin.ORIGIN)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Authorization": "Bearer scrape"}, 200),
        ({"Authorization": "Bearer scrape-not"}, 403),
        ({"Authorization": "Bearer é".encode("latin-1").decode("latin-1")}, 403),
        ({"Authorization": "token operator-token"}, 200),
        ({"Authorization": "token ana-token"}, 403),
    ],
)
async def test_only_the_token_and_operators_read_from_afar(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    with twin.house(tmp_path, watch=Watch(token="scrape")) as house:
        async with from_afar(house) as client:
            encoded = {key: value.encode("latin-1") for key, value in headers.items()}
            assert (await client.get(PATH, headers=encoded)).status_code == status  # type: ignore[arg-type]


async def test_an_empty_token_opens_nothing(tmp_path: Path) -> None:
    with twin.house(tmp_path) as house:
        async with from_afar(house) as client:
            assert (await client.get(PATH, headers={"Authorization": "Bearer "})).status_code == 403


@pytest.mark.parametrize(("headers", "status"), [({}, 200), ({"X-Forwarded-For": "203.0.113.1"}, 403)])
async def test_this_machine_reads_freely_but_not_what_comes_by_the_proxy(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    with twin.house(tmp_path) as house:
        transport = httpx.ASGITransport(house.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=twin.ORIGIN) as client:
            assert (await client.get(PATH, headers=headers)).status_code == status


async def test_the_totals_are_those_of_the_store_and_name_nobody(tmp_path: Path) -> None:
    with twin.house(tmp_path) as house:
        await house.case()
        await house.judge(twin.finding(Category.MINING))
        house.hub.servers = {"ana": (twin.Runtime("", "/user/ana/", True, None, "base", "small"),)}
        async with house.browser("olga") as operator:
            answer = await operator.get(PATH)
    found = read(answer.text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert found["mutirao_decisions_total"] == {
        (("action", "hold"), ("category", "remote-access")): 1,
        (("action", "stop"), ("category", "mining")): 1,
    }
    assert found["mutirao_notices_written_total"] == {(): 2}
    assert found["mutirao_runtimes"] == {(): 1}
    assert found["mutirao_up"] == {(("part", "store"),): 1, (("part", "hub"),): 1}
    assert "ana" not in answer.text


async def test_what_is_down_is_said_and_the_rest_still_told(tmp_path: Path) -> None:
    watch = Watch(gate_urls=("http://127.0.0.1:1",))
    with twin.house(tmp_path, watch=watch) as house:
        house.hub.away = True
        transport = httpx.ASGITransport(house.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=twin.ORIGIN) as client:
            found = read((await client.get(PATH)).text)
            health = await client.get(f"{PREFIX}healthz")
    assert found["mutirao_up"] == {(("part", "store"),): 1, (("part", "hub"),): 0, (("part", "gate"),): 0}
    assert "mutirao_cases_total" not in found or found["mutirao_cases_total"] == {}
    assert (health.status_code, health.json()) == (
        503,
        {"status": "degraded", "store": "ok", "hub": "does not answer"},
    )


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (None, {"mutirao_audit_head_failed": 1}),
        ({"number": 1}, {"mutirao_audit_head_failed": 1}),
        ({"number": 99, "error": ""}, {"mutirao_audit_head_failed": 0, "mutirao_audit_head_age_seconds": 0}),
        ({"number": 1, "error": ""}, {"mutirao_audit_head_failed": 0, "mutirao_audit_head_age_seconds": 3600}),
        ({"number": 1, "error": "disk"}, {"mutirao_audit_head_failed": 1, "mutirao_audit_head_age_seconds": 3600}),
    ],
)
async def test_the_head_of_the_audit_is_watched(
    tmp_path: Path, state: dict[str, object] | None, wanted: dict[str, float]
) -> None:
    file = tmp_path / "state.json"
    if state is not None:
        signed = {"signed_at": (twin.START - timedelta(hours=1)).isoformat()} if "error" in state else {}
        file.write_text(json.dumps(state | signed))
    with twin.house(tmp_path, watch=Watch(state_file=file)) as house:
        async with house.browser("olga") as operator:
            found = read((await operator.get(PATH)).text)
    assert {name: found[name][()] for name in wanted} == wanted


class Judge:
    def __init__(self, answer: Verdict | Exception) -> None:
        self.answer = answer

    async def judge(self, cell: Cell) -> Verdict:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


CELL = Cell("x", "ana", "ana", "", "k")


async def test_the_gate_counts_verdicts_times_and_failures(tmp_path: Path) -> None:
    counters: Counter[str] = Counter()
    with twin.house(tmp_path) as house:
        stop = await house.judge(twin.finding(Category.MINING))
    await Measured(Judge(stop), counters).judge(CELL)
    await Measured(Judge(Verdict(Action.ALLOW)), counters).judge(CELL)
    for error in (StoreError("x"), RuntimeError("x")):
        with pytest.raises(type(error)):
            await Measured(Judge(error), counters).judge(CELL)

    found = read(exposition(counters).decode())
    assert found["mutirao_gate_verdicts_total"] == {
        (("action", "stop"), ("category", "mining")): 1,
        (("action", "allow"), ("category", "")): 1,
    }
    assert found["mutirao_gate_not_judged_total"] == {(): 2}
    assert found["mutirao_gate_store_errors_total"] == {(): 1}
    assert found["mutirao_gate_judging_seconds_count"] == {(): 2}


@pytest.mark.parametrize("seconds", [0, 0.001, 0.0011, 59, 1000])
def test_a_histogram_is_cumulative_and_adds_up_over_gates(seconds: float) -> None:
    one: Counter[str] = Counter()
    observe(one, ROUND_TRIP, seconds)
    found = read(exposition(one + one).decode())

    buckets = [
        value
        for _, value in sorted(
            found["mutirao_gate_round_trip_seconds_bucket"].items(), key=lambda item: float(dict(item[0])["le"])
        )
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["mutirao_gate_round_trip_seconds_count"][()] == 2
    assert found["mutirao_gate_round_trip_seconds_sum"][()] == pytest.approx(2 * seconds)


async def test_every_panel_of_the_dashboard_asks_for_a_metric_that_is_exported(tmp_path: Path) -> None:
    counters: Counter[str] = Counter()
    for name in (JUDGING, ROUND_TRIP):
        observe(counters, name, 0.1)
    counters["verdict:stop:mining"] += 1
    app = web.Application()

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=exposition(counters))

    app.router.add_get("/metrics", metrics)
    gate = TestServer(app)
    await gate.start_server()
    file = tmp_path / "state.json"
    file.write_text(json.dumps({"number": 1, "signed_at": twin.START.isoformat(), "error": ""}))
    with twin.house(tmp_path, watch=Watch(gate_urls=(str(gate.make_url("")).rstrip("/"),), state_file=file)) as house:
        await house.case()
        async with house.browser("olga") as operator:
            exported = set(read((await operator.get(PATH)).text))
    await gate.close()

    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 15
    missing = {name for expr in asked for name in re.findall(r"mutirao_\w+", expr)} - exported
    assert missing == set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


async def test_the_gates_workers_add_up_to_one_gate(tmp_path: Path) -> None:
    servers = []
    for count in (2, 3):
        app = web.Application()
        body = exposition(Counter({"verdict:stop:mining": count, "connections_open": count}))
        app.router.add_get("/metrics", partial(_answer, body))
        servers.append(TestServer(app))
        await servers[-1].start_server()
    urls = tuple(str(server.make_url("")).rstrip("/") for server in servers)
    with twin.house(tmp_path, watch=Watch(gate_urls=urls)) as house:
        async with house.browser("olga") as operator:
            text = (await operator.get(PATH)).text
    for server in servers:
        await server.close()
    verdicts = [line for line in text.splitlines() if line.startswith("mutirao_gate_verdicts_total{")]
    assert [line.rpartition(" ")[2] for line in verdicts] == ["5.0"]
    assert text.count("# TYPE mutirao_gate_verdicts_total") == 1


async def _answer(body: bytes, _request: web.Request) -> web.Response:
    return web.Response(body=body)
